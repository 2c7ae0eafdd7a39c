"""What was ordered of servers, and how it went."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Order:
    """Who asked for something to be done to a server, in which request."""

    action: str  # its name in the Compute API's list of instance actions
    request_id: str
    user: str | None
    project: str | None


@dataclass(frozen=True, slots=True)
class ActionEvent:
    """One step of an action. ``result`` is "Success" or "Error", None meanwhile."""

    event: str
    host: str | None
    started_at: datetime
    finished_at: datetime | None = None
    result: str | None = None
    details: str | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """What was ordered of a server, and how it went; ``message`` is "Error" or None."""

    server_id: str
    action: str
    request_id: str
    user: str | None
    project: str | None
    started_at: datetime
    updated_at: datetime
    message: str | None = None
    events: tuple[ActionEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class ActionQuery:
    """Which actions of a server to list, newest first; ``marker`` is a request id."""

    changes_since: datetime | None = None
    changes_before: datetime | None = None
    limit: int = 1000
    marker: str | None = None
