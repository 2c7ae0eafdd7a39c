"""What is told about servers afterwards: how long they ran, and what moved. Pure values."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Migration:
    """A server's way to another size or host, as it went so far.

    ``migration_type`` is resize, migration, live-migration or evacuation;
    ``status`` is one of Nova's: pre-migrating, preparing, migrating, running,
    post-migrating, finished, confirmed, reverted, done, completed, cancelled,
    failed or error.
    """

    id: int
    uuid: str
    server_id: str
    source_host: str
    dest_host: str
    status: str
    migration_type: str
    old_flavor_id: str
    new_flavor_id: str
    user_id: str | None
    project_id: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class MigrationQuery:
    """Which migrations, newest first; None doesn't filter, ``marker`` is a uuid.

    ``host`` is where they come from or go to.
    """

    id: int | None = None
    server_id: str | None = None
    status: str | None = None
    migration_type: str | None = None
    host: str | None = None
    source_host: str | None = None
    project_id: str | None = None
    user_id: str | None = None
    changes_since: datetime | None = None
    changes_before: datetime | None = None
    limit: int | None = None
    marker: str | None = None
