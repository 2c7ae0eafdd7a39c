"""What may be asked about what projects used, and what was moved."""

from __future__ import annotations

from dataclasses import replace

from novalite.db import Database
from novalite.errors import InvalidInput
from novalite.model import Caller, Page, utcnow
from novalite.reports import Migration, MigrationQuery, ServerUsage, UsageQuery
from novalite.service.orders import demand_admin_for


class Reports:
    """The use cases of reports; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def usage(self, caller: Caller, query: UsageQuery) -> tuple[UsageQuery, tuple[ServerUsage, ...]]:
        """Return the period, which doesn't go beyond now, and the servers that ran in it.

        A project's own, or others' and all for administrators. Raises
        Forbidden or InvalidInput.
        """
        if query.project is None:
            demand_admin_for(caller, "os_compute_api:os-simple-tenant-usage:list")
        elif query.project != caller.project:
            demand_admin_for(caller, "os_compute_api:os-simple-tenant-usage:show")
        if not query.start < query.stop:
            raise InvalidInput("Invalid start time. The start time cannot occur after the end time.")
        query = replace(query, stop=min(query.stop, utcnow()))
        return query, self._database.usage.list(query)

    def migrations(self, caller: Caller, query: MigrationQuery) -> Page[Migration]:
        """Return a page of migrations, newest first; raise Forbidden or InvalidInput."""
        demand_admin_for(caller, "os_compute_api:os-migrations:index")
        return self._database.migrations.list(query)
