"""Compute hosts and what is claimed of them."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from novalite.db import actions, groups, migration_log, records
from novalite.db.aggregates import zone_of_host
from novalite.db.engine import Engine, Records, insert_new, now, tried_again
from novalite.db.tables import (
    aggregate_hosts,
    allocations,
    held_allocations,
    host_images,
    hosts,
    servers,
)
from novalite.errors import Conflict, NotFound, StaleRecord
from novalite.model import ComputeHost, Flavor, Server, TaskState, VmState, utcnow

_OFFER = (
    "zone",
    "hypervisor_type",
    "hypervisor_version",
    "virt_type",
    "arch",
    "ip",
    "console_url",
    "vcpus",
    "memory_mb",
    "disk_gb",
    "disks_url",
)
_FIRST = 2**30  # of as many numbers a host's generation begins with any
_SIZES = ("vcpus", "memory_mb", "disk_gb")


class Look(NamedTuple):
    """What has changed since some hosts were read: those that have, which are down since when, which gone.

    ``images`` maps digests that weren't known to the ids of images they stand for.
    """

    changed: tuple[ComputeHost, ...]
    down: Mapping[str, datetime]
    gone: frozenset[str] = frozenset()
    images: Mapping[str, frozenset[str]] = MappingProxyType({})


def largest(one: Flavor, other: Flavor) -> Flavor:
    """Return a flavor that has room for either."""
    return replace(
        one,
        vcpus=max(one.vcpus, other.vcpus),
        memory_mb=max(one.memory_mb, other.memory_mb),
        disk_gb=max(one.disk_gb, other.disk_gb),
        swap_mb=max(one.swap_mb, other.swap_mb),
        ephemeral_gb=max(one.ephemeral_gb, other.ephemeral_gb),
    )


@tried_again
class HostRecords(Records):
    """Queries on hosts and claims; one method is one transaction.

    A host is up while its heartbeat is younger than ``down_after`` seconds,
    by the database's clock, and nobody has said that it is down.
    """

    def __init__(self, engine: Engine, *, down_after: float) -> None:
        super().__init__(engine)
        self._down_after = timedelta(seconds=down_after)

    def register(self, host: ComputeHost, images: Collection[str] = ()) -> None:
        """Add a host that has ``images``, or renew what it offers; it is its heartbeat, too.

        Whether the host is enabled stays as it was. Of the images only their
        digest is written, or compared, while they stay the same.
        """
        has = json.dumps(sorted(images), separators=(",", ":"))
        digest = hashlib.sha256(has.encode()).hexdigest() if images else None
        offer = {**{name: getattr(host, name) for name in _OFFER}, "images_digest": digest}
        with self._engine.writing() as connection:
            beat = {**offer, "uptime": host.uptime, "heartbeat_at": now(connection)}
            # The row is locked first: the generation counts with what is in it.
            known = sa.select(hosts).where(hosts.c.name == host.name).with_for_update()
            row = connection.execute(known).mappings().first()
            if row is None:
                # So that one that was deleted and is back isn't taken for what it was.
                new = {"name": host.name, "generation": 1 + secrets.randbelow(_FIRST), **beat}
                new |= {"enabled": host.enabled, "disabled_reason": host.disabled_reason}
                if insert_new(connection, hosts, new):
                    _keep_images(connection, host.name, digest, has)
                    return
                row = connection.execute(known).mappings().one()
            changed = any(row[name] != value for name, value in offer.items())
            connection.execute(
                sa.update(hosts)
                .where(hosts.c.name == host.name)
                .values(**beat, generation=hosts.c.generation + int(changed))
            )
            if row["images_digest"] != digest:
                _keep_images(connection, host.name, digest, has)

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
            return self._one(connection, name)

    def delete(self, name: str) -> None:
        """Forget a host, in its aggregates as well; one that lives is back with its next heartbeat.

        Raises NotFound, and Conflict while there are servers on it, or kept there for a way back.
        """
        with self._engine.writing() as connection:
            held = sa.update(hosts).where(hosts.c.name == name).values(generation=hosts.c.generation + 1)
            if connection.execute(held).rowcount != 1:
                raise NotFound(f"host {name} not found")
            placed = sa.select(servers.c.id).where(
                servers.c.host == name, servers.c.vm_state != VmState.DELETED
            )
            claimed = sa.select(allocations.c.server_id).where(allocations.c.host == name)
            kept = sa.select(held_allocations.c.server_id).where(held_allocations.c.host == name)
            if any(connection.scalar(each.limit(1)) for each in (placed, claimed, kept)):
                raise Conflict(
                    "Unable to delete compute service that is hosting instances. Migrate or delete the "
                    "instances first."
                )
            connection.execute(sa.delete(aggregate_hosts).where(aggregate_hosts.c.host == name))
            connection.execute(sa.delete(host_images).where(host_images.c.host == name))
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
            return self._one(connection, name)

    def list(self) -> tuple[ComputeHost, ...]:
        """Return all hosts by name, with what is claimed of each."""
        with self._engine.reading() as connection:
            return self._read(connection, None)

    def briefly(self, names: Collection[str]) -> tuple[ComputeHost, ...]:
        """Return the hosts of these names that are there, as if nothing were claimed of them."""
        if not names:
            return ()
        with self._engine.reading() as connection:
            return self._read(connection, names, claims=False)

    def look(self, known: Mapping[str, int], images: Collection[str] = ()) -> Look:
        """Return the hosts that aren't in ``known``, or not with their generation there, and who is down.

        What is claimed is read of those alone, and which images they have where
        their digest isn't among ``images``. A host's generation only grows,
        and where it begins is random, so their sum tells whether there are any.
        """
        with self._engine.reading() as connection:
            oldest = now(connection) - self._down_after
            silent = sa.or_(hosts.c.forced_down, hosts.c.heartbeat_at < oldest)
            down = dict(connection.execute(sa.select(hosts.c.name, hosts.c.heartbeat_at).where(silent)).all())
            total = sa.select(sa.func.coalesce(sa.func.sum(hosts.c.generation), 0), sa.func.count())
            marked, count = connection.execute(total.select_from(hosts)).one()
            if (int(marked), count) == (sum(known.values()), len(known)):
                return Look((), down)
            marks = dict(connection.execute(sa.select(hosts.c.name, hosts.c.generation)).all())
            names = [name for name, generation in marks.items() if known.get(name) != generation]
            changed = self._read(connection, names)
            told = _images(connection, changed, images)
            return Look(changed, down, frozenset(known.keys() - marks.keys()), told)

    def claim(self, server: Server, host: ComputeHost) -> Server | None:
        """Place a server on a host, exactly as the host was when it was read.

        The scheduler holds the lease on ``server``; the claim ends it, and
        the server is the host's to spawn. None when the host has changed
        since, by another claim for example, or the server's group doesn't want
        it there any more: read both again and decide again.
        Raises StaleRecord when the server isn't the holder's to place.
        """
        with self._engine.writing() as connection:
            if groups.refusal(connection, server, host.name) or not hold(connection, host):
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
                    disk_gb=server.flavor.disks_gb,
                )
            )
            text = connection.execute(sa.select(records.SERVER).where(servers.c.id == server.id)).scalar_one()
            return records.server(text)

    def claim_larger(self, server: Server, host: ComputeHost, flavor: Flavor) -> Server | None:
        """Let a server claim what its own flavor or ``flavor`` needs, whichever is more.

        The scheduler holds the lease on ``server``; the claim ends it, and the
        server is its host's to resize. None and StaleRecord as in ``claim``.
        """
        both = largest(server.flavor, flavor)
        with self._engine.writing() as connection:
            if not hold(connection, host):
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
            migration_log.begin(connection, server, host.name, flavor, migration_log.RESIZE)
            connection.execute(
                sa.update(allocations)
                .where(allocations.c.server_id == server.id)
                .values(vcpus=both.vcpus, memory_mb=both.memory_mb, disk_gb=both.disks_gb)
            )
            text = connection.execute(sa.select(records.SERVER).where(servers.c.id == server.id)).scalar_one()
            return records.server(text)

    def drop_stray_allocations(self, name: str) -> int:
        """Remove allocations on a host of servers that aren't there."""
        there = sa.select(servers.c.id).where(servers.c.vm_state != VmState.DELETED)
        with self._engine.writing() as connection:
            dropped = 0
            for claims, right in (
                (allocations, there.where(servers.c.host == name)),
                (held_allocations, there),
            ):
                strays = sa.delete(claims).where(claims.c.host == name, claims.c.server_id.not_in(right))
                dropped += connection.execute(strays).rowcount
            if dropped:
                connection.execute(
                    sa.update(hosts).where(hosts.c.name == name).values(generation=hosts.c.generation + 1)
                )
            return dropped

    def _one(self, connection: Connection, name: str) -> ComputeHost:
        found = self._read(connection, (name,))
        if not found:
            raise NotFound(f"host {name} not found")
        return found[0]

    def _read(
        self, connection: Connection, names: Collection[str] | None, *, claims: bool = True
    ) -> tuple[ComputeHost, ...]:
        wanted = sa.true() if names is None else hosts.c.name.in_(names)
        zone = zone_of_host().label("effective_zone")
        statement = sa.select(hosts, zone).where(wanted).order_by(hosts.c.name)
        rows = connection.execute(statement).mappings().all()
        held: dict[str, list[Any]] = defaultdict(list)
        if claims:
            both = (_claims(table, names) for table in (allocations, held_allocations))
            for claim in connection.execute(sa.union_all(*both)):
                held[claim.host].append(claim)
        oldest = now(connection) - self._down_after
        found = []
        for row in rows:
            here = held[row["name"]]
            used = {what: sum(getattr(claim, what) for claim in here) for what in _SIZES}
            ids = frozenset(claim.server_id for claim in here if claim.placed)
            up = not row["forced_down"] and row["heartbeat_at"] >= oldest
            found.append(records.host(row, used, ids, up=up))
        return tuple(found)


def _keep_images(connection: Connection, host: str, digest: str | None, images: str) -> None:
    """Keep which images a host has; its row is locked."""
    connection.execute(sa.delete(host_images).where(host_images.c.host == host))
    if digest is not None:
        connection.execute(sa.insert(host_images).values(host=host, digest=digest, images=images))


def _images(
    connection: Connection, changed: Collection[ComputeHost], known: Collection[str]
) -> dict[str, frozenset[str]]:
    """Return the images of those hosts whose digest isn't known, by it.

    One that is changed meanwhile is missing, and its host has changed once more.
    """
    names = [host.name for host in changed if host.images_digest and host.images_digest not in known]
    found: dict[str, frozenset[str]] = {}
    if names:
        told = sa.select(host_images.c.digest, host_images.c.images).where(host_images.c.host.in_(names))
        for row in connection.execute(told):
            if row.digest not in found:
                # Most hosts have the same ones.
                found[row.digest] = frozenset(sys.intern(each) for each in json.loads(row.images))
    return found


def _claims(claims: sa.Table, names: Collection[str] | None) -> sa.Select[Any]:
    placed = sa.literal(int(claims is allocations)).label("placed")
    found = sa.select(claims.c.host, claims.c.server_id, *(claims.c[name] for name in _SIZES), placed)
    return found if names is None else found.where(claims.c.host.in_(names))


def hold(connection: Connection, host: ComputeHost) -> bool:
    """Move a host's generation on; False when it has changed since it was read."""
    held = connection.execute(
        sa.update(hosts)
        .where(hosts.c.name == host.name, hosts.c.generation == host.generation)
        .values(generation=host.generation + 1)
    )
    return held.rowcount == 1
