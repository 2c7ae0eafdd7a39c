"""What projects may use: as configured, as set for all, as set for one."""

from __future__ import annotations

from collections.abc import Mapping

from novalite.config import Settings
from novalite.db import Database
from novalite.db.quotas import EVERYBODY
from novalite.errors import Forbidden, InvalidInput
from novalite.model import Caller
from novalite.service.checks import demand_admin

#: What there is nothing of here; clients set and see it all the same.
ABSENT = (
    *("fixed_ips", "floating_ips", "security_groups", "security_group_rules"),
    *("injected_files", "injected_file_content_bytes", "injected_file_path_bytes"),
)
_MOST = 0x7FFFFFFF


class Quotas:
    """The use cases of quotas; thread-safe. -1 is unlimited."""

    def __init__(self, settings: Settings, database: Database) -> None:
        quota = settings.quota
        self._database = database
        self._configured = {
            "instances": quota.instances,
            "cores": quota.cores,
            "ram": quota.ram,
            "key_pairs": quota.key_pairs,
            "metadata_items": quota.metadata_items,
            "server_groups": quota.server_groups,
            "server_group_members": quota.server_group_members,
            **dict.fromkeys(ABSENT, -1),
        }

    def defaults(self) -> dict[str, int]:
        """Return what a project may use that has nothing of its own."""
        return {**self._configured, **self._database.quotas.of(EVERYBODY)}

    def show(self, caller: Caller, project: str) -> dict[str, int]:
        """Return what a project may use; others' for administrators. Raises Forbidden."""
        if project != caller.project and not caller.admin:
            raise Forbidden("Policy doesn't allow os_compute_api:os-quota-sets:show to be performed.")
        return self.of(project)

    def of(self, project: str) -> dict[str, int]:
        """Return what a project may use, of everything."""
        return {**self._configured, **self._database.quotas.of(project)}

    def used(self, caller: Caller, project: str) -> dict[str, int]:
        """Return what a project uses, of everything; raise Forbidden."""
        self.show(caller, project)
        used = self._database.servers.usage(project)
        counted = {"instances": used.instances, "cores": used.cores, "ram": used.ram}
        counted["server_groups"] = self._database.groups.count(project)
        return {name: counted.get(name, 0) for name in self._configured}

    def set(
        self, caller: Caller, project: str, limits: Mapping[str, int], *, force: bool = False
    ) -> dict[str, int]:
        """Set some of a project's quotas; below what it uses by ``force`` alone.

        Raises Forbidden or InvalidInput.
        """
        demand_admin(caller, "set quotas")
        self._check(limits)
        used = self.used(caller, project)
        for name, limit in limits.items():
            if not force and 0 <= limit < used[name]:
                raise InvalidInput(
                    f"Quota limit {limit} for {name} must be greater than or equal to already used and "
                    f"reserved {used[name]}."
                )
        self._database.quotas.set(project, limits)
        return self.of(project)

    def set_defaults(self, caller: Caller, limits: Mapping[str, int]) -> dict[str, int]:
        """Set some of the quotas of all projects that have none of their own."""
        demand_admin(caller, "set quotas")
        self._check(limits)
        self._database.quotas.set(EVERYBODY, limits)
        return self.defaults()

    def clear(self, caller: Caller, project: str) -> None:
        """Forget what was set for a project; raise Forbidden."""
        demand_admin(caller, "delete quotas")
        self._database.quotas.clear(project)

    def _check(self, limits: Mapping[str, int]) -> None:
        for name, limit in limits.items():
            if name not in self._configured:
                raise InvalidInput(f"Bad key(s) {name} in quota set")
            if not -1 <= limit <= _MOST:
                raise InvalidInput(f"Quota limit {limit} for {name} must be -1 or greater.")
