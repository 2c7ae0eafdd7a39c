"""The SQL registry: one method, one transaction, values in and out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from oslo_config import cfg
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from glancelike.errors import (
    ImageExists,
    ImageNotFound,
    InvalidMarker,
    LimitExceeded,
    MemberExists,
    MemberNotFound,
    SchemaOutdated,
    StaleImage,
)
from glancelike.model import Image, Member, Page, Query, Status, Viewer, utcnow
from glancelike.registry import values
from glancelike.registry.base import Registry, Step
from glancelike.registry.sql import queries, records, schema
from glancelike.registry.sql.adoption import AdoptionSql
from glancelike.registry.sql.cached import CachedSql
from glancelike.registry.sql.database import ERRORS, insert_new
from glancelike.registry.sql.database import now as clock
from glancelike.registry.sql.metadefs import MetadefSql
from glancelike.registry.sql.migrations import revisions
from glancelike.registry.sql.quotas import QuotaSql, settle
from glancelike.registry.sql.scopes import Shape
from glancelike.registry.sql.tables import DELETED, images, leases, locations, members
from glancelike.registry.sql.tasks import TaskSql
from glancelike.registry.sql.upkeep import UpkeepSql
from glancelike.registry.sql.uploads import UploadSql
from glancelike.sql import options, upgrading
from glancelike.sql.engine import absent
from glancelike.sql.retries import retrying

OPTIONS = (
    cfg.StrOpt(
        "connection",
        secret=True,
        help="The database as an SQLAlchemy URL, such as sqlite:////var/lib/glancelike/images.db or "
        "postgresql://user:password@host/glancelike.",
    ),
    *options.OPTIONS,
)
i, m, le = images.c, members.c, leases.c


@retrying({*Registry.__abstractmethods__, "adopt"}, ERRORS.undone)
class SqlRegistry(TaskSql, UploadSql, QuotaSql, CachedSql, MetadefSql, AdoptionSql, UpkeepSql, Registry):
    """Keep images in SQLite, PostgreSQL, MySQL or MariaDB."""

    schemes = ("sqlite", "postgresql", "mysql", "mariadb")
    options = OPTIONS

    @classmethod
    def settings_from_uri(cls, uri: str) -> dict[str, Any]:
        return {"connection": uri}

    def open(self) -> None:
        """Connect and check the schema."""
        if absent(self._url):
            # Connecting would leave an empty file behind.
            raise SchemaOutdated(f"{self._where} doesn't exist yet: run `glancelike db upgrade`")
        self._database.open(lambda connection: schema.check(connection, self._where))

    def close(self) -> None:
        self._database.close()

    def upgrade(self) -> None:
        """Make or alter the tables. Raises SchemaNewer, RegistryUnavailable."""
        with self._upgrading() as upgrade:
            upgrade.finish()

    def upgrade_by(self, step: Step) -> int:
        with self._upgrading() as upgrade:
            return upgrade.run(step)

    @contextmanager
    def _upgrading(self) -> Iterator[schema.Upgrade]:
        with self._database.passing(bounded=False) as engine:
            yield schema.Upgrade(engine, self._where, upgrading.patience(engine, self.settings))

    def schema_version(self) -> tuple[str | None, str]:
        if absent(self._url):
            return None, revisions()[-1]
        with self._database.passing() as engine, engine.connect() as connection:
            return schema.current(connection), revisions()[-1]

    def next_step(self) -> Step | None:
        if absent(self._url):
            return Step.EXPAND
        with self._database.passing() as engine, engine.connect() as connection:
            return schema.next_step(connection, self._where)

    def create(self, image: Image, *, settles: str | None = None) -> Image:
        image = replace(values.checked_image(image), version=1)
        row = records.scalars_of(image)
        row.update(version=1, created_at=image.created_at, updated_at=image.updated_at)
        with self._writing() as connection:
            try:
                connection.execute(sa.insert(images), row)
            except IntegrityError:
                raise ImageExists(f"image {image.id} exists or existed") from None
            records.write_children(connection, image, records.Children())
            settle(connection, settles)
        return image

    def get(self, image_id: str, viewer: Viewer) -> Image:
        if values.storable(image_id):
            statement = queries.one(viewer.admin, viewer.project is not None, viewer.pending)
            with self._looking() as connection:
                rows = connection.execute(statement, {"id": image_id, "project": viewer.project}).all()
                found = records.to_image(rows)
                if found is not None:
                    return found
        raise ImageNotFound(f"image {image_id!r} not found")

    def list(self, query: Query, viewer: Viewer) -> Page:
        query = values.checked_query(query)
        shape = Shape.of(query, viewer)
        with self._reading() as connection:
            marker = self._marker(connection, query, viewer)
            bound = queries.parameters(query, viewer, marker)
            driver, empty = _driver(connection, shape, bound)
            nulls = None if marker is None else tuple(value is None for value in marker)
            explicit = connection.dialect.name == "postgresql"
            statement = None if empty else queries.page(shape, nulls, driver, explicit=explicit)
            if statement is None:
                return Page(())
            rows = connection.execute(statement, bound).all()
            found = records.to_images(connection, rows[: query.limit])
        return Page(found, found[-1].id if found and len(rows) > len(found) else None)

    def update(self, image: Image, *, expect: int, settles: str | None = None) -> Image:
        image = values.checked_image(image)
        row = records.scalars_of(image)
        del row["id"]
        now = utcnow()
        row.update(version=expect + 1, updated_at=now)
        with self._writing() as connection:
            self._compare_and_set(connection, image.id, expect, row)
            old = records.children_of(connection, [image.id])[image.id]
            records.write_children(connection, image, old)
            settle(connection, settles)
            created_at: datetime = connection.execute(
                sa.select(i.created_at).where(i.id == image.id)
            ).scalar_one()
        return replace(image, created_at=created_at, updated_at=now, version=expect + 1)

    def delete(self, image_id: str, *, expect: int) -> None:
        gone = {
            "shelf": DELETED,
            "status": Status.DELETED.value,
            "deleted_at": utcnow(),
            "version": expect + 1,
        }
        with self._writing() as connection:
            self._compare_and_set(connection, image_id, expect, gone)
            records.delete_children(connection, image_id)

    def locations_of(self, image_ids: Iterable[str]) -> dict[str, tuple[tuple[str, str], ...]]:
        found: dict[str, tuple[tuple[str, str], ...]] = {}
        where = images.outerjoin(locations, locations.c.image_id == i.id)
        statement = sa.select(i.id, locations.c.store, locations.c.key).select_from(where)
        with self._reading() as connection:
            for batch in records.batches(filter(values.storable, image_ids)):
                rows = connection.execute(
                    statement.where(i.id.in_(batch), i.shelf != DELETED).order_by(i.id, locations.c.position)
                )
                for image_id, store, key in rows:
                    place = () if store is None else ((store, key),)
                    found[image_id] = found.get(image_id, ()) + place
        return found

    def add_member(self, member: Member, *, limit: int = -1) -> Member:
        member = values.checked_member(member)
        with self._writing() as connection:
            # The image's row is the lock that keeps the count exact.
            alive = sa.select(i.created_at).where(i.id == member.image_id, i.shelf != DELETED)
            made = values.storable(member.image_id) and connection.scalar(alive.with_for_update())
            if not made:
                raise ImageNotFound(f"image {member.image_id!r} not found")
            if connection.execute(_member(member.image_id, member.project)).first() is not None:
                raise MemberExists(f"image {member.image_id} is shared with {member.project} already")
            if limit >= 0:
                count = sa.select(sa.func.count()).where(m.image_id == member.image_id)
                if connection.execute(count).scalar_one() >= limit:
                    raise LimitExceeded(f"image {member.image_id} can't have more than {limit} members")
            connection.execute(sa.insert(members), records.row_of_member(member, made))
        return member

    def get_member(self, image_id: str, project: str) -> Member:
        if values.storable(image_id) and values.storable(project):
            with self._looking() as connection:
                row = connection.execute(_member(image_id, project)).first()
                if row is not None:
                    return records.to_member(row)
        raise MemberNotFound(f"image {image_id!r} has no member {project!r}")

    def list_members(self, image_id: str) -> tuple[Member, ...]:
        if not values.storable(image_id):
            return ()
        statement = (
            sa.select(*records.MEMBER_COLUMNS).where(m.image_id == image_id).order_by(m.created_at, m.project)
        )
        with self._looking() as connection:
            return tuple(records.to_member(row) for row in connection.execute(statement))

    def update_member(self, member: Member) -> Member:
        member = values.checked_member(member)
        if not values.storable(member.image_id):
            raise MemberNotFound(f"image {member.image_id!r} has no member {member.project!r}")
        here = (m.image_id == member.image_id) & (m.project == member.project)
        with self._writing() as connection:
            done = connection.execute(
                sa.update(members).where(here).values(status=member.status.value, updated_at=utcnow())
            )
            if done.rowcount != 1:
                raise MemberNotFound(f"image {member.image_id!r} has no member {member.project!r}")
            return records.to_member(connection.execute(_member(member.image_id, member.project)).one())

    def delete_member(self, image_id: str, project: str) -> None:
        found = 0
        if values.storable(image_id) and values.storable(project):
            with self._writing() as connection:
                gone = sa.delete(members).where(m.image_id == image_id, m.project == project)
                found = connection.execute(gone).rowcount
        if not found:
            raise MemberNotFound(f"image {image_id!r} has no member {project!r}")

    def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        values.check_lease(name, holder, seconds)
        with self._writing() as connection:
            now = clock(connection)
            until = now + timedelta(seconds=seconds)
            free = (le.holder == holder) | (le.expires_at <= now)
            taken = sa.update(leases).where(le.name == name, free).values(holder=holder, expires_at=until)
            if connection.execute(taken).rowcount == 1:
                return True
            return insert_new(connection, leases, {"name": name, "holder": holder, "expires_at": until})

    def renew_lease(self, name: str, holder: str, seconds: float) -> bool:
        values.check_lease(name, holder, seconds)
        with self._writing() as connection:
            now = clock(connection)
            mine = sa.update(leases).where(le.name == name, le.holder == holder, le.expires_at > now)
            done = connection.execute(mine.values(expires_at=now + timedelta(seconds=seconds)))
            return done.rowcount == 1

    def release_lease(self, name: str, holder: str) -> None:
        values.check_lease(name, holder)
        with self._writing() as connection:
            connection.execute(sa.delete(leases).where(le.name == name, le.holder == holder))

    def leased(self, names: Iterable[str]) -> frozenset[str]:
        found: set[str] = set()
        with self._reading() as connection:
            now = clock(connection)
            for batch in records.batches(filter(values.storable, names)):
                held = sa.select(le.name).where(le.name.in_(batch), le.expires_at > now)
                found.update(connection.execute(held).scalars())
        return frozenset(found)

    def _marker(self, connection: Connection, query: Query, viewer: Viewer) -> Sequence[Any] | None:
        if query.marker is None:
            return None
        if values.storable(query.marker):
            statement = queries.marker(query.sort, viewer.admin, viewer.project is not None, viewer.pending)
            row = connection.execute(statement, {"id": query.marker, "project": viewer.project}).first()
            if row is not None:
                return row
        raise InvalidMarker(f"marker {query.marker!r} not found")

    def _compare_and_set(
        self, connection: Connection, image_id: str, expect: int, row: dict[str, Any]
    ) -> None:
        if values.storable(image_id):
            alive = (i.id == image_id) & (i.shelf != DELETED)
            done = connection.execute(sa.update(images).where(alive, i.version == expect).values(row))
            if done.rowcount == 1:
                return
            found = connection.scalar(sa.select(i.version).where(alive))
            if found is not None:
                raise StaleImage(f"image {image_id} is at version {found}, not {expect}")
        raise ImageNotFound(f"image {image_id!r} not found")


def _driver(connection: Connection, shape: Shape, bound: Mapping[str, Any]) -> tuple[int | None, bool]:
    """Find the condition to start from, and whether one matches nothing at all."""
    statement = queries.counts(shape)
    if statement is None:
        return None, False
    counted = connection.execute(statement, bound).one()
    few = min(range(len(counted)), key=lambda number: counted[number])
    return (few if counted[few] <= queries.PROBE else None), counted[few] == 0


def _member(image_id: str, project: str) -> sa.Select[Any]:
    return sa.select(*records.MEMBER_COLUMNS).where(m.image_id == image_id, m.project == project)
