"""What is told about servers afterwards: how long they ran, and what moved. Pure values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ServerUsage:
    """A server that ran for some of a period. Memory in MiB, disk in GiB.

    ``ended_at`` is None while it isn't deleted.
    """

    id: str
    name: str
    project: str
    flavor: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    vm_state: str
    started_at: datetime
    ended_at: datetime | None

    def hours(self, start: datetime, stop: datetime) -> float:
        """Return how much of a period it was there."""
        until = stop if self.ended_at is None else min(stop, self.ended_at)
        return max(0.0, (until - max(start, self.started_at)).total_seconds() / 3600)


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Whose servers of which period; ``marker`` is a server's id, no ``limit`` is all."""

    start: datetime
    stop: datetime
    project: str | None = None
    limit: int | None = None
    marker: str | None = None


class MigrationStatus(enum.StrEnum):
    """How far a migration is; the last three are for good."""

    PREPARING = "pre-migrating"
    MIGRATING = "migrating"
    FINISHED = "finished"
    CONFIRMED = "confirmed"
    REVERTED = "reverted"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Migration:
    """An order to give a server another size; ``source`` and ``target`` are hosts."""

    id: int
    uuid: str
    server_id: str
    kind: str
    status: str
    source: str | None
    target: str | None
    old_flavor: str
    new_flavor: str
    project: str
    user: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class MigrationQuery:
    """Which migrations, newest first; None doesn't filter, ``marker`` is a uuid.

    ``host`` is where they come from or go to.
    """

    server_id: str | None = None
    status: str | None = None
    kind: str | None = None
    host: str | None = None
    source: str | None = None
    project: str | None = None
    user: str | None = None
    changes_since: datetime | None = None
    changes_before: datetime | None = None
    limit: int | None = None
    marker: str | None = None
