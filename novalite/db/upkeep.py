"""What keeps the database small."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from novalite.db.engine import Records, tried_again
from novalite.db.tables import hosts, migrations, server_action_events, server_actions, server_tags, servers
from novalite.model import VmState

_OF_SERVERS = (server_action_events, server_actions, server_tags, migrations)


@tried_again
class UpkeepRecords(Records):
    """Dropping what nobody asks for any more; one method is one transaction."""

    def purge(self, before: datetime, *, after: str = "", limit: int = 1000) -> tuple[int, str | None]:
        """Drop servers deleted before a time, with all that is told of them, in the order of their ids.

        Return how many, and the id ``after`` which to go on, None when there are no more. Those
        stay whose host hasn't been heard of since: it may have them still, and clears
        away only what it finds a record of.
        """
        silent = sa.exists().where(
            hosts.c.name == servers.c.host, hosts.c.heartbeat_at <= servers.c.terminated_at
        )
        old = sa.and_(servers.c.vm_state == VmState.DELETED, servers.c.terminated_at < before, ~silent)
        found = sa.select(servers.c.id).where(servers.c.id > after, old).order_by(servers.c.id).limit(limit)
        with self._engine.writing() as connection:
            ids = list(connection.scalars(found))
            for table in _OF_SERVERS:
                connection.execute(sa.delete(table).where(table.c.server_id.in_(ids)))
            connection.execute(sa.delete(servers).where(servers.c.id.in_(ids)))
            return len(ids), ids[-1] if len(ids) == limit else None
