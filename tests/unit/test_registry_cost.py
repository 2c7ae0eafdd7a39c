"""What a listing costs doesn't grow with the number of images (SQLite).

Costs are counted in steps of SQLite's virtual machine, so that the results
don't depend on how busy the machine is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from glancelike.model import Amounts, Filter, Op, Query, SortKey, Status, TaskQuery, Viewer
from glancelike.registry.base import ADMIN
from glancelike.registry.sql import SqlRegistry, queries, tables
from glancelike.registry.sql.scopes import Shape
from glancelike.registry.values import AMOUNTS, checked_query
from glancelike.testing.registry_kit import MINE, OTHER, START

FEW, MANY = 600, 6000
ME = Viewer(MINE)
BY_NAME = (SortKey("name", False),)


def rows(count: int) -> Iterator[dict[str, Any]]:
    """Make images a second apart: most are others' and private, every tenth is mine."""
    for number in range(count):
        yield {
            "id": f"{number:08}",
            "version": 1,
            "shelf": tables.DELETED if number % 5 == 0 else tables.LISTED,
            "status": Status.SAVING if number % (count // 4) == 1 else Status.ACTIVE,
            "visibility": ("public", "private", "shared", "private", "community", "private")[number % 6],
            "name": f"name-{number * 7919 % count:08}",
            "owner": MINE if number % 10 == 3 else OTHER,
            "protected": False,
            "min_disk": 0,
            "min_ram": 0,
            "size": number,
            "hash_value": f"hash-{number}",
            "created_at": START + timedelta(seconds=number),
            "updated_at": START + timedelta(seconds=number),
        }


def filled(path: Path, count: int) -> SqlRegistry:
    registry = SqlRegistry({"connection": f"sqlite:///{path}/{count}.db", "sqlite_synchronous": False})
    registry.upgrade()
    registry.open()
    everything = list(rows(count))
    with registry._writing() as connection:
        connection.execute(sa.insert(tables.images), everything)
        tags = [{"image_id": row["id"], "value": "common"} for row in everything]
        rare = [{"image_id": f"{number:08}", "value": "rare"} for number in range(1, count, count // 4)]
        connection.execute(sa.insert(tables.tags), tags + rare)
        values = [("debian", "fedora")[int(row["id"]) * 7919 % 97 % 2] for row in everything]
        connection.execute(
            sa.insert(tables.properties),
            [
                {"image_id": row["id"], "name": "os", "head": value, "value": value}
                for row, value in zip(everything, values, strict=True)
            ],
        )
    return registry


def steps(registry: SqlRegistry, query: Query, viewer: Viewer) -> int:
    """Count what SQLite does for a listing, to the nearest ten steps."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 10
        return 0

    with registry._reading() as connection:
        raw: Any = connection.connection.driver_connection
        raw.set_progress_handler(tick, 10)
    try:
        registry.list(query, viewer)
    finally:
        raw.set_progress_handler(None, 0)
    return count


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqlRegistry, SqlRegistry]]:
    path = tmp_path_factory.mktemp("cost")
    few, many = filled(path, FEW), filled(path, MANY)
    yield few, many
    few.close()
    many.close()


LISTINGS = {
    "default": Query(),
    "everything": Query(visibility="all"),
    "public": Query(visibility="public"),
    "shared": Query(visibility="shared"),
    "private": Query(visibility="private"),
    "hidden": Query(hidden=True),
    "hidden or not": Query(hidden=None),
    "oldest first": Query(sort=(SortKey("created_at", False),)),
    "by name": Query(sort=BY_NAME),
    "by name, descending": Query(sort=(SortKey("name"),)),
    "last changed first": Query(sort=(SortKey("updated_at"),)),
    "largest first": Query(sort=(SortKey("size"),)),
    "smallest first": Query(sort=(SortKey("size", False),)),
    "next page": Query(marker="00000306"),
    "next page by name": Query(marker="00000306", sort=BY_NAME),
    "next page by name, descending": Query(marker="00000306", sort=(SortKey("name"),)),
    "one id": Query(filters=(Filter("id", Op.EQ, "00000306"),)),
    "one name": Query(filters=(Filter("name", Op.EQ, "name-00000306"),)),
    "one hash": Query(filters=(Filter("hash_value", Op.EQ, "hash-306"),)),
    "rare status": Query(filters=(Filter("status", Op.IN, (Status.SAVING, Status.IMPORTING)),)),
    "common status": Query(filters=(Filter("status", Op.EQ, Status.ACTIVE),)),
    "rare tag": Query(tags=frozenset({"rare"})),
    "common tag": Query(tags=frozenset({"common"})),
    "no such tag": Query(tags=frozenset({"none"})),
    "common property": Query(filters=(Filter("os", Op.EQ, "debian", is_property=True),)),
    "no such property": Query(filters=(Filter("os", Op.EQ, "beos", is_property=True),)),
    "recent": Query(filters=(Filter("created_at", Op.GT, START + timedelta(seconds=FEW // 2)),)),
}


@pytest.mark.parametrize("viewer", [ME, ADMIN, Viewer()], ids=["project", "admin", "anybody"])
@pytest.mark.parametrize("listing", LISTINGS)
def test_cost_is_flat(
    registries: tuple[SqlRegistry, SqlRegistry],
    monkeypatch: pytest.MonkeyPatch,
    listing: str,
    viewer: Viewer,
) -> None:
    # In proportion to these numbers of images as the real one to a million.
    monkeypatch.setattr(queries, "PROBE", 60)
    few, many = (steps(registry, LISTINGS[listing], viewer) for registry in registries)
    assert many <= 1.5 * few + 500, f"{FEW} images: {few} steps, {MANY} images: {many} steps"


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (Query(limit=1), 2),
        (Query(limit=400), 2),
        (Query(limit=400, marker="00000306"), 3),
        (Query(limit=400, marker="00000306", tags=frozenset({"common"})), 4),
    ],
)
def test_a_page_takes_a_fixed_number_of_statements(
    registries: tuple[SqlRegistry, SqlRegistry], query: Query, wanted: int
) -> None:
    assert len(statements(registries[1], lambda registry: registry.list(query, ME))) == wanted


def test_an_image_takes_one_statement(registries: tuple[SqlRegistry, SqlRegistry]) -> None:
    for viewer in (ME, ADMIN):
        sent = statements(registries[1], partial(SqlRegistry.get, image_id="00000306", viewer=viewer))
        assert [text.split()[0] for text in sent] == ["SELECT"]


def test_a_quota_of_images_needs_no_table(registries: tuple[SqlRegistry, SqlRegistry]) -> None:
    """The sums over a project's images are in one index, but for the stores of each."""
    sent: list[str] = []
    sent += statements(registries[1], lambda registry: registry.usage(MINE))
    reserve = partial(SqlRegistry.reserve, name="r", project=MINE, amounts=Amounts(1, 1, 1, 1), seconds=60)
    limits = dict.fromkeys(AMOUNTS, 10**12)
    statements(registries[1], partial(reserve, limits=limits))  # makes the project's row
    several = statements(registries[1], partial(reserve, limits=limits))
    assert len(several) == 4, several
    sent += [text for text in several if "sum(" in text]
    assert len(sent) == 2
    with registries[1]._reading() as connection:
        for text in sent:
            bound = ("x",) * text.count("?")
            details = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", bound)]
            looked = [detail for detail in details if detail.startswith(("SEARCH images", "SCAN images"))]
            assert len(looked) == 4
            for detail in looked:
                assert "COVERING INDEX ix_images_usage (owner=? AND shelf=?" in detail, details


def test_a_queue_is_not_scanned(registries: tuple[SqlRegistry, SqlRegistry]) -> None:
    for call in (
        partial(SqlRegistry.runnable_tasks, limit=5),
        partial(SqlRegistry.list_tasks, query=TaskQuery()),
        partial(SqlRegistry.list_tasks, query=TaskQuery(owner=MINE)),
        partial(SqlRegistry.list_tasks, query=TaskQuery(image_id="i")),
        SqlRegistry.delete_expired_tasks,
        partial(SqlRegistry.purge, before=START),
    ):
        for text in statements(registries[1], call):
            if "tasks" not in text and "deleted_at" not in text:
                continue
            with registries[1]._reading() as connection:
                bound = ("1",) * text.count("?")
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", bound).all()
            for row in plan:
                assert not row[3].startswith(("SCAN tasks", "SCAN images")) or "INDEX" in row[3], plan


def statements(registry: SqlRegistry, call: Callable[[SqlRegistry], object]) -> list[str]:
    """Collect what is sent to the database, but for the transaction's ends."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        sent.append(text)

    assert registry._engine is not None
    sa.event.listen(registry._engine, "before_cursor_execute", note)
    try:
        call(registry)
    finally:
        sa.event.remove(registry._engine, "before_cursor_execute", note)
    return [text for text in sent if not text.startswith("BEGIN")]


@pytest.mark.parametrize("sort", [(SortKey("created_at"),), BY_NAME], ids=["newest", "name"])
@pytest.mark.parametrize(
    ("viewer", "visibility", "wanted"),
    [
        (ME, "private", ["owner"]),
        (ME, "public", ["visibility"]),
        (ME, None, ["visibility", "owner"]),
        (ADMIN, "all", ["visibility"]),
    ],
)
def test_plans(
    registries: tuple[SqlRegistry, SqlRegistry],
    viewer: Viewer,
    visibility: str | None,
    wanted: list[str],
    sort: tuple[SortKey, ...],
) -> None:
    query = checked_query(Query(visibility=visibility, sort=sort))
    statement = queries.page(Shape.of(query, viewer), None, None, explicit=False)
    assert statement is not None
    with registries[0]._reading() as connection:
        text = statement.compile(connection, compile_kwargs={"render_postcompile": True})
        bound = text.construct_params(queries.parameters(query, viewer))
        names = text.positiontup or []
        plan = connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {text}", tuple(bound[name] for name in names)
        ).all()
    details = [row[3] for row in plan]
    for scope in wanted:
        assert any(f"INDEX ix_images_{scope}_{sort[0].field} (" in detail for detail in details), details
    assert not any(detail.startswith("SCAN images") for detail in details), details
    # Only the merge of the scopes' first images, and what is shared, may be sorted.
    sorts = sum("TEMP B-TREE FOR ORDER BY" in detail for detail in details)
    assert sorts <= (2 if viewer is ME else 1), details
