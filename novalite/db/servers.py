"""Server records as their users see them: create, show, list, change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glancelike.sql.types import UtcTime
from novalite.db import actions, groups, migration_log, patterns, records, tags, unwanted
from novalite.db.engine import Records, tried_again
from novalite.db.locks import lock_owner
from novalite.db.quotas import usage_allowed
from novalite.db.tables import allocations, held_allocations, hosts, servers
from novalite.errors import InvalidInput, QuotaExceeded, ServerNotFound, StaleRecord
from novalite.model import (
    SERVER_SORT_FIELDS,
    STATUS_OF_STATE,
    STATUS_OF_TASK,
    Fault,
    Flavor,
    Order,
    Page,
    Server,
    ServerQuery,
    Status,
    Usage,
    VmState,
    utcnow,
)

_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_ALIVE = servers.c.vm_state != VmState.DELETED


def release_allocation(connection: Connection, server_id: str) -> None:
    """Give back all that a server has claimed, within the caller's transaction."""
    for claims in (allocations, held_allocations):
        held = sa.select(claims.c.host).where(claims.c.server_id == server_id).scalar_subquery()
        changed = sa.update(hosts).where(hosts.c.name == held).values(generation=hosts.c.generation + 1)
        connection.execute(changed)
        connection.execute(sa.delete(claims).where(claims.c.server_id == server_id))
    migration_log.settle(connection, server_id, "error")  # if it was on its way, that ends here


def set_allocation(connection: Connection, server_id: str, flavor: Flavor) -> None:
    """Have a server claim what a flavor needs, within the caller's transaction."""
    held = sa.select(allocations.c.host).where(allocations.c.server_id == server_id).scalar_subquery()
    connection.execute(sa.update(hosts).where(hosts.c.name == held).values(generation=hosts.c.generation + 1))
    connection.execute(
        sa.update(allocations)
        .where(allocations.c.server_id == server_id)
        .values(vcpus=flavor.vcpus, memory_mb=flavor.memory_mb, disk_gb=flavor.disks_gb)
    )


@tried_again
class ServerRecords(Records):
    """Queries on servers; one method is one transaction."""

    def insert(
        self,
        wanted: Sequence[Server],
        *,
        quota: Usage,
        minimum: int,
        order: Order | None = None,
        tagged: Iterable[str] = (),
        members: int = -1,
    ) -> tuple[Server, ...]:
        """Add as many of the servers of one project as its quota allows.

        All get the tags ``tagged``, and ``order`` is recorded of each; ``members``
        is how many a group may have. Raises QuotaExceeded, and adds none,
        when fewer than ``minimum`` fit, and InvalidInput when their group is gone.
        """
        with self._engine.writing() as connection:
            project = wanted[0].project
            lock_owner(connection, project)
            quota = usage_allowed(connection, project, quota)
            used = _usage(connection, project)
            fitting = wanted[: _room(used, quota, wanted[0])]
            if len(fitting) < minimum:
                raise QuotaExceeded(_over(used, quota, wanted[0], minimum))
            if wanted[0].group_id is not None:
                groups.join(connection, wanted[0].group_id, project, len(fitting), quota=members)
            connection.execute(sa.insert(servers), [records.server_values(server) for server in fitting])
            for server in fitting:
                tags.insert(connection, server.id, tagged)
                if order is not None:
                    actions.record(connection, server.id, order)
            return tuple(fitting)

    def usage(self, project: str) -> Usage:
        """Sum up what a project's servers use."""
        with self._engine.reading() as connection:
            return _usage(connection, project)

    def get(self, server_id: str) -> Server:
        """Return a server, deleted or not; raise ServerNotFound."""
        with self._engine.looking() as connection:
            return _get(connection, server_id)

    def find(self, server_ids: Iterable[str]) -> dict[str, Server]:
        """Map each id that has a record, deleted or not, to its server."""
        found: dict[str, Server] = {}
        ids = list(server_ids)
        with self._engine.reading() as connection:
            for start in range(0, len(ids), 500):
                wanted = servers.c.id.in_(ids[start : start + 500])
                for text in connection.scalars(sa.select(records.SERVER).where(wanted)):
                    server = records.server(text)
                    found[server.id] = server
        return found

    def on_host(self, host: str) -> tuple[Server, ...]:
        """Return all servers placed on a host that aren't deleted."""
        with self._engine.looking() as connection:
            here = sa.select(records.SERVER).where(servers.c.host == host, _ALIVE)
            return tuple(map(records.server, connection.scalars(here)))

    def list(self, query: ServerQuery) -> Page[Server]:
        """Return one page; raise InvalidInput for a marker or sort key that isn't there."""
        columns = _order(query)
        # A marker is looked up in the same snapshot; without one there is one statement.
        one = query.marker is None
        with self._engine.looking() if one else self._engine.reading() as connection:
            conditions = _conditions(query, connection)
            if query.marker is not None:
                conditions.append(_after(connection, query.marker, columns))
            order = [column.desc() if descending else column.asc() for column, descending in columns]
            statement = sa.select(records.SERVER).where(*conditions).order_by(*order).limit(query.limit + 1)
            found = [records.server(text) for text in connection.scalars(statement)]
        items = tuple(found[: query.limit])
        more = len(found) > query.limit and items
        return Page(items, items[-1].id if more else None)

    def change(self, server: Server, *, order: Order | None = None, **values: Any) -> Server:
        """Set columns of a server if its version is still ``server.version``.

        ``order`` is recorded with the change, which it is the reason of; it
        is the order of the task when there is a new one. Raises StaleRecord
        when somebody else changed the server.
        """
        with self._engine.writing() as connection:
            return _change(connection, server, values, order)

    def grow(self, server: Server, flavor: Flavor, *, quota: Usage, order: Order, **values: Any) -> Server:
        """Change a server that is to get another flavor, if the quota has room for it.

        From now on the larger of its two flavors counts. Raises StaleRecord
        and QuotaExceeded.
        """
        with self._engine.writing() as connection:
            lock_owner(connection, server.project)
            quota = usage_allowed(connection, server.project, quota)
            used = _usage(connection, server.project)
            more = {
                "cores": (used.cores, quota.cores, flavor.vcpus - server.flavor.vcpus),
                "ram": (used.ram, quota.ram, flavor.memory_mb - server.flavor.memory_mb),
            }
            over = {name: row for name, row in more.items() if row[2] > 0 and 0 <= row[1] < row[0] + row[2]}
            if over:
                told = ", ".join(
                    f"{name}: requested {by}, in use {now} of {limit}"
                    for name, (now, limit, by) in over.items()
                )
                raise QuotaExceeded(f"Quota exceeded for {told}")
            values |= {
                "vcpus": max(server.flavor.vcpus, flavor.vcpus),
                "memory_mb": max(server.flavor.memory_mb, flavor.memory_mb),
            }
            return _change(connection, server, values, order)

    def lost(self, server: Server, fault: Fault) -> Server:
        """Record that a placed server's instance is gone; raise StaleRecord."""
        values = {"vm_state": VmState.ERROR, "power_state": None, "fault": fault}
        with self._engine.writing() as connection:
            return _change(connection, server, values)

    def delete_unplaced(self, server: Server, *, order: Order | None = None) -> Server:
        """Delete a server that no worker has to clean up after.

        Raises StaleRecord when somebody else changed it.
        """
        now = utcnow()
        with self._engine.writing() as connection:
            release_allocation(connection, server.id)
            return _change(
                connection,
                server,
                {
                    "vm_state": VmState.DELETED,
                    "task_state": None,
                    "power_state": None,
                    "terminated_at": now,
                    "lease_holder": None,
                    "lease_until": None,
                },
                order,
            )


def _get(connection: Connection, server_id: str) -> Server:
    text = connection.scalar(sa.select(records.SERVER).where(servers.c.id == server_id))
    if text is None:
        raise ServerNotFound(f"server {server_id} not found")
    return records.server(text)


def _change(
    connection: Connection, server: Server, values: dict[str, Any], order: Order | None = None
) -> Server:
    if order is not None:
        actions.record(connection, server.id, order)
        if values.get("task_state") is not None:
            values = {**values, "request_id": order.request_id}
    changed = connection.execute(
        sa.update(servers)
        .where(servers.c.id == server.id, servers.c.version == server.version)
        .values(**records.columns(values), updated_at=utcnow(), version=server.version + 1)
    )
    if changed.rowcount != 1:
        raise StaleRecord(f"server {server.id} was changed by somebody else")
    unwanted.note(connection, server, values)
    return _get(connection, server.id)


def _usage(connection: Connection, project: str) -> Usage:
    row = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(servers.c.vcpus), 0),
            sa.func.coalesce(sa.func.sum(servers.c.memory_mb), 0),
        )
        .select_from(servers)
        .where(servers.c.project == project, _ALIVE)
    ).one()
    return Usage(int(row[0]), int(row[1]), int(row[2]))


def _demands(used: Usage, quota: Usage, one: Server) -> list[tuple[str, int, int, int]]:
    return [
        ("instances", used.instances, quota.instances, 1),
        ("cores", used.cores, quota.cores, one.flavor.vcpus),
        ("ram", used.ram, quota.ram, one.flavor.memory_mb),
    ]


def _room(used: Usage, quota: Usage, one: Server) -> int | None:
    rooms = [
        max(0, limit - now) // each
        for _, now, limit, each in _demands(used, quota, one)
        if limit >= 0 and each
    ]
    return min(rooms, default=None)


def _over(used: Usage, quota: Usage, one: Server, count: int) -> str:
    told = ", ".join(
        f"{name}: requested {each * count}, in use {now} of {limit}"
        for name, now, limit, each in _demands(used, quota, one)
        if 0 <= limit < now + each * count
    )
    return f"quota exceeded for {told}"


def _conditions(query: ServerQuery, connection: Connection) -> list[sa.ColumnElement[bool]]:
    column = servers.c
    exact = {
        column.user: query.user,
        column.host: query.host,
        column.zone: query.zone,
        column.image_id: query.image_id,
        column.flavor_id: query.flavor_id,
        column.key_name: query.key_name,
        column.reservation_id: query.reservation_id,
        column.id: query.id,
        column.vm_state: query.vm_state,
        column.task_state: query.task_state,
        column.config_drive: query.config_drive,
        column.launch_index: query.launch_index,
    }
    found: list[sa.ColumnElement[bool]] = [
        where == value for where, value in exact.items() if value is not None
    ]
    if not query.all_projects or query.project is not None:
        found.append(column.project == (query.project or ""))
    for text, part in (
        (column.name, query.name),
        (column.description, query.description),
        (column.hostname, query.hostname),
    ):
        if part is not None:
            found.append(patterns.found_by(connection, text, part))
    for time, since in (
        (column.updated_at, query.changes_since),
        (column.created_at, query.created_since),
        (column.launched_at, query.launched_since),
        (column.terminated_at, query.terminated_since),
    ):
        if since is not None:
            found.append(time >= since)
    if query.locked is not None:
        found.append(column.locked_by.is_not(None) if query.locked else column.locked_by.is_(None))
    if query.power_states is not None:
        states = [column.power_state == state for state in query.power_states if state is not None]
        nothing = [column.power_state.is_(None)] if None in query.power_states else []
        found.append(sa.or_(sa.false(), *states, *nothing))
    found += tags.conditions(query)
    if query.changes_before is not None:
        found.append(column.updated_at <= query.changes_before)
    if query.deleted:
        found.append(column.vm_state == VmState.DELETED)
    elif query.changes_since is None and Status.DELETED not in (query.statuses or ()):
        found.append(_ALIVE)
    if query.statuses is not None:
        found.append(sa.or_(sa.false(), *(_has_status(status) for status in sorted(query.statuses))))
    return found


def _has_status(status: Status) -> sa.ColumnElement[bool]:
    column = servers.c
    tasks = [task for task, shown in STATUS_OF_TASK.items() if shown == status]
    if tasks:
        return sa.and_(column.task_state.in_(tasks), _ALIVE)
    states = [state for state, shown in STATUS_OF_STATE.items() if shown == status]
    idle = sa.or_(column.task_state.is_(None), column.task_state.not_in(list(STATUS_OF_TASK)))
    return sa.and_(column.vm_state.in_(states), sa.true() if status == Status.DELETED else idle)


def _order(query: ServerQuery) -> list[tuple[sa.ColumnElement[Any], bool]]:
    unknown = sorted({key.field for key in query.sort} - SERVER_SORT_FIELDS)
    if unknown:
        raise InvalidInput(f"servers can't be sorted by {', '.join(unknown)}")
    columns: list[tuple[sa.ColumnElement[Any], bool]] = []
    for key in query.sort:
        column = servers.c[key.field]
        columns.append((_never_null(column), key.descending))
    last = query.sort[-1].descending if query.sort else True
    return [*columns, (servers.c.id, last)]


def _never_null(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """Databases disagree on where NULL sorts, and NULL compares with nothing."""
    if not column.nullable:
        return column
    lowest = sa.literal(_NO_TIME, column.type) if isinstance(column.type, UtcTime) else ""
    return sa.func.coalesce(column, lowest)


def _after(
    connection: Connection, marker: str, columns: list[tuple[sa.ColumnElement[Any], bool]]
) -> sa.ColumnElement[bool]:
    at = connection.execute(sa.select(*(c for c, _ in columns)).where(servers.c.id == marker)).first()
    if at is None:
        raise InvalidInput(f"marker {marker} not found")
    steps: list[sa.ColumnElement[bool]] = []
    for index, (column, descending) in enumerate(columns):
        equal = [previous == at[i] for i, (previous, _) in enumerate(columns[:index])]
        steps.append(sa.and_(*equal, column < at[index] if descending else column > at[index]))
    return sa.or_(*steps)
