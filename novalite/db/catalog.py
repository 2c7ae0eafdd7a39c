"""Flavors and key pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import sqlalchemy as sa

from novalite.db import patterns, records
from novalite.db.engine import Records, insert_new, tried_again
from novalite.db.locks import lock_owner
from novalite.db.tables import flavor_access, flavors, keypairs
from novalite.errors import (
    FlavorExists,
    FlavorNotFound,
    InvalidInput,
    KeyPairExists,
    KeyPairNotFound,
    QuotaExceeded,
)
from novalite.model import Flavor, KeyPair, Page

FLAVOR_SORT_FIELDS = frozenset(
    {"id", "name", "vcpus", "memory_mb", "disk_gb", "swap_mb", "ephemeral_gb", "rxtx_factor", "created_at"}
)


@tried_again
class FlavorRecords(Records):
    """Queries on flavors; one method is one transaction."""

    def insert(self, flavor: Flavor) -> None:
        """Add a flavor; raise FlavorExists when its id or name is taken."""
        values = {field.name: getattr(flavor, field.name) for field in fields(Flavor)}
        values["extra_specs"] = dict(flavor.extra_specs)
        with self._engine.writing() as connection:
            taken = sa.or_(flavors.c.id == flavor.id, flavors.c.name == flavor.name)
            if connection.scalar(sa.select(flavors.c.id).where(taken)) is not None:
                raise FlavorExists(f"a flavor with id {flavor.id} or name {flavor.name} exists")
            try:
                connection.execute(sa.insert(flavors).values(**values))
            except sa.exc.IntegrityError as error:
                raise FlavorExists(f"a flavor with id {flavor.id} or name {flavor.name} exists") from error

    def get(self, flavor_id: str) -> Flavor:
        """Return one flavor; raise FlavorNotFound."""
        with self._engine.reading() as connection:
            row = connection.execute(sa.select(flavors).where(flavors.c.id == flavor_id)).mappings().first()
        if row is None:
            raise FlavorNotFound(f"Flavor {flavor_id} could not be found.")
        return records.flavor(row)

    def list(
        self,
        *,
        public: bool | None,
        project: str | None = None,
        min_disk: int,
        min_ram: int,
        name: str | None = None,
        sort: str,
        descending: bool,
        limit: int,
        marker: str | None,
    ) -> Page[Flavor]:
        """Return one page; raise InvalidInput for a bad marker or sort key.

        ``project`` sees the flavors it was given access to as well.
        """
        if sort not in FLAVOR_SORT_FIELDS:
            raise InvalidInput(f"flavors can't be sorted by {sort}")
        conditions: list[sa.ColumnElement[bool]] = [
            flavors.c.disk_gb >= min_disk,
            flavors.c.memory_mb >= min_ram,
        ]
        if public is not None:
            wanted: sa.ColumnElement[bool] = flavors.c.public.is_(public)
            conditions.append(wanted if project is None else sa.or_(wanted, _given_to(project)))
        keys = [flavors.c[sort], flavors.c.id]
        with self._engine.reading() as connection:
            if name is not None:
                conditions.append(patterns.found_by(connection, flavors.c.name, name))
            if marker is not None:
                at = connection.execute(sa.select(*keys).where(flavors.c.id == marker)).first()
                if at is None:
                    raise InvalidInput(f"marker {marker} not found")
                first, second = keys
                past = first < at[0] if descending else first > at[0]
                tied = second < at[1] if descending else second > at[1]
                conditions.append(sa.or_(past, sa.and_(first == at[0], tied)))
            order = [key.desc() if descending else key.asc() for key in keys]
            rows = connection.execute(
                sa.select(flavors).where(*conditions).order_by(*order).limit(limit + 1)
            ).mappings()
            found = [records.flavor(row) for row in rows]
        items = tuple(found[:limit])
        return Page(items, items[-1].id if len(found) > limit and items else None)

    def delete(self, flavor_id: str) -> None:
        """Remove a flavor; servers keep their snapshot. Raises FlavorNotFound."""
        with self._engine.writing() as connection:
            gone = connection.execute(sa.delete(flavors).where(flavors.c.id == flavor_id))
            if gone.rowcount != 1:
                raise FlavorNotFound(f"Flavor {flavor_id} could not be found.")
            connection.execute(sa.delete(flavor_access).where(flavor_access.c.flavor_id == flavor_id))

    def change_specs(self, flavor_id: str, change: Callable[[dict[str, str]], None]) -> Flavor:
        """Change a flavor's extra specs; raise FlavorNotFound and what ``change`` raises."""
        with self._engine.writing() as connection:
            found = sa.select(flavors).where(flavors.c.id == flavor_id).with_for_update()
            row = connection.execute(found).mappings().first()
            if row is None:
                raise FlavorNotFound(f"Flavor {flavor_id} could not be found.")
            specs = dict(row["extra_specs"])
            change(specs)
            connection.execute(sa.update(flavors).where(flavors.c.id == flavor_id).values(extra_specs=specs))
            return records.flavor({**row, "extra_specs": specs})

    def describe(self, flavor_id: str, description: str | None) -> Flavor:
        """Set a flavor's description; raise FlavorNotFound."""
        with self._engine.writing() as connection:
            connection.execute(
                sa.update(flavors).where(flavors.c.id == flavor_id).values(description=description)
            )
            row = connection.execute(sa.select(flavors).where(flavors.c.id == flavor_id)).mappings().first()
            if row is None:
                raise FlavorNotFound(f"Flavor {flavor_id} could not be found.")
            return records.flavor(row)

    def projects(self, flavor_id: str) -> tuple[str, ...]:
        """Return the projects that were given access to a flavor, sorted."""
        with self._engine.reading() as connection:
            return tuple(
                connection.scalars(
                    sa.select(flavor_access.c.project)
                    .where(flavor_access.c.flavor_id == flavor_id)
                    .order_by(flavor_access.c.project)
                )
            )

    def give_access(self, flavor_id: str, project: str) -> bool:
        """Let a project use a flavor; False when it may already."""
        with self._engine.writing() as connection:
            return insert_new(connection, flavor_access, {"flavor_id": flavor_id, "project": project})

    def take_access(self, flavor_id: str, project: str) -> bool:
        """Take a flavor from a project; False when it hadn't it."""
        with self._engine.writing() as connection:
            gone = connection.execute(
                sa.delete(flavor_access).where(
                    flavor_access.c.flavor_id == flavor_id, flavor_access.c.project == project
                )
            )
            return bool(gone.rowcount)


def _given_to(project: str) -> sa.ColumnElement[bool]:
    return sa.exists().where(flavor_access.c.flavor_id == flavors.c.id, flavor_access.c.project == project)


@tried_again
class KeyPairRecords(Records):
    """Queries on key pairs; one method is one transaction."""

    def insert(self, pair: KeyPair, *, quota: int) -> None:
        """Add a key pair; raise KeyPairExists or QuotaExceeded."""
        values = {field.name: getattr(pair, field.name) for field in fields(KeyPair)}
        with self._engine.writing() as connection:
            lock_owner(connection, f"user:{pair.user}")
            names = set(connection.scalars(sa.select(keypairs.c.name).where(keypairs.c.user == pair.user)))
            if pair.name in names:
                raise KeyPairExists(f"key pair {pair.name} exists")
            if 0 <= quota <= len(names):
                raise QuotaExceeded(f"quota exceeded for key_pairs: in use {len(names)} of {quota}")
            connection.execute(sa.insert(keypairs).values(**values))

    def get(self, user: str, name: str) -> KeyPair:
        """Return one key pair; raise KeyPairNotFound."""
        with self._engine.reading() as connection:
            row = (
                connection.execute(
                    sa.select(keypairs).where(keypairs.c.user == user, keypairs.c.name == name)
                )
                .mappings()
                .first()
            )
        if row is None:
            raise KeyPairNotFound(f"key pair {name} not found")
        return records.keypair(row)

    def list(self, user: str, *, limit: int, marker: str | None) -> Page[KeyPair]:
        """Return one page by name; raise InvalidInput for a bad marker."""
        conditions = [keypairs.c.user == user]
        with self._engine.reading() as connection:
            if marker is not None:
                known = sa.select(keypairs.c.name).where(keypairs.c.user == user, keypairs.c.name == marker)
                if connection.scalar(known) is None:
                    raise InvalidInput(f"marker {marker} not found")
                conditions.append(keypairs.c.name > marker)
            rows = connection.execute(
                sa.select(keypairs).where(*conditions).order_by(keypairs.c.name).limit(limit + 1)
            ).mappings()
            found = [records.keypair(row) for row in rows]
        items = tuple(found[:limit])
        return Page(items, items[-1].name if len(found) > limit and items else None)

    def delete(self, user: str, name: str) -> None:
        """Remove a key pair; servers keep theirs. Raises KeyPairNotFound."""
        with self._engine.writing() as connection:
            gone = connection.execute(
                sa.delete(keypairs).where(keypairs.c.user == user, keypairs.c.name == name)
            )
            if gone.rowcount != 1:
                raise KeyPairNotFound(f"key pair {name} not found")
