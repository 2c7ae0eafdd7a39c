"""What came of each order to give a server another size or host; nothing is decided by it.

A line is written in the transaction that changes the server for it, so the
list is never behind the truth.
"""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from novalite.db.engine import Records, tried_again
from novalite.db.tables import migrations
from novalite.errors import InvalidInput
from novalite.model import Fault, Flavor, Page, Server, TaskState, utcnow
from novalite.reports import Migration, MigrationQuery

RESIZE, MIGRATION, EVACUATION, LIVE = "resize", "migration", "evacuation", "live-migration"
# How one that hasn't come to its end may stand.
_UNDER_WAY = ("pre-migrating", "preparing", "migrating", "running", "post-migrating", "finished")
_BEGUN = {EVACUATION: "pre-migrating", LIVE: "preparing"}
# Task of a resize that needs one host alone -> what it comes to when it ends well.
_OUTCOMES = {
    TaskState.RESIZE_FINISH: "finished",
    TaskState.RESIZE_CONFIRMING: "confirmed",
    TaskState.RESIZE_REVERTING: "reverted",
}


def begin(connection: Connection, server: Server, dest: str, flavor: Flavor, kind: str) -> None:
    """Write down that a server gets a flavor on a host, its own or not, within the caller's transaction."""
    # One that an administrator called off, by resetting the server's state, never ended.
    settle(connection, server.id, "error")
    now = utcnow()
    connection.execute(
        sa.insert(migrations).values(
            uuid=str(uuid.uuid4()),
            server_id=server.id,
            source_host=server.host,
            dest_host=dest,
            status=_BEGUN.get(kind, "migrating"),
            migration_type=kind,
            old_flavor_id=server.flavor.id,
            new_flavor_id=flavor.id,
            user_id=server.user,
            project_id=server.project,
            created_at=now,
            updated_at=now,
        )
    )


def end_step(connection: Connection, server: Server, fault: Fault | None) -> None:
    """Write down how a server's task went, if it is one of a resize."""
    if server.task_state in _OUTCOMES:
        status = _OUTCOMES[server.task_state] if fault is None else "error"
        settle(connection, server.id, status)


def settle(connection: Connection, server_id: str, status: str) -> None:
    """Write down how a server's way stands, if it's on one, within the caller's transaction."""
    connection.execute(
        sa.update(migrations)
        .where(migrations.c.server_id == server_id, migrations.c.status.in_(_UNDER_WAY))
        .values(status=status, updated_at=utcnow())
    )


def complete(connection: Connection, server_id: str, host: str) -> None:
    """Write down that a host has dropped what it had of an evacuated server."""
    connection.execute(
        sa.update(migrations)
        .where(
            migrations.c.server_id == server_id,
            migrations.c.source_host == host,
            migrations.c.migration_type == EVACUATION,
            migrations.c.status == "done",
        )
        .values(status="completed", updated_at=utcnow())
    )


@tried_again
class MigrationRecords(Records):
    """Queries on migrations; one method is one transaction."""

    def list(self, query: MigrationQuery) -> Page[Migration]:
        """Return one page, newest first; raise InvalidInput for a bad marker."""
        exact = {
            migrations.c.id: query.id,
            migrations.c.server_id: query.server_id,
            migrations.c.status: query.status,
            migrations.c.migration_type: query.migration_type,
            migrations.c.source_host: query.source_host,
            migrations.c.project_id: query.project_id,
            migrations.c.user_id: query.user_id,
        }
        conditions = [column == value for column, value in exact.items() if value is not None]
        if query.host is not None:
            conditions.append(
                sa.or_(migrations.c.source_host == query.host, migrations.c.dest_host == query.host)
            )
        if query.changes_since is not None:
            conditions.append(migrations.c.updated_at >= query.changes_since)
        if query.changes_before is not None:
            conditions.append(migrations.c.updated_at <= query.changes_before)
        keys = (migrations.c.created_at, migrations.c.id)
        with self._engine.reading() as connection:
            if query.marker is not None:
                marked = sa.select(*keys).where(migrations.c.uuid == query.marker)
                at = connection.execute(marked).first()
                if at is None:
                    raise InvalidInput(f"Marker {query.marker} could not be found.")
                older = sa.and_(keys[0] == at[0], keys[1] < at[1])
                conditions.append(sa.or_(keys[0] < at[0], older))
            limit = None if query.limit is None else query.limit + 1
            rows = connection.execute(
                sa.select(migrations).where(*conditions).order_by(*(key.desc() for key in keys)).limit(limit)
            ).mappings()
            found = [Migration(**row) for row in rows]
        items = tuple(found[: query.limit])
        return Page(items, items[-1].uuid if len(found) > len(items) and items else None)
