"""Which servers to list, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from novalite.model.states import Status

SERVER_SORT_FIELDS = frozenset(
    {"created_at", "updated_at", "name", "id", "vm_state", "task_state", "host", "project", "user", "zone"}
    | {"config_drive", "description", "image_id", "key_name", "launch_index", "launched_at", "power_state"}
    | {"terminated_at", "flavor_id", "locked_by", "hostname"}
)


@dataclass(frozen=True, slots=True)
class SortKey:
    field: str
    descending: bool = True


@dataclass(frozen=True, slots=True)
class ServerQuery:
    """What servers to list.

    ``name``, ``hostname`` and ``description`` are substrings or regular expressions (see
    ``db.patterns``), compared without case.
    ``tags`` are all to be there, one of ``tags_any``, not all of ``not_tags``
    and none of ``not_tags_any``. ``all_projects`` and ``host`` are for admins.
    Deleted servers are shown with ``deleted`` or with ``changes_since`` only.
    None means: don't filter by this.
    """

    name: str | None = None
    statuses: frozenset[Status] | None = None
    project: str | None = None
    user: str | None = None
    host: str | None = None
    zone: str | None = None
    image_id: str | None = None
    flavor_id: str | None = None
    key_name: str | None = None
    reservation_id: str | None = None
    id: str | None = None
    description: str | None = None
    vm_state: str | None = None
    task_state: str | None = None
    power_states: tuple[str | None, ...] | None = None
    config_drive: bool | None = None
    launch_index: int | None = None
    locked: bool | None = None
    hostname: str | None = None
    created_since: datetime | None = None
    launched_since: datetime | None = None
    terminated_since: datetime | None = None
    tags: frozenset[str] = frozenset()
    tags_any: frozenset[str] = frozenset()
    not_tags: frozenset[str] = frozenset()
    not_tags_any: frozenset[str] = frozenset()
    changes_since: datetime | None = None
    changes_before: datetime | None = None
    deleted: bool = False
    all_projects: bool = False
    sort: tuple[SortKey, ...] = (SortKey("created_at"),)
    limit: int = 1000
    marker: str | None = None
