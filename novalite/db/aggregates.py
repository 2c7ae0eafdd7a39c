"""Host aggregates, and the zones that they make.

A host's zone is that of its aggregates, of which no two may name different
ones, else what the host says itself. Whatever changes a host's zone moves its
generation on first: claims that were decided by the old zone come too late,
and two changes of one host wait for each other.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from novalite.db.engine import Records, tried_again
from novalite.db.tables import aggregate_hosts, aggregates, allocations, held_allocations, hosts
from novalite.errors import AggregateExists, Conflict, InvalidInput, NotFound, NovaliteError
from novalite.groupings import Aggregate
from novalite.model import utcnow

#: The key under which a zone may be set as metadata.
ZONE_KEY = "availability_zone"


@tried_again
class AggregateRecords(Records):
    """Queries on aggregates; one method is one transaction."""

    def insert(self, aggregate: Aggregate) -> Aggregate:
        """Add an aggregate without hosts; raise AggregateExists when its name is taken."""
        values = {
            "uuid": aggregate.uuid or str(uuid.uuid4()),
            "name": aggregate.name,
            "zone": aggregate.zone,
            "metadata": dict(aggregate.metadata),
            "created_at": aggregate.created_at,
        }
        with self._engine.writing() as connection:
            _demand_free(connection, aggregate.name)
            try:
                connection.execute(sa.insert(aggregates).values(**values))
            except sa.exc.IntegrityError as error:
                raise _taken(aggregate.name) from error
            of_name = sa.select(aggregates.c.id).where(aggregates.c.name == aggregate.name)
            return _read(connection, connection.execute(of_name).scalar_one())

    def get(self, aggregate_id: int) -> Aggregate:
        """Return one aggregate; raise NotFound."""
        with self._engine.reading() as connection:
            return _read(connection, aggregate_id)

    def list(self) -> tuple[Aggregate, ...]:
        """Return all aggregates in the order they were made."""
        with self._engine.reading() as connection:
            inside: dict[int, list[str]] = defaultdict(list)
            for row in connection.execute(sa.select(aggregate_hosts).order_by(aggregate_hosts.c.host)):
                inside[row.aggregate_id].append(row.host)
            rows = connection.execute(sa.select(aggregates).order_by(aggregates.c.id)).mappings()
            return tuple(_aggregate(row, inside[row["id"]]) for row in rows)

    def update(self, aggregate_id: int, *, name: str | None = None, zone: str | None = None) -> Aggregate:
        """Give an aggregate another name or zone, or both.

        Raises NotFound, AggregateExists, and InvalidInput when its hosts are
        in another zone already or have servers.
        """
        with self._engine.writing() as connection:
            found = _locked(connection, aggregate_id)
            values: dict[str, object] = {"updated_at": utcnow()}
            if name is not None and name != found.name:
                _demand_free(connection, name)
                values["name"] = name
            if zone is not None:
                _demand_zone(connection, found, zone)
                values["zone"] = zone
            changed = sa.update(aggregates).where(aggregates.c.id == aggregate_id).values(**values)
            try:
                connection.execute(changed)
            except sa.exc.IntegrityError as error:
                raise _taken(str(name)) from error
            return _read(connection, aggregate_id)

    def set_metadata(self, aggregate_id: int, metadata: Mapping[str, str | None]) -> Aggregate:
        """Set some metadata, and remove what is None; the zone is part of it.

        Raises NotFound, and InvalidInput as ``update`` does.
        """
        with self._engine.writing() as connection:
            found = _locked(connection, aggregate_id)
            told = dict(metadata)
            zone = found.zone
            if ZONE_KEY in told:
                zone = told.pop(ZONE_KEY)
                if not zone:
                    raise InvalidInput(
                        f"Cannot update metadata of aggregate {aggregate_id}. Reason: Aggregate {found.name} "
                        f"does not support empty named availability zone."
                    )
                _demand_zone(connection, found, zone)
            merged = {**found.metadata, **told}
            kept = {key: value for key, value in merged.items() if value is not None}
            connection.execute(
                sa.update(aggregates)
                .where(aggregates.c.id == aggregate_id)
                .values(metadata=kept, zone=zone, updated_at=utcnow())
            )
            return _read(connection, aggregate_id)

    def delete(self, aggregate_id: int) -> None:
        """Remove an aggregate; raise NotFound, and InvalidInput while it has hosts."""
        with self._engine.writing() as connection:
            if _locked(connection, aggregate_id).hosts:
                raise InvalidInput(
                    f"Cannot remove aggregate {aggregate_id}. Reason: Host aggregate is not empty."
                )
            connection.execute(sa.delete(aggregates).where(aggregates.c.id == aggregate_id))

    def add_host(self, aggregate_id: int, host: str) -> Aggregate:
        """Put a host into an aggregate.

        Raises NotFound for either, and Conflict when it's there already, is
        in another zone, or has servers that would change their zone.
        """
        with self._engine.writing() as connection:
            found = _locked(connection, aggregate_id)
            _hold(connection, [host])
            if host in found.hosts:
                raise Conflict(f"Aggregate {aggregate_id} already has host {host}.")
            if found.zone is not None:
                told = f"Cannot add host to aggregate {aggregate_id}. Reason: "
                _demand_no_other(connection, found, [host], found.zone, lambda why: Conflict(told + why))
                before = zones_of(connection, [host])[host]
                if before != found.zone and _servers_on(connection, [host]):
                    raise Conflict(
                        f"{told}host {host} has servers, whose availability zone would change from {before} "
                        f"to {found.zone}."
                    )
            connection.execute(sa.insert(aggregate_hosts).values(aggregate_id=aggregate_id, host=host))
            return _touched(connection, aggregate_id)

    def remove_host(self, aggregate_id: int, host: str) -> Aggregate:
        """Take a host out of an aggregate.

        Raises NotFound when it isn't in there, and Conflict when it has
        servers that would change their zone.
        """
        with self._engine.writing() as connection:
            found = _locked(connection, aggregate_id)
            if host not in found.hosts:
                raise NotFound(f"Cannot remove host {host} in aggregate {aggregate_id}")
            _hold(connection, [host])
            connection.execute(
                sa.delete(aggregate_hosts).where(
                    aggregate_hosts.c.aggregate_id == aggregate_id, aggregate_hosts.c.host == host
                )
            )
            after = zones_of(connection, [host])[host]
            if found.zone not in (None, after) and _servers_on(connection, [host]):
                raise Conflict(
                    f"Cannot remove host from aggregate {aggregate_id}. Reason: host {host} has servers, "
                    f"whose availability zone would change from {found.zone} to {after}."
                )
            return _touched(connection, aggregate_id)


def zone_of_host() -> sa.ColumnElement[str]:
    """Return the column that tells a host's zone, in a query on hosts."""
    by_aggregate = (
        sa.select(sa.func.max(aggregates.c.zone))
        .where(aggregates.c.id == aggregate_hosts.c.aggregate_id, aggregate_hosts.c.host == hosts.c.name)
        .correlate(hosts)
        .scalar_subquery()
    )
    return sa.func.coalesce(by_aggregate, hosts.c.zone)


def zones_of(connection: Connection, names: Collection[str]) -> dict[str, str]:
    """Map hosts to their zones, within the caller's transaction."""
    rows = connection.execute(sa.select(hosts.c.name, zone_of_host()).where(hosts.c.name.in_(names)))
    return {row[0]: row[1] for row in rows}


def _demand_zone(connection: Connection, found: Aggregate, zone: str) -> None:
    """Raise InvalidInput unless an aggregate's hosts can be in a zone."""
    if not found.hosts:
        return
    _hold(connection, found.hosts)
    told = f"Cannot update aggregate {found.id}. Reason: "
    _demand_no_other(connection, found, found.hosts, zone, lambda why: InvalidInput(told + why))
    if zone != found.zone and _servers_on(connection, found.hosts):
        raise InvalidInput(f"{told}One or more hosts contain instances in this zone.")


def _demand_no_other(
    connection: Connection,
    found: Aggregate,
    names: Collection[str],
    zone: str,
    refused: Callable[[str], NovaliteError],
) -> None:
    """Raise an error unless all other aggregates of hosts have the same zone, or none."""
    others = set(
        connection.scalars(
            sa.select(aggregates.c.zone)
            .join(aggregate_hosts, aggregate_hosts.c.aggregate_id == aggregates.c.id)
            .where(
                aggregate_hosts.c.host.in_(names),
                aggregates.c.id != found.id,
                aggregates.c.zone.is_not(None),
                aggregates.c.zone != zone,
            )
        )
    )
    if others:
        raise refused(f"One or more hosts already in availability zone(s) {', '.join(sorted(others))}.")


def _hold(connection: Connection, names: Collection[str]) -> None:
    """Move hosts' generations on, which makes others wait; raise NotFound."""
    held = connection.execute(
        sa.update(hosts).where(hosts.c.name.in_(names)).values(generation=hosts.c.generation + 1)
    )
    if held.rowcount < len(names):
        raise NotFound(f"Compute host {', '.join(sorted(names))} could not be found.")


def _servers_on(connection: Connection, names: Collection[str]) -> bool:
    """Tell whether hosts have servers, or are the other hosts of some that move."""
    held = (
        sa.select(claims.c.server_id).where(claims.c.host.in_(names)).limit(1)
        for claims in (allocations, held_allocations)
    )
    return any(connection.scalar(each) is not None for each in held)


def _locked(connection: Connection, aggregate_id: int) -> Aggregate:
    return _read(connection, aggregate_id, lock=True)


def _touched(connection: Connection, aggregate_id: int) -> Aggregate:
    connection.execute(
        sa.update(aggregates).where(aggregates.c.id == aggregate_id).values(updated_at=utcnow())
    )
    return _read(connection, aggregate_id)


def _read(connection: Connection, aggregate_id: int, *, lock: bool = False) -> Aggregate:
    statement = sa.select(aggregates).where(aggregates.c.id == aggregate_id)
    row = connection.execute(statement.with_for_update() if lock else statement).mappings().first()
    if row is None:
        raise NotFound(f"Aggregate {aggregate_id} could not be found.")
    inside = connection.scalars(
        sa.select(aggregate_hosts.c.host)
        .where(aggregate_hosts.c.aggregate_id == aggregate_id)
        .order_by(aggregate_hosts.c.host)
    )
    return _aggregate(row, list(inside))


def _aggregate(row: RowMapping, inside: Collection[str]) -> Aggregate:
    return Aggregate(**row, hosts=tuple(inside))


def _demand_free(connection: Connection, name: str) -> None:
    if connection.scalar(sa.select(aggregates.c.id).where(aggregates.c.name == name)) is not None:
        raise _taken(name)


def _taken(name: str) -> AggregateExists:
    return AggregateExists(f"Aggregate {name} already exists.")
