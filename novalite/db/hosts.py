"""Compute hosts and what is claimed of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from novalite.db import actions, groups, migration_log, records
from novalite.db.aggregates import zone_of_host
from novalite.db.engine import Engine, Records, insert_new, now, tried_again
from novalite.db.tables import aggregate_hosts, allocations, hosts, servers
from novalite.errors import Conflict, NotFound, StaleRecord
from novalite.model import ComputeHost, Flavor, Server, TaskState, VmState, utcnow

_OFFER = (
    "zone",
    "hypervisor_type",
    "hypervisor_version",
    "virt_type",
    "arch",
    "ip",
    "vcpus",
    "memory_mb",
    "disk_gb",
)


def largest(one: Flavor, other: Flavor) -> Flavor:
    """Return a flavor that has room for either."""
    return replace(
        one,
        vcpus=max(one.vcpus, other.vcpus),
        memory_mb=max(one.memory_mb, other.memory_mb),
        disk_gb=max(one.disk_gb, other.disk_gb),
    )


@tried_again
class HostRecords(Records):
    """Queries on hosts and claims; one method is one transaction.

    A host is up while its heartbeat is younger than ``down_after`` seconds,
    by the database's clock, unless it was forced down.
    """

    def __init__(self, engine: Engine, *, down_after: float) -> None:
        super().__init__(engine)
        self._down_after = timedelta(seconds=down_after)

    def register(self, host: ComputeHost) -> None:
        """Add a host, or renew what it offers; it is its heartbeat, too.

        Whether the host is enabled stays as it was.
        """
        offer = {name: getattr(host, name) for name in _OFFER}
        with self._engine.writing() as connection:
            beat = {**offer, "uptime": host.uptime, "heartbeat_at": now(connection)}
            # The row is locked first: the generation counts with what is in it.
            known = sa.select(hosts).where(hosts.c.name == host.name).with_for_update()
            row = connection.execute(known).mappings().first()
            if row is None:
                new = {"enabled": host.enabled, "disabled_reason": host.disabled_reason, "generation": 1}
                if insert_new(connection, hosts, {"name": host.name, **beat, **new}):
                    return
                row = connection.execute(known).mappings().one()
            changed = any(row[name] != value for name, value in offer.items())
            connection.execute(
                sa.update(hosts)
                .where(hosts.c.name == host.name)
                .values(**beat, generation=hosts.c.generation + int(changed))
            )

    def set_enabled(self, name: str, *, enabled: bool, reason: str | None) -> ComputeHost:
        """Say whether a host may get new servers; raise NotFound."""
        return self._set(name, enabled=enabled, disabled_reason=reason)

    def set_forced_down(self, name: str, *, forced_down: bool) -> ComputeHost:
        """Say that a host is down whatever its heartbeat, or that it's no longer so; raise NotFound."""
        return self._set(name, forced_down=forced_down)

    def _set(self, name: str, **values: Any) -> ComputeHost:
        with self._engine.writing() as connection:
            connection.execute(
                sa.update(hosts)
                .where(hosts.c.name == name)
                .values(**values, generation=hosts.c.generation + 1)
            )
            return self._read(connection, name)[0]

    def delete(self, name: str) -> None:
        """Forget a host, in its aggregates as well; one that lives is back with its next heartbeat.

        Raises NotFound, and Conflict while there are servers on it.
        """
        with self._engine.writing() as connection:
            held = sa.update(hosts).where(hosts.c.name == name).values(generation=hosts.c.generation + 1)
            if connection.execute(held).rowcount != 1:
                raise NotFound(f"host {name} not found")
            placed = sa.select(servers.c.id).where(
                servers.c.host == name, servers.c.vm_state != VmState.DELETED
            )
            claimed = sa.select(allocations.c.server_id).where(allocations.c.host == name)
            if connection.scalar(placed.limit(1)) or connection.scalar(claimed.limit(1)):
                raise Conflict(
                    "Unable to delete compute service that is hosting instances. Migrate or delete the "
                    "instances first."
                )
            connection.execute(sa.delete(aggregate_hosts).where(aggregate_hosts.c.host == name))
            connection.execute(sa.delete(hosts).where(hosts.c.name == name))

    def servers(self, names: Collection[str]) -> dict[str, Sequence[tuple[str, str]]]:
        """Map hosts to the ids and names of their servers."""
        found: dict[str, list[tuple[str, str]]] = defaultdict(list)
        with self._engine.reading() as connection:
            rows = connection.execute(
                sa.select(servers.c.host, servers.c.id, servers.c.name)
                .where(servers.c.host.in_(names), servers.c.vm_state != VmState.DELETED)
                .order_by(servers.c.created_at, servers.c.id)
            )
            for row in rows:
                found[row.host].append((row.id, row.name))
        return dict(found)

    def get(self, name: str) -> ComputeHost:
        """Return one host; raise NotFound."""
        with self._engine.reading() as connection:
            return self._read(connection, name)[0]

    def list(self) -> tuple[ComputeHost, ...]:
        """Return all hosts by name, with what is claimed of each."""
        with self._engine.reading() as connection:
            return self._read(connection, None)

    def claim(self, server: Server, host: ComputeHost) -> Server | None:
        """Place a server on a host, exactly as the host was when it was read.

        The scheduler holds the lease on ``server``; the claim ends it, and
        the server is the host's to spawn. None when the host has changed
        since, by another claim for example, or the server's group doesn't want
        it there any more: read both again and decide again.
        Raises StaleRecord when the server isn't the holder's to place.
        """
        with self._engine.writing() as connection:
            if groups.refusal(connection, server, host.name) or not _hold(connection, host):
                return None
            placed = connection.execute(
                sa.update(servers)
                .where(
                    servers.c.id == server.id,
                    servers.c.task_state == TaskState.SCHEDULING,
                    servers.c.lease_holder == server.lease_holder,
                )
                .values(
                    host=host.name,
                    zone=host.zone,
                    task_state=TaskState.SPAWNING,
                    attempts=0,
                    lease_holder=None,
                    lease_until=None,
                    version=servers.c.version + 1,
                    updated_at=utcnow(),
                )
            )
            if placed.rowcount != 1:
                raise StaleRecord(f"server {server.id} isn't {server.lease_holder}'s to place any more")
            actions.end_step(connection, server)
            connection.execute(
                sa.insert(allocations).values(
                    server_id=server.id,
                    host=host.name,
                    vcpus=server.flavor.vcpus,
                    memory_mb=server.flavor.memory_mb,
                    disk_gb=server.flavor.disk_gb,
                )
            )
            row = connection.execute(sa.select(servers).where(servers.c.id == server.id)).mappings().one()
            return records.server(row)

    def claim_larger(self, server: Server, host: ComputeHost, flavor: Flavor) -> Server | None:
        """Let a server claim what its own flavor or ``flavor`` needs, whichever is more.

        The scheduler holds the lease on ``server``; the claim ends it, and the
        server is its host's to resize. None and StaleRecord as in ``claim``.
        """
        both = largest(server.flavor, flavor)
        with self._engine.writing() as connection:
            if not _hold(connection, host):
                return None
            taken = connection.execute(
                sa.update(servers)
                .where(
                    servers.c.id == server.id,
                    servers.c.host == host.name,
                    servers.c.task_state == TaskState.RESIZE_PREP,
                    servers.c.lease_holder == server.lease_holder,
                )
                .values(
                    task_state=TaskState.RESIZE_FINISH,
                    attempts=0,
                    lease_holder=None,
                    lease_until=None,
                    version=servers.c.version + 1,
                    updated_at=utcnow(),
                )
            )
            if taken.rowcount != 1:
                raise StaleRecord(f"server {server.id} isn't {server.lease_holder}'s to resize any more")
            actions.end_step(connection, server)
            migration_log.begin(connection, server, flavor)
            connection.execute(
                sa.update(allocations)
                .where(allocations.c.server_id == server.id)
                .values(vcpus=both.vcpus, memory_mb=both.memory_mb, disk_gb=both.disk_gb)
            )
            row = connection.execute(sa.select(servers).where(servers.c.id == server.id)).mappings().one()
            return records.server(row)

    def drop_stray_allocations(self, name: str) -> int:
        """Remove allocations on a host of servers that aren't there."""
        placed = sa.select(servers.c.id).where(servers.c.host == name, servers.c.vm_state != VmState.DELETED)
        with self._engine.writing() as connection:
            dropped = connection.execute(
                sa.delete(allocations).where(
                    allocations.c.host == name, allocations.c.server_id.not_in(placed)
                )
            )
            if dropped.rowcount:
                connection.execute(
                    sa.update(hosts).where(hosts.c.name == name).values(generation=hosts.c.generation + 1)
                )
            return int(dropped.rowcount)

    def _read(self, connection: Connection, name: str | None) -> tuple[ComputeHost, ...]:
        of_host = sa.true() if name is None else hosts.c.name == name
        zone = zone_of_host().label("effective_zone")
        statement = sa.select(hosts, zone).where(of_host).order_by(hosts.c.name)
        rows = connection.execute(statement).mappings().all()
        if name is not None and not rows:
            raise NotFound(f"host {name} not found")
        claims: dict[str, list[Any]] = defaultdict(list)
        on_host = sa.true() if name is None else allocations.c.host == name
        for claim in connection.execute(sa.select(allocations).where(on_host)):
            claims[claim.host].append(claim)
        oldest = now(connection) - self._down_after
        found = []
        for row in rows:
            held = claims[row["name"]]
            used = {what: sum(getattr(c, what) for c in held) for what in ("vcpus", "memory_mb", "disk_gb")}
            ids = frozenset(claim.server_id for claim in held)
            up = row["heartbeat_at"] >= oldest and not row["forced_down"]
            found.append(records.host(row, used, ids, up=up))
        return tuple(found)


def _hold(connection: Connection, host: ComputeHost) -> bool:
    """Move a host's generation on; False when it has changed since it was read."""
    held = connection.execute(
        sa.update(hosts)
        .where(hosts.c.name == host.name, hosts.c.generation == host.generation)
        .values(generation=host.generation + 1)
    )
    return held.rowcount == 1
