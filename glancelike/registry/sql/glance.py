"""What the database of a Glance says, read in pages.

The tables are those of Glance from Rocky, which brought ``os_hidden``, to
33 (glance/db/sqlalchemy/models.py, models_metadef.py). Nothing is written,
and at no time is more than a page in memory.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection, Engine, RowMapping, make_url

from glancelike.errors import ConfigError
from glancelike.registry.sql.database import ERRORS
from glancelike.sql.engine import DIALECTS, absent, explained, shown

PAGE = 500
_MADE = "created_at updated_at"
_TABLES: Mapping[str, str] = {
    "images": "id name disk_format container_format size virtual_size status visibility checksum "
    "os_hash_algo os_hash_value min_disk min_ram owner protected os_hidden deleted deleted_at " + _MADE,
    "image_properties": "image_id name value deleted",
    "image_tags": "image_id value deleted",
    "image_locations": "id image_id value meta_data status deleted",
    "image_members": f"image_id member status deleted {_MADE}",
    "metadef_namespaces": f"id namespace display_name description visibility protected owner {_MADE}",
    "metadef_properties": "id namespace_id name json_schema",
    "metadef_objects": f"id namespace_id name description required json_schema {_MADE}",
    "metadef_tags": f"id namespace_id name {_MADE}",
    "metadef_resource_types": "id name",
    "metadef_namespace_resource_types": f"namespace_id resource_type_id properties_target prefix {_MADE}",
}
t = {
    name: sa.table(name, *(sa.column(column) for column in columns.split()))
    for name, columns in _TABLES.items()
}
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GlanceLocation:
    """A location as Glance keeps it: ``url`` may be encrypted, and may hold credentials."""

    url: str = field(repr=False)
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GlanceImage:
    """A row of ``images`` with the rows that belong to it; times are aware."""

    row: Row
    properties: Mapping[str, str]
    tags: frozenset[str]
    locations: tuple[GlanceLocation, ...]
    members: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class GlanceNamespace:
    """A row of ``metadef_namespaces`` with the rows that belong to it, in the order they were made."""

    row: Row
    resource_types: tuple[Row, ...]
    properties: tuple[Row, ...]
    objects: tuple[Row, ...]
    tags: tuple[Row, ...]


class GlanceDatabase:
    """The database of a Glance, by its SQLAlchemy URL. Raises ConfigError, RegistryError."""

    def __init__(self, url: str) -> None:
        self._engine, self._url = _engine(url)

    def close(self) -> None:
        """Disconnect."""
        self._engine.dispose()

    def check(self) -> None:
        """Raise ConfigError unless all that is read is there."""
        where = shown(self._url)
        with self._reading() as connection:
            inspector = sa.inspect(connection)
            for name, columns in _TABLES.items():
                if not inspector.has_table(name):
                    raise ConfigError(f"{where} is no database of Glance's: it has no table {name}")
                missing = set(columns.split()) - {each["name"] for each in inspector.get_columns(name)}
                if missing:
                    raise ConfigError(
                        f"{where}: table {name} has no {', '.join(sorted(missing))}: "
                        f"bring Glance to a release that it can be taken over from first"
                    )

    def images(self) -> Iterator[list[GlanceImage]]:
        """Yield all images page by page, deleted ones, too."""
        images = t["images"]
        last = ""
        while True:
            statement = sa.select(images).where(images.c.id > last).order_by(images.c.id).limit(PAGE)
            with self._reading() as connection:
                page = [_utc(row) for row in connection.execute(statement).mappings()]
                if not page:
                    return
                found = _images(connection, page)
            yield found
            last = page[-1]["id"]

    def namespaces(self) -> Iterator[GlanceNamespace]:
        """Yield all namespaces of metadata definitions."""
        namespaces = t["metadef_namespaces"]
        with self._reading() as connection:
            rows = connection.execute(sa.select(namespaces).order_by(namespaces.c.id)).mappings().all()
        for row in rows:
            with self._reading() as connection:
                yield _namespace(connection, _utc(row))

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with explained(self._url, ERRORS), self._engine.connect() as connection:
            yield connection


def _engine(text: str) -> tuple[Engine, sa.URL]:
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError):
        # Not repeated: what can't be parsed may hold a password anywhere.
        raise ConfigError(
            "not the URL of a database: expected something like that in glance-api.conf"
        ) from None
    if url.get_backend_name() not in DIALECTS:
        raise ConfigError(f"{url.drivername} isn't supported (one of {', '.join(DIALECTS)})")
    if absent(url):
        raise ConfigError(f"{shown(url)}: there is no such file")
    try:
        engine = sa.create_engine(url, pool_pre_ping=True)
    except (exc.ArgumentError, ImportError) as error:
        raise ConfigError(f"{url.drivername} can't be used: {error}") from error
    return engine, url


def _utc(row: Row | RowMapping) -> dict[str, Any]:
    """Return a row with aware times: Glance writes UTC and doesn't say so."""
    return {name: _time(value) if name.endswith("_at") else value for name, value in row.items()}


def _time(value: Any) -> Any:
    if isinstance(value, str):
        # SQLite knows no times.
        value = datetime.fromisoformat(value)
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str | bytes) else value


def _images(connection: Connection, page: Sequence[Row]) -> list[GlanceImage]:
    ids = [row["id"] for row in page]
    properties = _children(connection, "image_properties", ids)
    tags = _children(connection, "image_tags", ids)
    members = _children(connection, "image_members", ids)
    locations = _children(connection, "image_locations", ids, deleted=True)
    return [
        GlanceImage(
            row,
            {each["name"]: each["value"] or "" for each in properties[row["id"]]},
            frozenset(each["value"] for each in tags[row["id"]]),
            tuple(
                GlanceLocation(each["value"], _json(each["meta_data"]) or {})
                for each in locations[row["id"]]
                if _kept(row, each)
            ),
            tuple(members[row["id"]]),
        )
        for row in page
    ]


def _kept(image: Row, location: Row) -> bool:
    """Tell whether a location still has the image's data: that of a pending delete is marked deleted."""
    if image["status"] == "pending_delete":
        return bool(location["status"] == "pending_delete")
    return location["status"] == "active" and not location["deleted"]


def _children(
    connection: Connection, name: str, ids: Sequence[str], *, deleted: bool = False
) -> Mapping[str, list[Row]]:
    """Return the rows of images by their ids; without ``deleted`` only those that count."""
    table = t[name]
    statement = sa.select(table).where(table.c.image_id.in_(ids))
    if not deleted:
        statement = statement.where(table.c.deleted == sa.false())
    if "id" in table.c:
        statement = statement.order_by(table.c.id)
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in connection.execute(statement).mappings():
        found[row["image_id"]].append(_utc(row))
    return found


def _namespace(connection: Connection, namespace: Row) -> GlanceNamespace:
    def rows(name: str, *columns: Any) -> tuple[Row, ...]:
        table = t[name]
        statement = sa.select(table, *columns).where(table.c.namespace_id == namespace["id"])
        if columns:
            kinds = t["metadef_resource_types"]
            statement = statement.join(kinds, kinds.c.id == table.c.resource_type_id).order_by(kinds.c.id)
        else:
            statement = statement.order_by(table.c.id)
        found = [_utc(row) for row in connection.execute(statement).mappings()]
        return tuple({**row, "json_schema": _json(row.get("json_schema"))} for row in found)

    return GlanceNamespace(
        namespace,
        rows("metadef_namespace_resource_types", t["metadef_resource_types"].c.name),
        rows("metadef_properties"),
        rows("metadef_objects"),
        rows("metadef_tags"),
    )
