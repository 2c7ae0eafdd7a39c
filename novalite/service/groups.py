"""What may be done with groups of servers."""

from __future__ import annotations

import uuid

from novalite.config import Settings
from novalite.db import Database
from novalite.errors import InvalidInput, NotFound
from novalite.groupings import GroupPolicy, ServerGroup
from novalite.model import Caller
from novalite.policy import Policy
from novalite.service.checks import check_name

RULES = "os_compute_api:os-server-groups:"


class ServerGroups:
    """The use cases of server groups; thread-safe."""

    def __init__(self, settings: Settings, database: Database, policy: Policy) -> None:
        self._groups = database.groups
        self._quota = settings.quota.server_groups
        self._policy = policy

    def list(
        self, caller: Caller, *, all_projects: bool = False, limit: int = 1000, offset: int = 0
    ) -> tuple[ServerGroup, ...]:
        """Return the groups of the caller's project, or of all where that is let to the caller.

        Who asks for all without being let to gets the own, but for an
        administrator, who is told so. Raises Forbidden or InvalidInput.
        """
        self._policy.check(caller, f"{RULES}index")
        if limit < 0 or offset < 0:
            raise InvalidInput(f"limit and offset must not be negative: {limit}, {offset}")
        everybodys = all_projects and self._policy.allows(caller, f"{RULES}index:all_projects")
        if all_projects and self._policy.is_admin(caller):
            self._policy.check(caller, f"{RULES}index:all_projects")
        project = None if everybodys else caller.project or ""
        return self._groups.list(project=project, limit=limit, offset=offset)

    def show(self, caller: Caller, group_id: str) -> ServerGroup:
        """Return a group of the caller's project; raise NotFound or Forbidden."""
        return self._find(caller, group_id, "show")

    def create(
        self, caller: Caller, name: str, policy: GroupPolicy, *, max_per_host: int | None = None
    ) -> ServerGroup:
        """Make a group without members; raise Forbidden, InvalidInput or QuotaExceeded."""
        self._policy.check(caller, f"{RULES}create")
        check_name("name", name)
        if max_per_host is not None and policy is not GroupPolicy.ANTI_AFFINITY:
            raise InvalidInput("Only anti-affinity policy supports rules.")
        group = ServerGroup(
            str(uuid.uuid4()), name, policy, caller.project or "", caller.user or "", max_per_host
        )
        self._groups.insert(group, quota=self._quota)
        return group

    def delete(self, caller: Caller, group_id: str) -> None:
        """Remove a group; its servers stay as they are. Raises NotFound or Forbidden."""
        self._find(caller, group_id, "delete")
        self._groups.delete(group_id)

    def _find(self, caller: Caller, group_id: str, rule: str) -> ServerGroup:
        """Return a group that a rule lets the caller do something to; of others' nobody is told."""
        found = self._groups.get(group_id)
        if found.project != (caller.project or "") and not self._policy.is_admin(caller):
            raise NotFound(f"Instance group {group_id} could not be found.")
        self._policy.check(caller, f"{RULES}{rule}", found)
        return found
