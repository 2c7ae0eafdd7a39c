"""Statements look at few rows, by indexes, on each database as its own planner decides.

What the server says it has done is counted, not what it took. The tables are
large enough for a planner to prefer an index where there is a good one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glancelike.model import Filter, Image, Op, Page, Query, SortKey, Status, Viewer, utcnow
from glancelike.registry.base import ADMIN
from glancelike.registry.sql import SqlRegistry, queries, tables
from glancelike.sql.engine import of_kind
from glancelike.sql.servers import Kind
from tests.database_servers import DatabaseServer
from tests.many_images import FRIEND, ORDINARY, OWN, START, STEP, Population, load, write

SHARED = 300
POPULATION = Population(15_000, shared=SHARED)
PROBE = 60  # in proportion to these images as the real one to a million
MOST = 5_000  # rows that a statement may look at, of three times as many images and more children
PROJECT, FRIENDLY = Viewer(ORDINARY), Viewer(FRIEND)
MIDDLE = START + POPULATION.images // 2 * STEP
TABLES = ("images", "image_tags", "image_properties", "image_locations", "image_members")


@dataclass(frozen=True)
class Read:
    """One access to a table: ``rows`` is what was looked at, None when the database doesn't tell."""

    table: str
    index: str | None
    rows: int | None


# What a database has done for a statement


def _postgresql(connection: Connection, text: str, parameters: Any) -> list[Read]:
    (found,) = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", parameters).one()
    reads = []
    for node in _nodes(found[0]["Plan"]):
        kind = node.get("Node Type")
        if kind == "Bitmap Index Scan" or "Relation Name" in node:
            rows = node["Actual Rows"] + sum(
                node.get(removed, 0)
                for removed in ("Rows Removed by Filter", "Rows Removed by Index Recheck")
            )
            # A heap scan by a bitmap stands above its indexes' scans.
            index = "bitmap" if kind == "Bitmap Heap Scan" else node.get("Index Name")
            reads.append(
                Read(node.get("Relation Name", index), index, max(1, round(rows)) * node["Actual Loops"])
            )
    return reads


def _mysql(connection: Connection, text: str, parameters: Any) -> list[Read]:
    (found,) = connection.exec_driver_sql(f"ANALYZE FORMAT=JSON {text}", parameters).one()
    names = dict.fromkeys(TABLES)
    reads = []
    for node in _nodes(json.loads(found)):
        if "access_type" in node and node["access_type"] != "NULL":
            whole = node["access_type"] in ("ALL", "index")
            name = node["table_name"]
            if name.startswith("<"):
                continue  # what the statement has found itself
            reads.append(
                Read(
                    name,
                    None if whole and name in names else node.get("key"),
                    round((node.get("r_rows") or 0) * node.get("r_loops", 0)),
                )
            )
    return reads


def _sqlite(connection: Connection, text: str, parameters: Any) -> list[Read]:
    text += f" -- {uuid4()}"  # another time, with other indexes, the driver would hand out the plan it has
    reads = []
    for _id, _parent, _unused, detail in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters):
        word, name, *rest = detail.split()
        if word in ("SEARCH", "SCAN") and name in TABLES:
            reads.append(Read(name, " ".join(rest) if word == "SEARCH" else None, None))
    return reads


def _nodes(plan: Any) -> Iterator[dict[str, Any]]:
    if isinstance(plan, dict):
        yield plan
        plan = list(plan.values())
    if isinstance(plan, list):
        for each in plan:
            yield from _nodes(each)


EXPLAIN = {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}


@contextmanager
def explaining(registry: SqlRegistry) -> Iterator[list[tuple[str, list[Read]]]]:
    """Collect the SELECTs that are sent meanwhile, each with what it reads."""
    sent: list[tuple[str, Any]] = []
    found: list[tuple[str, list[Read]]] = []

    def note(_connection: Any, _cursor: Any, text: str, parameters: Any, *_: Any) -> None:
        if text.startswith("SELECT") and "FROM image" in text:
            sent.append((text, parameters))

    engine = registry._engine
    assert engine is not None
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    with registry._reading() as connection:
        explain = EXPLAIN[connection.dialect.name]
        found += [(text, explain(connection, text, parameters)) for text, parameters in sent]


def check(registry: SqlRegistry, call: Callable[[SqlRegistry], object], most: int = MOST) -> None:
    """Fail when a statement of the call reads a table without an index, or more than ``most`` rows."""
    with explaining(registry) as statements:
        found = call(registry)
    assert statements or found == Page(())
    for text, reads in statements:
        assert reads, text
        # A planner may rather begin to read a table whose most rows match, if soon enough it stops.
        without = {read.table for read in reads if read.index is None and (read.rows or MOST) > 5 * PROBE}
        assert not without, f"without an index: {without}\n{reads}\n{text}"
        rows = sum(read.rows or 0 for read in reads)
        assert rows <= most, f"{rows} rows\n{reads}\n{text}"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rows")
    write(POPULATION, directory)
    return directory


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def registry(
    request: pytest.FixtureRequest, rows: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SqlRegistry]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('plans')}/images.db"
    else:
        name = {"postgresql": "postgres_server", "mariadb": "maria_server"}[request.param]
        server: DatabaseServer = request.getfixturevalue(name)
        url = server.make_database("plans")
        if request.param == "postgresql":  # as is advised for all disks but turning ones
            server.execute("ALTER DATABASE plans SET random_page_cost = 1.1")
    made = SqlRegistry({"connection": url, "sqlite_synchronous": False})
    load(made, rows)
    made.open()
    yield made
    made.close()
    if request.param != "sqlite":
        server.drop_database("plans")


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "PROBE", PROBE)


def by(field: str, op: Op, value: Any, *, is_property: bool = False) -> dict[str, Any]:
    return {"filters": (Filter(field, op, value, is_property),)}


SORTS: dict[str, dict[str, Any]] = {
    f"by {field}{', ascending' * (not descending)}": {"sort": (SortKey(field, descending),)}
    for field in ("created_at", "updated_at", "name", "size")
    for descending in (True, False)
}
SCOPES: dict[str, dict[str, Any]] = {
    "default": {},
    "hidden": {"hidden": True},
    "hidden or not": {"hidden": None},
    **{f"{each}": {"visibility": each} for each in ("all", "public", "private", "shared", "community")},
}
FILTERS: dict[str, dict[str, Any]] = {
    "name": by("name", Op.EQ, "image-2000"),
    "no such name": by("name", Op.EQ, "none"),
    "owner": by("owner", Op.EQ, ORDINARY),
    "large owner": by("owner", Op.EQ, "project-0"),
    "checksum": by("checksum", Op.EQ, "0" * 32),
    "hash": by("hash_value", Op.EQ, "0" * 128),
    "status of most": by("status", Op.EQ, Status.ACTIVE),
    "statuses of few": by("status", Op.IN, (Status.SAVING, Status.UPLOADING)),
    "size of most": by("size", Op.LTE, 1 << 34),
    "largest": by("size", Op.GTE, 1 << 50),
    "no such size": by("size", Op.LTE, 10),
    "no such virtual size": by("virtual_size", Op.LTE, 10),
    "rare format": by("disk_format", Op.EQ, "vhdx"),
    "no such container": by("container_format", Op.EQ, "ova"),
    "no such disk": by("min_disk", Op.GTE, 10_000),
    "no such memory": by("min_ram", Op.GTE, 10_000),
    "protected": by("protected", Op.EQ, True),
    "changed in between": {
        "filters": (
            Filter("updated_at", Op.GTE, MIDDLE),
            Filter("updated_at", Op.LT, MIDDLE + timedelta(hours=1)),
        )
    },
    "created in between": {
        "filters": (
            Filter("created_at", Op.GTE, MIDDLE),
            Filter("created_at", Op.LT, MIDDLE + timedelta(hours=1)),
        )
    },
    "common property": by("os_distro", Op.EQ, "debian", is_property=True),
    "rare property": by("os_distro", Op.EQ, "beos", is_property=True),
    "no such property": by("os_distro", Op.EQ, "dos", is_property=True),
    "common tag": {"tags": frozenset({"base"})},
    "rare tag": {"tags": frozenset({"rare"})},
    "no such tag": {"tags": frozenset({"none"})},
    "common ones together": {
        "filters": (
            Filter("architecture", Op.EQ, "x86_64", is_property=True),
            Filter("status", Op.EQ, Status.ACTIVE),
            Filter("size", Op.GTE, 1 << 28),
        ),
        "tags": frozenset({"base"}),
    },
    "common property and rare tag": {
        **by("architecture", Op.EQ, "x86_64", is_property=True),
        "tags": frozenset({"rare"}),
    },
}


PAGES: dict[str, dict[str, Any]] = {
    "newest": {},
    "oldest": {"sort": (SortKey("created_at", False),)},
    "by name": {"sort": (SortKey("name", False),)},
    "largest": {"sort": (SortKey("size"),)},
}


@pytest.mark.parametrize("viewer", [PROJECT, ADMIN], ids=["project", "admin"])
@pytest.mark.parametrize("query", [*SORTS, *SCOPES, *FILTERS])
def test_a_listing_looks_at_few_rows(registry: SqlRegistry, query: str, viewer: Viewer) -> None:
    asked = Query(**{**SORTS, **SCOPES, **FILTERS}[query])
    check(registry, lambda registry: registry.list(asked, viewer))


@pytest.mark.parametrize("scope", SCOPES)
def test_what_anybody_sees(registry: SqlRegistry, scope: str) -> None:
    check(registry, lambda registry: registry.list(Query(**SCOPES[scope]), Viewer()))


@pytest.mark.parametrize("viewer", [PROJECT, ADMIN], ids=["project", "admin"])
@pytest.mark.parametrize("page", PAGES)
def test_a_deep_page_looks_at_few_rows(registry: SqlRegistry, page: str, viewer: Viewer) -> None:
    own = Query(**by("owner", Op.EQ, ORDINARY), limit=OWN // 2)
    marker = registry.list(own, viewer).images[-1].id
    check(registry, lambda registry: registry.list(Query(**PAGES[page], marker=marker), viewer))


LINED_UP: dict[str, dict[str, Any]] = {
    "shared": {"visibility": "shared"},
    "by default": {},
    "oldest": {"visibility": "shared", "sort": (SortKey("created_at", False),)},
    "any status": {"visibility": "shared", "member_status": "all"},
    "since then": {"visibility": "shared", **by("created_at", Op.LT, MIDDLE)},
}


@pytest.mark.parametrize("deep", [False, True], ids=["first", "deep"])
@pytest.mark.parametrize("query", LINED_UP)
def test_a_page_of_what_is_shared_looks_at_no_more_than_it_shows(
    registry: SqlRegistry, query: str, deep: bool
) -> None:
    """Each row by its entry in an index, in its table and once more for the page."""
    asked = Query(**LINED_UP[query], limit=10)
    if deep:
        half = replace(asked, limit=SHARED // 3)
        asked = replace(asked, marker=registry.list(half, FRIENDLY).images[-1].id)
    check(registry, lambda registry: registry.list(asked, FRIENDLY), most=SHARED // 2)


@pytest.mark.parametrize("page", PAGES)
def test_of_what_is_shared_no_more_is_looked_at_than_there_is(registry: SqlRegistry, page: str) -> None:
    query = Query(**PAGES[page], visibility="shared")
    check(registry, lambda registry: registry.list(query, FRIENDLY))


def test_other_reads(registry: SqlRegistry) -> None:
    listed = [image.id for image in registry.list(Query(limit=500), ADMIN).images]
    own = registry.list(Query(limit=1), PROJECT).images[0].id
    for viewer in (PROJECT, ADMIN):
        check(registry, partial(SqlRegistry.get, image_id=own, viewer=viewer))
    check(registry, partial(SqlRegistry.locations_of, image_ids=listed[:100]))
    check(registry, partial(SqlRegistry.list_members, image_id=listed[0]))
    check(registry, partial(SqlRegistry.usage, project=ORDINARY))


@pytest.mark.parametrize(
    ("index", "query"),
    [
        ("ix_image_properties_name_head", "rare property"),
        ("ix_images_disk_format", "rare format"),
        ("ix_images_visibility_created_at", "all"),
    ],
)
def test_a_missing_index_is_noticed(registry: SqlRegistry, index: str, query: str) -> None:
    assert registry._engine is not None
    engine = of_kind(registry._engine, Kind.WRITES)
    dialect = engine.dialect.name
    if dialect == "sqlite" and query == "all":
        pytest.skip("SQLite doesn't tell how many rows it has read")
    (made,) = (
        each for table in tables.metadata.sorted_tables for each in table.indexes if each.name == index
    )
    made.drop(engine)
    try:
        with pytest.raises(AssertionError, match="without an index|rows"):
            check(registry, lambda registry: registry.list(Query(**{**SCOPES, **FILTERS}[query]), ADMIN))
    finally:
        made.create(engine)


def test_a_purge_looks_at_its_batch(registry: SqlRegistry) -> None:
    purge = partial(SqlRegistry.purge, before=utcnow(), limit=20)
    for _ in range(2):
        check(registry, purge, most=21)


def test_a_purge_blocks_nobody(registry: SqlRegistry) -> None:
    """All is done between a batch's last statement and its commit, when it holds all its locks."""
    others = SqlRegistry(registry.settings)
    others.open()
    image = others.list(Query(limit=1), PROJECT).images[0]
    done: list[str] = []

    def meanwhile(connection: Connection) -> None:
        if done:
            return
        others.get(image.id, PROJECT)
        others.list(Query(), ADMIN)
        done.append("reads")
        if connection.dialect.name != "sqlite":  # where one writes at a time
            made = others.create(Image(str(uuid4()), owner=ORDINARY))
            others.delete(made.id, expect=1)
            others.update(replace(image, name="changed"), expect=image.version)
            done.append("writes")

    assert registry._engine is not None
    sa.event.listen(registry._engine, "commit", meanwhile)
    try:
        assert registry.purge(utcnow(), limit=100).images == 100
    finally:
        sa.event.remove(registry._engine, "commit", meanwhile)
        others.close()
    assert done[:1] == ["reads"]
    assert "writes" in done or registry._engine.dialect.name == "sqlite"
