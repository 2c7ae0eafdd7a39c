"""What servers of a period there were, deleted ones as well."""

from __future__ import annotations

import sqlalchemy as sa

from novalite.db.engine import Records, tried_again
from novalite.db.tables import servers
from novalite.errors import InvalidInput
from novalite.reports import ServerUsage, UsageQuery

_COLUMNS = (
    *(servers.c.id, servers.c.name, servers.c.project, servers.c.flavor, servers.c.vm_state),
    *(servers.c.launched_at, servers.c.terminated_at),
)
_KEYS = (servers.c.project, servers.c.created_at, servers.c.id)


@tried_again
class UsageRecords(Records):
    """Queries on usage; one method is one transaction."""

    def list(self, query: UsageQuery) -> tuple[ServerUsage, ...]:
        """Return who ran in a period, by project and age; raise InvalidInput for a bad marker."""
        conditions = [
            servers.c.launched_at < query.stop,
            sa.or_(servers.c.terminated_at.is_(None), servers.c.terminated_at > query.start),
        ]
        if query.project is not None:
            conditions.append(servers.c.project == query.project)
        with self._engine.reading() as connection:
            if query.marker is not None:
                at = connection.execute(sa.select(*_KEYS).where(servers.c.id == query.marker)).first()
                if at is None:
                    raise InvalidInput(f"marker [{query.marker}] not found")
                project, created, server_id = _KEYS
                younger = sa.or_(created > at[1], sa.and_(created == at[1], server_id > at[2]))
                conditions.append(sa.or_(project > at[0], sa.and_(project == at[0], younger)))
            rows = connection.execute(
                sa.select(*_COLUMNS).where(*conditions).order_by(*_KEYS).limit(query.limit)
            )
            return tuple(
                ServerUsage(
                    id=row.id,
                    name=row.name,
                    project=row.project,
                    flavor=row.flavor["name"],
                    vcpus=row.flavor["vcpus"],
                    memory_mb=row.flavor["memory_mb"],
                    disk_gb=row.flavor["disk_gb"] + row.flavor.get("ephemeral_gb", 0),
                    vm_state=row.vm_state,
                    started_at=row.launched_at,
                    ended_at=row.terminated_at,
                )
                for row in rows
            )
