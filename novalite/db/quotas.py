"""Quotas as administrators set them; what isn't set is the configuration's."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from novalite.db.engine import Records, tried_again
from novalite.db.tables import quotas
from novalite.model import Usage

#: The scope of what holds for every project that has nothing of its own.
EVERYBODY = ""


@tried_again
class QuotaRecords(Records):
    """Queries on quotas; one method is one transaction."""

    def of(self, project: str) -> dict[str, int]:
        """Return what was set for a project or for all."""
        with self._engine.reading() as connection:
            return overrides(connection, project)

    def set(self, scope: str, limits: Mapping[str, int]) -> None:
        """Set some of the quotas of a project, or of all."""
        with self._engine.writing() as connection:
            for resource, at_most in sorted(limits.items()):
                connection.execute(
                    sa.delete(quotas).where(quotas.c.scope == scope, quotas.c.resource == resource)
                )
                connection.execute(sa.insert(quotas).values(scope=scope, resource=resource, at_most=at_most))

    def clear(self, project: str) -> None:
        """Forget what was set for a project."""
        with self._engine.writing() as connection:
            connection.execute(sa.delete(quotas).where(quotas.c.scope == project))


def overrides(connection: Connection, project: str) -> dict[str, int]:
    """Return what was set for a project or for all, within the caller's transaction."""
    rows = connection.execute(sa.select(quotas).where(quotas.c.scope.in_([EVERYBODY, project])))
    # what holds for everybody first, so that the project's own wins
    return {row.resource: row.at_most for row in sorted(rows, key=lambda row: row.scope != EVERYBODY)}


def usage_allowed(connection: Connection, project: str, configured: Usage) -> Usage:
    """Return what a project's servers may use, within the caller's transaction."""
    told = overrides(connection, project)
    return Usage(
        told.get("instances", configured.instances),
        told.get("cores", configured.cores),
        told.get("ram", configured.ram),
    )
