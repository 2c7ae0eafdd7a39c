"""Sets of hosts and sets of servers, and what they ask of a placement. Pure values."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A set of hosts. With a ``zone`` it makes that the zone of its hosts.

    ``id`` is given by the database, and is 0 until then.
    """

    name: str
    zone: str | None = None
    id: int = 0
    uuid: str = ""
    hosts: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime = field(default_factory=_now)
    updated_at: datetime | None = None


class GroupPolicy(enum.StrEnum):
    """What a group of servers wants; the soft ones only prefer it."""

    AFFINITY = "affinity"
    ANTI_AFFINITY = "anti-affinity"
    SOFT_AFFINITY = "soft-affinity"
    SOFT_ANTI_AFFINITY = "soft-anti-affinity"


@dataclass(frozen=True, slots=True)
class ServerGroup:
    """A group of servers of one project; ``members`` are the ids of those that aren't deleted.

    ``max_per_host`` is of anti-affinity alone: how many members a host may have, 1 where it isn't said.
    """

    id: str
    name: str
    policy: GroupPolicy
    project: str
    user: str
    max_per_host: int | None = None
    members: tuple[str, ...] = ()
    created_at: datetime = field(default_factory=_now)


@dataclass(frozen=True, slots=True)
class GroupPlaces:
    """Where the other members of a server's group are: host name -> how many."""

    policy: GroupPolicy
    placed: Mapping[str, int] = field(default_factory=dict)
    max_per_host: int = 1

    def refuses(self, host: str) -> str | None:
        """Say why the group's next member can't be on a host, None where it can."""
        here = self.placed.get(host, 0)
        if self.policy is GroupPolicy.AFFINITY and self.placed and not here:
            return f"isn't where the server's group is: {', '.join(sorted(self.placed))}"
        if self.policy is GroupPolicy.ANTI_AFFINITY and here >= self.max_per_host:
            return f"has {here} of the server's group, which wants at most {self.max_per_host} on a host"
        return None

    def prefers(self, host: str) -> float:
        """Tell how many members speak for a host, or against it."""
        here = float(self.placed.get(host, 0))
        signs = {GroupPolicy.SOFT_AFFINITY: 1.0, GroupPolicy.SOFT_ANTI_AFFINITY: -1.0}
        return signs.get(self.policy, 0.0) * here
