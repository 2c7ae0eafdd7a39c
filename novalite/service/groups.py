"""What may be done with groups of servers."""

from __future__ import annotations

import uuid

from novalite.config import Settings
from novalite.db import Database
from novalite.errors import InvalidInput, NotFound
from novalite.groupings import GroupPolicy, ServerGroup
from novalite.model import Caller
from novalite.service.checks import check_name


class ServerGroups:
    """The use cases of server groups; thread-safe."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._groups = database.groups
        self._quota = settings.quota.server_groups

    def list(
        self, caller: Caller, *, all_projects: bool = False, limit: int = 1000, offset: int = 0
    ) -> tuple[ServerGroup, ...]:
        """Return the groups of the caller's project, or for administrators of all."""
        if limit < 0 or offset < 0:
            raise InvalidInput(f"limit and offset must not be negative: {limit}, {offset}")
        project = None if all_projects and caller.admin else caller.project or ""
        return self._groups.list(project=project, limit=limit, offset=offset)

    def show(self, caller: Caller, group_id: str) -> ServerGroup:
        """Return a group of the caller's project; raise NotFound."""
        found = self._groups.get(group_id)
        if not caller.admin and found.project != (caller.project or ""):
            raise NotFound(f"Instance group {group_id} could not be found.")
        return found

    def create(
        self, caller: Caller, name: str, policy: GroupPolicy, *, max_per_host: int | None = None
    ) -> ServerGroup:
        """Make a group without members; raise InvalidInput or QuotaExceeded."""
        check_name("name", name)
        if max_per_host is not None and policy is not GroupPolicy.ANTI_AFFINITY:
            raise InvalidInput("Only anti-affinity policy supports rules.")
        group = ServerGroup(
            str(uuid.uuid4()), name, policy, caller.project or "", caller.user or "", max_per_host
        )
        self._groups.insert(group, quota=self._quota)
        return group

    def delete(self, caller: Caller, group_id: str) -> None:
        """Remove a group; its servers stay as they are. Raises NotFound."""
        self.show(caller, group_id)
        self._groups.delete(group_id)
