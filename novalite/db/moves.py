"""Servers on their way from one host to another, and what came of each way.

A server that moves has claims on two hosts. The one in ``allocations`` is
where it is, and the one in ``held_allocations`` is the other: where it goes
to, or what it came from and may go back to. A change of ``servers.host``
exchanges the two, in the same transaction. A host keeps what it has of a
server that is placed there or held there, and drops what it has of others.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from novalite.db import groups, migration_log, records
from novalite.db.engine import Records, tried_again
from novalite.db.hosts import hold, largest
from novalite.db.migration_log import EVACUATION, LIVE
from novalite.db.tables import allocations, held_allocations, hosts, servers
from novalite.db.work import DONE, end
from novalite.errors import InvalidState, StaleRecord
from novalite.model import ComputeHost, Fault, Flavor, Server, TaskState, VmState

#: What comes after the claim.
_NEXT = {EVACUATION: TaskState.REBUILD_SPAWNING, LIVE: TaskState.LIVE_LEAVING}
#: Task -> how a live migration stands that has come to it.
_STATUS = {TaskState.MIGRATING: "running", TaskState.LIVE_ARRIVED: "post-migrating"}
_SIZES = ("vcpus", "memory_mb", "disk_gb")


@tried_again
class MoveRecords(Records):
    """Claims, steps and outcomes of moves; one method is one transaction.

    The steps take the server as ``work.begin`` returned it, and raise
    StaleRecord as the outcomes in ``work`` do.
    """

    def claim(self, server: Server, host: ComputeHost, flavor: Flavor, kind: str) -> Server | None:
        """Have a server hold room for ``flavor`` on the host that it is to move to.

        The scheduler holds the lease on ``server``; the claim ends it, and the
        server is its own host's to let go, or after an evacuation the new
        one's to make. None when the host has changed since it was read, or the
        server's group doesn't want it there any more.
        Raises InvalidState when there is a second host already.
        """
        args = {"source_host": server.host, "source_zone": server.zone}
        args |= {**server.task_args, "dest_host": host.name, "dest_zone": host.zone}
        task = _NEXT.get(kind, TaskState.RESIZE_MIGRATING)
        values = {**DONE, "task_args": args, "fault": server.fault, "task_state": task}
        if kind == EVACUATION:
            values |= {"host": host.name, "zone": host.zone}
        with self._engine.writing() as connection:
            if groups.refusal(connection, server, host.name) or not hold(connection, host):
                return None
            other = _other_host(connection, server.id)
            if other is not None:
                raise InvalidState(f"server {server.id} has a disk on host {other} still, of an earlier move")
            claimed = end(connection, server, None, records.columns(values))
            there = {"server_id": server.id, "host": host.name, "vcpus": flavor.vcpus}
            there |= {"memory_mb": flavor.memory_mb, "disk_gb": flavor.disks_gb}
            connection.execute(sa.insert(held_allocations).values(**there))
            if kind == EVACUATION:
                _exchange(connection, server.id)
            migration_log.begin(connection, server, host.name, flavor, kind)
            return claimed

    def left(self, server: Server, **args: Any) -> Server:
        """Record that all of a server that moves waits to be fetched by its new host, which goes on.

        ``args`` is what that one needs to know.
        """
        told = {**server.task_args, **args}
        values = {**DONE, "task_state": TaskState.RESIZE_MIGRATED, "task_args": told, "fault": None}
        values |= {"host": told["dest_host"], "zone": told["dest_zone"], "power_state": None}
        return self._step(server, None, values, status="post-migrating", exchange=True)

    def arrived(self, server: Server, before: Flavor, **values: Any) -> Server:
        """Record that a server is on its new host, and what it was is held on the one before.

        ``values`` has its flavor; the larger of the two counts against the quota.
        """
        told = {**DONE, "vm_state": VmState.RESIZED, "fault": None, **values}
        return self._step(server, None, told, status="finished", counted=largest(before, values["flavor"]))

    def sent_back(
        self, server: Server, to: str, zone: str | None, fault: Fault | None, **values: Any
    ) -> Server:
        """Record that a server is the matter of the host again that it came from, which goes on."""
        columns = {**DONE, "task_state": TaskState.RESIZE_REVERTING, "host": to, "zone": zone}
        columns |= {"power_state": None, "fault": fault, **values}
        return self._step(server, fault, columns, status="error" if fault else None, exchange=True)

    def given_up(self, server: Server, to: str, zone: str | None, fault: Fault) -> Server:
        """Record that a server can't be made anew; its own host, which is down, may have it still."""
        values = {**DONE, "vm_state": VmState.ERROR, "host": to, "zone": zone, "fault": fault}
        values["power_state"] = None
        return self._step(server, fault, values, status="failed", exchange=True, release=True)

    def passed(self, server: Server, end: str, task: TaskState, **args: Any) -> Server:
        """Record that the next step is another host's, ``end`` being "source" or "dest"."""
        told = {**server.task_args, **args}
        values = {**DONE, "task_state": task, "task_args": told, "fault": None}
        values |= {"host": told[f"{end}_host"], "zone": told[f"{end}_zone"]}
        return self._step(server, None, values, status=_STATUS.get(task), exchange=True)

    def stays(self, server: Server, status: str, fault: Fault | None = None) -> Server:
        """Record at the new host that a guest stays on its old one, where nothing was done to it."""
        told = server.task_args
        values = {**DONE, "host": told["source_host"], "zone": told["source_zone"], "fault": fault}
        return self._step(server, fault, values, status=status, exchange=True, release=True)

    def settled(self, server: Server, status: str, fault: Fault | None = None, **values: Any) -> Server:
        """Record the end of a move: the other host has nothing to keep of the server any more."""
        columns = {**DONE, "fault": fault, **values}
        return self._step(server, fault, columns, status=status, release=True)

    def place(self, server_id: str) -> tuple[Server | None, str | None]:
        """Return a server, deleted or not, and its other host, both of one moment."""
        with self._engine.reading() as connection:
            text = connection.scalar(sa.select(records.SERVER).where(servers.c.id == server_id))
            return (None if text is None else records.server(text)), _other_host(connection, server_id)

    def other_host(self, server_id: str) -> str | None:
        """Return the other host of a server that moves."""
        with self._engine.reading() as connection:
            return _other_host(connection, server_id)

    def dropped(self, server_id: str, host: str) -> None:
        """Record that a host that is back has dropped what it had of an evacuated server."""
        with self._engine.writing() as connection:
            migration_log.complete(connection, server_id, host)

    def _step(
        self,
        server: Server,
        fault: Fault | None,
        values: dict[str, Any],
        *,
        status: str | None,
        exchange: bool = False,
        release: bool = False,
        counted: Flavor | None = None,
    ) -> Server:
        columns = records.columns(values)
        if counted is not None:
            columns |= {name: getattr(counted, name) for name in _SIZES}
        with self._engine.writing() as connection:
            ended = end(connection, server, fault, columns)
            if exchange:
                _exchange(connection, server.id)
            if release:
                _touch(connection, held_allocations, server.id)
                connection.execute(
                    sa.delete(held_allocations).where(held_allocations.c.server_id == server.id)
                )
            if status is not None:
                migration_log.settle(connection, server.id, status)
            return ended


def _other_host(connection: Connection, server_id: str) -> str | None:
    found: str | None = connection.scalar(
        sa.select(held_allocations.c.host).where(held_allocations.c.server_id == server_id)
    )
    return found


def _exchange(connection: Connection, server_id: str) -> None:
    """Make of where a server is the other host, and of that where it is."""
    tables = (allocations, held_allocations)
    found = []
    for claims in tables:
        _touch(connection, claims, server_id)
        row = connection.execute(sa.select(claims).where(claims.c.server_id == server_id)).mappings().first()
        if row is None:
            raise StaleRecord(f"server {server_id} has no two hosts any more")
        found.append(dict(row))
    for claims, row in zip(tables, reversed(found), strict=True):
        connection.execute(sa.update(claims).where(claims.c.server_id == server_id).values(**row))


def _touch(connection: Connection, claims: sa.Table, server_id: str) -> None:
    """Move the generation of the host on that a server has claimed."""
    held = sa.select(claims.c.host).where(claims.c.server_id == server_id).scalar_subquery()
    connection.execute(sa.update(hosts).where(hosts.c.name == held).values(generation=hosts.c.generation + 1))
