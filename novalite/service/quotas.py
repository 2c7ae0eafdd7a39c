"""What projects may use: as configured, as set for all, as set for one."""

from __future__ import annotations

from collections.abc import Mapping

from novalite.config import Settings
from novalite.db import Database
from novalite.db.quotas import EVERYBODY
from novalite.errors import InvalidInput, QuotaExceeded
from novalite.model import Caller
from novalite.policy import NOBODYS, Policy

#: What there is nothing of here; clients set and see it all the same.
ABSENT = (
    *("fixed_ips", "floating_ips", "security_groups", "security_group_rules"),
    *("injected_files", "injected_file_content_bytes", "injected_file_path_bytes"),
)
RULES = "os_compute_api:os-quota-sets:"
CLASSES = "os_compute_api:os-quota-class-sets:"
_MOST = 0x7FFFFFFF


class Quotas:
    """The use cases of quotas; thread-safe. -1 is unlimited."""

    def __init__(self, settings: Settings, database: Database, policy: Policy) -> None:
        quota = settings.quota
        self._database = database
        self._policy = policy
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

    def defaults(self, caller: Caller, project: str) -> dict[str, int]:
        """Return what a project may use that has nothing of its own; raise Forbidden."""
        self._policy.check(caller, f"{RULES}defaults", {"project_id": project})
        return self._defaults()

    def of_class(self, caller: Caller) -> dict[str, int]:
        """Return what is set for all projects; raise Forbidden."""
        self._policy.check(caller, f"{CLASSES}show", NOBODYS)
        return self._defaults()

    def show(self, caller: Caller, project: str) -> dict[str, int]:
        """Return what a project may use; raise Forbidden."""
        self._policy.check(caller, f"{RULES}show", {"project_id": project})
        return self.of(project)

    def of(self, project: str) -> dict[str, int]:
        """Return what a project may use, of everything."""
        return {**self._configured, **self._database.quotas.of(project)}

    def check_metadata(self, project: str, metadata: Mapping[str, str]) -> None:
        """Raise QuotaExceeded when these are more items than a server of the project may have."""
        allowed = self.of(project)["metadata_items"]
        if 0 <= allowed < len(metadata):
            raise QuotaExceeded(f"Maximum number of metadata items exceeds {allowed}")

    def detail(self, caller: Caller, project: str) -> tuple[dict[str, int], dict[str, int]]:
        """Return what a project may use and what it uses, of everything; raise Forbidden."""
        self._policy.check(caller, f"{RULES}detail", {"project_id": project})
        return self.of(project), self._used(project)

    def _used(self, project: str) -> dict[str, int]:
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
        self._policy.check(caller, f"{RULES}update", {"project_id": project})
        self._check(limits)
        used = self._used(project)
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
        self._policy.check(caller, f"{CLASSES}update", NOBODYS)
        self._check(limits)
        self._database.quotas.set(EVERYBODY, limits)
        return self._defaults()

    def clear(self, caller: Caller, project: str) -> None:
        """Forget what was set for a project; raise Forbidden."""
        self._policy.check(caller, f"{RULES}delete", {"project_id": project})
        self._database.quotas.clear(project)

    def _defaults(self) -> dict[str, int]:
        return {**self._configured, **self._database.quotas.of(EVERYBODY)}

    def _check(self, limits: Mapping[str, int]) -> None:
        for name, limit in limits.items():
            if name not in self._configured:
                raise InvalidInput(f"Bad key(s) {name} in quota set")
            if not -1 <= limit <= _MOST:
                raise InvalidInput(f"Quota limit {limit} for {name} must be -1 or greater.")
