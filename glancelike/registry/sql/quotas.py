"""Quotas in SQL: what a project uses and has reserved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement
from sqlalchemy.engine import Connection

from glancelike.errors import QuotaExceeded
from glancelike.model import Amounts
from glancelike.registry import values
from glancelike.registry.parts import QuotaRecords
from glancelike.registry.sql.database import Database, insert_new, now
from glancelike.registry.sql.records import batches
from glancelike.registry.sql.tables import (
    HIDDEN,
    LISTED,
    STAGED,
    images,
    locations,
    quota_projects,
    reservations,
)

i, lo, r = images.c, locations.c, reservations.c
# Sums of what a far server claims to hold must fit a number of the database.
LARGEST = 2**53


class QuotaSql(QuotaRecords, Database):
    """Count what projects use, and keep reservations, one row each."""

    def usage(self, project: str) -> Amounts:
        if not values.storable(project):
            return Amounts()
        statement = sa.select(*(_used(field, project).label(field) for field in values.AMOUNTS))
        with self._looking() as connection:
            found = connection.execute(statement).one()
        return Amounts(**{field: int(value) for field, value in found._mapping.items()})

    def reserve(
        self, name: str, project: str, amounts: Amounts, limits: Mapping[str, int], seconds: float
    ) -> None:
        checked = values.checked_limits(name, project, amounts, limits, seconds)
        while not self._reserved(name, project, amounts, checked, seconds):
            with self._writing() as connection:
                insert_new(connection, quota_projects, {"project": project})

    def _reserved(
        self, name: str, project: str, amounts: Amounts, limits: Mapping[str, int], seconds: float
    ) -> bool:
        """Reserve; return False when the project has no row to lock yet."""
        with self._writing() as connection:
            lock = sa.select(quota_projects).where(quota_projects.c.project == project)
            if connection.execute(lock.with_for_update()).first() is None:
                return False
            moment = now(connection)
            live = [r.project == project, r.name != name, r.expires_at > moment]
            if limits:
                # One statement: a record that settles a reservation is seen as either, never as both.
                taken = sa.select(*((_used(f, project) + _sum(r[f], *live)).label(f) for f in limits))
                for field, used in connection.execute(taken).one()._mapping.items():
                    wanted = getattr(amounts, field)
                    if used + wanted > limits[field]:
                        raise QuotaExceeded(
                            values.over_limit(project, field, limits[field], int(used), wanted)
                        )
            row = {field: min(getattr(amounts, field), LARGEST) for field in values.AMOUNTS}
            row |= {"project": project, "expires_at": moment + timedelta(seconds=seconds)}
            _drop(connection, name)
            connection.execute(sa.insert(reservations), {"name": name, **row})
        return True

    def extend_reservations(self, names: Iterable[str], seconds: float) -> None:
        values.check_seconds("a reservation", seconds)
        with self._writing() as connection:
            moment = now(connection)
            for batch in batches(sorted(filter(values.storable, names))):
                live = sa.update(reservations).where(r.name.in_(batch), r.expires_at > moment)
                connection.execute(live.values(expires_at=moment + timedelta(seconds=seconds)))

    def release_reservation(self, name: str) -> None:
        if values.storable(name):
            with self._writing() as connection:
                _drop(connection, name)


def settle(connection: Connection, name: str | None) -> None:
    """Drop a reservation, if any, that a record counts for now; raise LeaseLost when it has run out."""
    if name is not None:
        live = sa.delete(reservations).where(r.name == name, r.expires_at > now(connection))
        if connection.execute(live).rowcount != 1:
            raise values.run_out(name)


def _drop(connection: Connection, name: str) -> None:
    connection.execute(sa.delete(reservations).where(r.name == name))


def _sum(what: ColumnElement[Any], *where: ColumnElement[bool]) -> Any:
    return sa.select(sa.func.coalesce(sa.func.sum(what), 0)).where(*where).scalar_subquery()


def _used(field: str, project: str) -> Any:
    """Select how much of one field of Amounts a project uses."""
    # Written so that ix_images_usage has all of it.
    own = (i.owner == project, i.shelf.in_([LISTED, HIDDEN]))
    size = sa.case((i.size > LARGEST, LARGEST), else_=i.size)
    of_image = lo.image_id == i.id
    if field == "images":
        return sa.select(sa.func.count()).select_from(images).where(*own).scalar_subquery()
    if field == "uploading":
        under_way = i.status.in_(sorted(status.value for status in values.UPLOADING))
        return sa.select(sa.func.count()).select_from(images).where(*own, under_way).scalar_subquery()
    if field == "staged":
        return _sum(size, *own, sa.exists().where(of_image, lo.position == STAGED))
    stores = sa.select(sa.func.count()).where(of_image, lo.position > STAGED).correlate(images)
    return _sum(size * stores.scalar_subquery(), *own, i.size > 0)
