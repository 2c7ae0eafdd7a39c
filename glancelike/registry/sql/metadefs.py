"""Metadata definitions in SQL: a namespace is one row, and one document."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from glancelike.errors import InvalidMarker, NamespaceExists, NamespaceNotFound, StaleNamespace
from glancelike.model import Namespace, NamespacePage, NamespaceQuery, Viewer, utcnow
from glancelike.registry import values
from glancelike.registry.metadef_values import (
    CONTENT,
    checked_namespace,
    checked_namespace_query,
    decoded,
    encoded,
)
from glancelike.registry.parts import MetadefRecords
from glancelike.registry.sql import paging
from glancelike.registry.sql.database import Database, insert_new
from glancelike.registry.sql.records import batches
from glancelike.registry.sql.tables import associations, namespaces, resource_types

n, a, rt = namespaces.c, associations.c, resource_types.c
PLAIN = ("name", "display_name", "description", "visibility", "protected", "owner")
SHOWN = (*(n[field] for field in PLAIN), n.version, n.created_at, n.updated_at, n.resource_types)


class MetadefSql(MetadefRecords, Database):
    """Keep namespaces of metadata definitions, one row each."""

    def create_namespace(self, namespace: Namespace) -> Namespace:
        namespace = replace(checked_namespace(namespace), version=1)
        with self._writing() as connection:
            try:
                made = connection.execute(sa.insert(namespaces), _row(namespace))
            except IntegrityError:
                raise NamespaceExists(f"namespace {namespace.name!r} exists") from None
            _associate(connection, made.inserted_primary_key[0], namespace)  # type: ignore[index]
        return namespace

    def get_namespace(self, name: str, viewer: Viewer) -> Namespace:
        if values.storable(name):
            statement = sa.select(*SHOWN, n.document).where(n.name == name, *_visible(viewer))
            with self._looking() as connection:
                row = connection.execute(statement).first()
            if row is not None:
                return _to_namespace(row, **decoded(row.document))
        raise NamespaceNotFound(f"namespace {name!r} not found")

    def list_namespaces(self, query: NamespaceQuery, viewer: Viewer) -> NamespacePage:
        query = checked_namespace_query(query)
        wanted = [*_visible(viewer), *_matching(query)]
        with self._reading() as connection:
            marker = _marker(connection, query, viewer)
            if marker:
                parts = paging.after(n, query.sort, [value is None for value in marker])
                wanted.append(sa.or_(*(part.condition() for part in parts)))
            ordered = paging.order(n, query.sort, explicit=connection.dialect.name == "postgresql")
            statement = sa.select(*SHOWN).where(*wanted).order_by(*ordered).limit(query.limit + 1)
            rows = connection.execute(
                statement, {f"marker{number}": value for number, value in enumerate(marker)}
            ).all()
        found = tuple(_to_namespace(row) for row in rows[: query.limit])
        return NamespacePage(found, found[-1].name if found and len(rows) > len(found) else None)

    def update_namespace(self, name: str, namespace: Namespace, *, expect: int) -> Namespace:
        namespace = replace(checked_namespace(namespace), version=expect + 1, updated_at=utcnow())
        with self._writing() as connection:
            found = _expected(connection, name, expect)
            namespace = replace(namespace, created_at=found.created_at)
            try:
                connection.execute(sa.update(namespaces).where(n.id == found.id).values(_row(namespace)))
            except IntegrityError:
                raise NamespaceExists(f"namespace {namespace.name!r} exists") from None
            _associate(connection, found.id, namespace)
        return namespace

    def delete_namespace(self, name: str, *, expect: int) -> None:
        with self._writing() as connection:
            found = _expected(connection, name, expect)
            connection.execute(sa.delete(associations).where(a.namespace_id == found.id))
            connection.execute(sa.delete(namespaces).where(n.id == found.id))

    def resource_types(self) -> tuple[tuple[str, datetime, datetime], ...]:
        statement = sa.select(rt.name, rt.created_at, rt.updated_at).order_by(rt.name)
        with self._looking() as connection:
            return tuple((row[0], row[1], row[2]) for row in connection.execute(statement))


def _visible(viewer: Viewer) -> list[sa.ColumnElement[bool]]:
    if viewer.admin:
        return []
    public = n.visibility == "public"
    return [public if viewer.project is None else public | (n.owner == viewer.project)]


def _matching(query: NamespaceQuery) -> list[sa.ColumnElement[bool]]:
    found = []
    if query.visibility is not None:
        found.append(n.visibility == query.visibility)
    if query.owner is not None:
        found.append(n.owner == query.owner)
    if query.resource_types:
        of_these = a.resource_type.in_(sorted(query.resource_types))
        found.append(n.id.in_(sa.select(a.namespace_id).where(of_these)))
    return found


def _marker(connection: Connection, query: NamespaceQuery, viewer: Viewer) -> tuple[Any, ...]:
    if query.marker is None:
        return ()
    if values.storable(query.marker):
        keys = (n[key.field] for key in query.sort)
        row = connection.execute(sa.select(*keys).where(n.name == query.marker, *_visible(viewer))).first()
        if row is not None:
            return tuple(row)
    raise InvalidMarker(f"marker {query.marker!r} not found")


def _expected(connection: Connection, name: str, version: int) -> Any:
    """Lock the namespace's row, and return its id and time."""
    if values.storable(name):
        statement = sa.select(n.id, n.version, n.created_at).where(n.name == name).with_for_update()
        found = connection.execute(statement).first()
        if found is not None:
            if found.version != version:
                raise StaleNamespace(f"namespace {name!r} is at version {found.version}, not {version}")
            return found
    raise NamespaceNotFound(f"namespace {name!r} not found")


def _associate(connection: Connection, namespace_id: int, namespace: Namespace) -> None:
    """Index the namespace's resource types, as the document has them."""
    wanted = set(namespace.resource_types)
    old = set(connection.execute(sa.select(a.resource_type).where(a.namespace_id == namespace_id)).scalars())
    for batch in batches(sorted(old - wanted)):
        gone = (a.namespace_id == namespace_id) & a.resource_type.in_(batch)
        connection.execute(sa.delete(associations).where(gone))
    new = sorted(wanted - old)
    if new:
        _make_resource_types(connection, new)
        connection.execute(
            sa.insert(associations), [{"namespace_id": namespace_id, "resource_type": name} for name in new]
        )


def _make_resource_types(connection: Connection, names: Iterable[str]) -> None:
    missing = set(names)
    for batch in batches(sorted(missing)):
        missing.difference_update(connection.execute(sa.select(rt.name).where(rt.name.in_(batch))).scalars())
    now = utcnow()
    # In one order everywhere, so that two who wait for one another can't be.
    for name in sorted(missing):
        insert_new(connection, resource_types, {"name": name, "created_at": now, "updated_at": now})


def _row(namespace: Namespace) -> dict[str, Any]:
    return {
        **{field: getattr(namespace, field) for field in PLAIN},
        "version": namespace.version,
        "created_at": namespace.created_at,
        "updated_at": namespace.updated_at,
        "resource_types": encoded(namespace.resource_types),
        "document": encoded({part: getattr(namespace, part) for part in CONTENT}),
    }


def _to_namespace(row: Any, **content: Any) -> Namespace:
    return Namespace(
        **{field: getattr(row, field) for field in PLAIN},
        resource_types=decoded(row.resource_types),
        **content,
        created_at=row.created_at,
        updated_at=row.updated_at,
        version=row.version,
    )
