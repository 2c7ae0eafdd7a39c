"""What became of each order to give a server another size.

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
from novalite.model import Fault, Flavor, Order, Page, Server, TaskState, utcnow
from novalite.reports import Migration, MigrationQuery, MigrationStatus

RESIZE = "resize"
_ENDED = (MigrationStatus.CONFIRMED, MigrationStatus.REVERTED, MigrationStatus.ERROR)
# Task -> what it comes to when it ends well.
_OUTCOMES = {
    TaskState.RESIZE_FINISH: MigrationStatus.FINISHED,
    TaskState.RESIZE_CONFIRMING: MigrationStatus.CONFIRMED,
    TaskState.RESIZE_REVERTING: MigrationStatus.REVERTED,
}
#: Tasks whose end says how a migration went.
TASKS = frozenset({TaskState.RESIZE_PREP, *_OUTCOMES})


def begin(connection: Connection, server: Server, flavor: Flavor, order: Order) -> None:
    """Write down that a server is to get a flavor, within the caller's transaction."""
    _end_open(connection, server.id)
    now = utcnow()
    connection.execute(
        sa.insert(migrations).values(
            uuid=str(uuid.uuid4()),
            server_id=server.id,
            kind=RESIZE,
            status=MigrationStatus.PREPARING,
            source=server.host,
            old_flavor=server.flavor.id,
            new_flavor=flavor.id,
            project=server.project,
            user=order.user,
            created_at=now,
            updated_at=now,
        )
    )


def go_on(connection: Connection, server_id: str, host: str) -> None:
    """Write down which host a server gets its new size on, within the caller's transaction."""
    connection.execute(
        sa.update(migrations)
        .where(*_open(server_id))
        .values(status=MigrationStatus.MIGRATING, target=host, updated_at=utcnow())
    )


def end_step(connection: Connection, server: Server, fault: Fault | None) -> None:
    """Write down how a server's task went, if it is one of a migration's."""
    if server.task_state not in TASKS:
        return
    failed = fault is not None or server.task_state not in _OUTCOMES
    status = MigrationStatus.ERROR if failed else _OUTCOMES[server.task_state]
    connection.execute(
        sa.update(migrations).where(*_open(server.id)).values(status=status, updated_at=utcnow())
    )


def _end_open(connection: Connection, server_id: str) -> None:
    """End what was called off in the middle, by an administrator who has reset the server's state."""
    connection.execute(
        sa.update(migrations)
        .where(*_open(server_id))
        .values(status=MigrationStatus.ERROR, updated_at=utcnow())
    )


def _open(server_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return migrations.c.server_id == server_id, migrations.c.status.not_in(_ENDED)


@tried_again
class MigrationRecords(Records):
    """Queries on migrations; one method is one transaction."""

    def list(self, query: MigrationQuery) -> Page[Migration]:
        """Return one page, newest first; raise InvalidInput for a bad marker."""
        exact = {
            migrations.c.server_id: query.server_id,
            migrations.c.status: query.status,
            migrations.c.kind: query.kind,
            migrations.c.source: query.source,
            migrations.c.project: query.project,
            migrations.c.user: query.user,
        }
        conditions = [column == value for column, value in exact.items() if value is not None]
        if query.host is not None:
            conditions.append(sa.or_(migrations.c.source == query.host, migrations.c.target == query.host))
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
