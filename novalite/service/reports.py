"""What may be asked about what projects used, and what was moved."""

from __future__ import annotations

from dataclasses import replace

from novalite.db import Database
from novalite.errors import InvalidInput
from novalite.model import Caller, Page, utcnow
from novalite.policy import Policy
from novalite.reports import Migration, MigrationQuery, ServerUsage, UsageQuery

USAGE = "os_compute_api:os-simple-tenant-usage:"
MIGRATIONS = "os_compute_api:os-migrations:index"


class Reports:
    """The use cases of reports; thread-safe."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database = database
        self._policy = policy

    def usage(self, caller: Caller, query: UsageQuery) -> tuple[UsageQuery, tuple[ServerUsage, ...]]:
        """Return the period, which doesn't go beyond now, and the servers that ran in it.

        Raises Forbidden or InvalidInput.
        """
        if query.project is None:
            self._policy.check(caller, f"{USAGE}list")
        else:
            self._policy.check(caller, f"{USAGE}show", {"project_id": query.project})
        if not query.start < query.stop:
            raise InvalidInput("Invalid start time. The start time cannot occur after the end time.")
        query = replace(query, stop=min(query.stop, utcnow()))
        return query, self._database.usage.list(query)

    def migrations(self, caller: Caller, query: MigrationQuery) -> Page[Migration]:
        """Return a page of migrations, newest first, of one project or all.

        Raises Forbidden, also where no project is named and those of others
        aren't let to the caller, or InvalidInput.
        """
        self._policy.check(caller, MIGRATIONS)
        if query.project_id is None or query.project_id != caller.project:
            self._policy.check(caller, f"{MIGRATIONS}:all_projects")
        return self._database.migrations.list(query)

    def tells_hosts(self, caller: Caller) -> bool:
        """Tell whether migrations are shown to the caller with their hosts."""
        return self._policy.allows(caller, f"{MIGRATIONS}:host")
