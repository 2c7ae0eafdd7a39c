"""Unfinished work on servers: who drives it, under which lease, how it ends.

A worker ``begin``s, which gives it the lease, and ends with one of the
outcomes. An outcome counts only while the worker still holds the lease and
the task is still the one it began: a delete that came meanwhile changes the
task, so the outcome raises StaleRecord and the worker looks again. Changes
that don't concern the task (a new name) don't disturb it.

Leases run by the database's clock: those of the machines needn't agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from novalite.db import actions, migration_log, records, unwanted
from novalite.db.engine import Records, now, tried_again
from novalite.db.servers import release_allocation, set_allocation
from novalite.db.tables import servers
from novalite.errors import StaleRecord
from novalite.model import OF_SCHEDULER, Fault, Flavor, Server, TaskState, VmState, utcnow

_FREE: dict[str, Any] = {"lease_holder": None, "lease_until": None}
DONE: dict[str, Any] = {**_FREE, "task_state": None, "task_args": {}, "attempts": 0}


@tried_again
class WorkRecords(Records):
    """Leases and outcomes; one method is one transaction."""

    def unfinished(self, *, host: str | None, holder: str) -> tuple[str, ...]:
        """List the servers with a task for ``begin``, oldest first."""
        with self._engine.reading() as connection:
            return tuple(
                connection.scalars(
                    sa.select(servers.c.id)
                    .where(_belongs(host), _takeable(now(connection), holder))
                    .order_by(servers.c.created_at)
                )
            )

    def begin(self, server_id: str, *, host: str | None, holder: str, seconds: float) -> Server | None:
        """Take the lease on a server's task and count the attempt.

        ``host`` is the worker's own, None for the scheduler. None when there
        is no such work here or somebody else holds the lease.
        """
        with self._engine.writing() as connection:
            at = now(connection)
            taken = connection.execute(
                sa.update(servers)
                .where(
                    servers.c.id == server_id,
                    _belongs(host),
                    _takeable(at, holder),
                )
                .values(
                    lease_holder=holder,
                    lease_until=at + timedelta(seconds=seconds),
                    attempts=servers.c.attempts + 1,
                )
            )
            if taken.rowcount != 1:
                return None
            found = sa.select(records.SERVER).where(servers.c.id == server_id)
            server = records.server(connection.execute(found).scalar_one())
            actions.begin_step(connection, server)
            return server

    def renew(self, server_ids: Iterable[str], *, holder: str, seconds: float) -> dict[str, TaskState | None]:
        """Extend the holder's leases; map those it still has to their task."""
        ids = list(server_ids)
        if not ids:
            return {}
        held = sa.and_(servers.c.id.in_(ids), servers.c.lease_holder == holder)
        with self._engine.writing() as connection:
            connection.execute(
                sa.update(servers)
                .where(held)
                .values(lease_until=now(connection) + timedelta(seconds=seconds))
            )
            rows = connection.execute(sa.select(servers.c.id, servers.c.task_state).where(held))
            return {row.id: TaskState(row.task_state) if row.task_state else None for row in rows}

    def release(self, server: Server, *, attempted: bool = True) -> None:
        """Give the lease back with the task unfinished; a later drive retries it.

        ``attempted`` False takes the attempt back as well.
        """
        with self._engine.writing() as connection:
            connection.execute(
                sa.update(servers)
                .where(servers.c.id == server.id, servers.c.lease_holder == server.lease_holder)
                .values(**_FREE, attempts=servers.c.attempts - (0 if attempted else 1))
            )

    def release_dead(self, host: str) -> int:
        """Free all leases on a host's servers: its only worker is just starting."""
        with self._engine.writing() as connection:
            freed = connection.execute(
                sa.update(servers)
                .where(servers.c.host == host, servers.c.lease_holder.is_not(None))
                .values(**_FREE)
            )
            return int(freed.rowcount)

    # Outcomes. Each takes the server as ``begin`` returned it.

    def built(self, server: Server, *, power_state: str) -> Server:
        """Record that the guest runs."""
        return self._end(
            server,
            vm_state=VmState.ACTIVE,
            power_state=power_state,
            launched_at=utcnow(),
            tried_hosts=[],
            kept={},
        )

    def powered(
        self, server: Server, *, vm_state: VmState, power_state: str | None, fault: Fault | None
    ) -> Server:
        """Record how a power action ended."""
        return self._end(server, vm_state=vm_state, power_state=power_state, fault=fault)

    def done(self, server: Server, fault: Fault | None = None, **values: Any) -> Server:
        """Record the end of a task that leaves the server where it is; ``values`` are what it changed.

        ``flavor`` among them changes what the server has claimed of its host,
        to what ``claimed`` needs if that is given.
        """
        return self._end(server, fault=fault, **values)

    def handed_on(self, server: Server, task: TaskState, **values: Any) -> Server:
        """Record that a task's first part is done, and that ``task`` is the next one."""
        return self._end(server, task_state=task, **values)

    def offloaded(self, server: Server) -> Server:
        """Record that a shelved server has left its host."""
        return self._end(
            server, release=True, vm_state=VmState.SHELVED_OFFLOADED, power_state=None, host=None
        )

    def failed(self, server: Server, fault: Fault) -> Server:
        """Record that a server can't be placed or built; it holds nothing any more.

        One that was shelved stays so, and may be tried again.
        """
        shelved = server.vm_state == VmState.SHELVED_OFFLOADED
        return self._end(
            server,
            release=True,
            vm_state=VmState.SHELVED_OFFLOADED if shelved else VmState.ERROR,
            power_state=None,
            host=None,
            fault=fault,
        )

    def reschedule(self, server: Server, fault: Fault) -> Server:
        """Hand a server back to the scheduler, which won't choose this host again."""
        return self._end(
            server,
            release=True,
            task_state=TaskState.SCHEDULING,
            host=None,
            fault=fault,
            task_args=server.task_args,
            tried_hosts=[*server.tried_hosts, server.host],
        )

    def deleted(self, server: Server) -> Server:
        """Record that nothing of a server is left."""
        return self._end(
            server,
            release=True,
            vm_state=VmState.DELETED,
            power_state=None,
            terminated_at=utcnow(),
        )

    def _end(
        self,
        server: Server,
        *,
        release: bool = False,
        fault: Fault | None = None,
        claimed: Flavor | None = None,
        **values: Any,
    ) -> Server:
        claimed = claimed or values.get("flavor")
        values = {**DONE, **values}
        if values.get("vm_state") != VmState.DELETED:  # what was wrong with it stays told
            values["fault"] = fault
        columns = records.columns(values)
        if claimed is not None:  # what counts against the project's quota
            columns |= {"vcpus": claimed.vcpus, "memory_mb": claimed.memory_mb, "disk_gb": claimed.disk_gb}
        with self._engine.writing() as connection:
            ended = end(connection, server, fault, columns)
            unwanted.note(connection, server, values, done=fault is None)
            migration_log.end_step(connection, server, fault)
            if release:
                release_allocation(connection, server.id)
            elif claimed is not None:
                set_allocation(connection, server.id, claimed)
            return ended


def end(connection: Connection, server: Server, fault: Fault | None, columns: dict[str, Any]) -> Server:
    """End the task of a server as ``begin`` returned it, within the caller's transaction."""
    ended = connection.execute(
        sa.update(servers)
        .where(
            servers.c.id == server.id,
            servers.c.lease_holder == server.lease_holder,
            servers.c.task_state == server.task_state,
        )
        .values(**columns, version=servers.c.version + 1, updated_at=utcnow())
    )
    if ended.rowcount != 1:
        raise StaleRecord(f"server {server.id} isn't {server.task_state} by {server.lease_holder} any more")
    actions.end_step(connection, server, fault)
    text = connection.execute(sa.select(records.SERVER).where(servers.c.id == server.id)).scalar_one()
    return records.server(text)


def _belongs(host: str | None) -> sa.ColumnElement[bool]:
    task = servers.c.task_state
    if host is None:
        unplaced = sa.and_(task == TaskState.SCHEDULING, servers.c.host.is_(None))
        return sa.or_(unplaced, task.in_(OF_SCHEDULER))
    return sa.and_(task.is_not(None), task.not_in(OF_SCHEDULER), servers.c.host == host)


def _takeable(at: datetime, holder: str) -> sa.ColumnElement[bool]:
    holds = servers.c.lease_holder
    return sa.or_(holds.is_(None), holds == holder, servers.c.lease_until < at)
