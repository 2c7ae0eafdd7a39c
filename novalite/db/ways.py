"""What is told of servers' ways between hosts, within the transactions that change the servers.

Nothing is decided by it. A resize on one host is such a way, too, from that host to itself.
"""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from novalite.db.tables import migrations
from novalite.model import Flavor, Server, utcnow

RESIZE, MIGRATION, EVACUATION, LIVE = "resize", "migration", "evacuation", "live-migration"
#: How a way that hasn't come to its end may stand.
UNDER_WAY = ("pre-migrating", "migrating", "post-migrating", "finished")


def begin(connection: Connection, server: Server, dest: str, flavor: Flavor, kind: str) -> None:
    """Write down that a server is to get to ``dest``, with a flavor."""
    now = utcnow()
    connection.execute(
        sa.insert(migrations).values(
            uuid=str(uuid.uuid4()),
            server_id=server.id,
            source_host=server.host,
            dest_host=dest,
            status="pre-migrating" if kind == EVACUATION else "migrating",
            migration_type=kind,
            old_flavor_id=server.flavor.id,
            new_flavor_id=flavor.id,
            user_id=server.user,
            project_id=server.project,
            created_at=now,
            updated_at=now,
        )
    )


def mark(connection: Connection, server_id: str, status: str) -> None:
    """Say how the way of a server that is under way stands now, if there is one."""
    connection.execute(
        sa.update(migrations)
        .where(migrations.c.server_id == server_id, migrations.c.status.in_(UNDER_WAY))
        .values(status=status, updated_at=utcnow())
    )
