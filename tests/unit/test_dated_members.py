"""What is shared is listed in order while older code, which doesn't date members, works beside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from glancelike.errors import RegistryError, SchemaNewer, SchemaOutdated
from glancelike.model import Filter, Image, Member, MemberStatus, Op, Query, SortKey, Viewer, Visibility
from glancelike.registry.base import Step
from glancelike.registry.sql import SqlRegistry, migrations, schema
from tests.database_servers import DatabaseServer

START = datetime(2026, 1, 1, tzinfo=UTC)
FRIEND = Viewer("friend")
COUNT = 12
# As the code before the column wrote it.
OLD = sa.text(
    "INSERT INTO image_members (image_id, project, status, created_at, updated_at)"
    " VALUES (:image, 'friend', :status, '2026-02-01', '2026-02-01')"
)
SHARED = Query(visibility="shared", limit=COUNT)
ANY = replace(SHARED, member_status="all")
QUERIES = {
    "newest": SHARED,
    "oldest": replace(SHARED, sort=(SortKey("created_at", False),)),
    "by name": replace(SHARED, sort=(SortKey("name"),)),
    "any status": ANY,
    "any status, oldest": replace(ANY, sort=(SortKey("created_at", False), SortKey("id"))),
    "refused": replace(SHARED, member_status=MemberStatus.REJECTED),
    "hidden or not": replace(ANY, hidden=None),
    "late": replace(ANY, filters=(Filter("created_at", Op.GTE, START + timedelta(hours=COUNT // 2)),)),
    "all": replace(ANY, visibility="all"),
}


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def expanded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRegistry]:
    """Open a registry whose database has the column, and nothing that demands it yet."""
    if request.param == "sqlite":
        yield from opened(f"sqlite:///{tmp_path}/images.db")
        return
    name = {"postgresql": "postgres_server", "mariadb": "maria_server"}[request.param]
    server: DatabaseServer = request.getfixturevalue(name)
    database = f"t{uuid4().hex[:12]}"
    yield from opened(server.make_database(database))
    server.drop_database(database)


def opened(url: str) -> Iterator[SqlRegistry]:
    registry = SqlRegistry({"connection": url, "sqlite_synchronous": False})
    for step in (Step.EXPAND, Step.CONTRACT, Step.EXPAND):
        assert registry.upgrade_by(step) >= 1
    assert registry.schema_version()[0] == "0007"
    registry.open()
    yield registry
    registry.close()


def fill(registry: SqlRegistry) -> dict[str, Image]:
    """Share images in no order, by old code and by new; return them all."""
    statuses = [MemberStatus.ACCEPTED, MemberStatus.ACCEPTED, *MemberStatus]
    made = {}
    for number in sorted(range(COUNT), key=lambda number: number * 5 % COUNT):
        image = Image(
            f"{number * 7 % COUNT:02}",
            name=f"{number * 11 % COUNT}",
            owner="owner",
            visibility=Visibility.PUBLIC if number == 3 else Visibility.SHARED,
            hidden=number == 4,
            created_at=START + timedelta(hours=number - number % 2),
        )
        made[image.id] = registry.create(image)
        if number % 3:
            share_by_old_code(registry, image.id, statuses[number % 5])
        else:
            registry.add_member(Member(image.id, "friend", statuses[number % 5]))
    return made


def share_by_old_code(registry: SqlRegistry, image: str, status: str) -> None:
    with registry._writing() as connection:
        connection.execute(OLD, {"image": image, "status": str(status)})


def wanted(registry: SqlRegistry, made: dict[str, Image], query: Query) -> list[str]:
    """Say in the plainest way what a listing of the friend's should show."""
    found = [
        image
        for image in made.values()
        if query.visibility == "all" or image.visibility is Visibility.SHARED
        if query.hidden is None or image.hidden is query.hidden
        if all(image.created_at >= each.value for each in query.filters)
        for member in registry.list_members(image.id)
        if image.visibility is Visibility.PUBLIC or query.member_status in ("all", member.status)
    ]
    keys = query.sort if len(query.sort) == 2 else (*query.sort, SortKey("id", query.sort[0].descending))
    for key in reversed(keys):
        found.sort(key=lambda image: getattr(image, key.field), reverse=key.descending)
    return [image.id for image in found]


def listed(registry: SqlRegistry, query: Query) -> list[str]:
    """List all, by pages of two."""
    found: list[str] = []
    marker: str | None = None
    while True:
        page = registry.list(replace(query, limit=2, marker=marker), FRIEND)
        found += [image.id for image in page.images]
        if (marker := page.next_marker) is None:
            return found


def check(registry: SqlRegistry, made: dict[str, Image]) -> None:
    for name, query in QUERIES.items():
        right = wanted(registry, made, query)
        assert right, name
        assert listed(registry, query) == right, name
        assert [image.id for image in registry.list(query, FRIEND).images] == right, name


def undated(registry: SqlRegistry) -> int:
    with registry._reading() as connection:
        statement = "SELECT count(*) FROM image_members WHERE image_created_at IS NULL"
        return int(connection.exec_driver_sql(statement).scalar_one())


def test_listings_are_right_at_every_step(expanded: SqlRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BATCH", 3)
    made = fill(expanded)
    assert 0 < undated(expanded) < COUNT
    check(expanded, made)
    with monkeypatch.context() as patched:  # killed after a batch
        whole, batches = schema.Upgrade._migrate, []

        def once(self: schema.Upgrade, connection: sa.Connection) -> int:
            batches.append(whole(self, connection) if not batches else 0)
            return batches[-1]

        patched.setattr(schema.Upgrade, "_migrate", once)
        assert expanded.upgrade_by(Step.MIGRATE) == 3
    assert undated(expanded) > 0
    check(expanded, made)
    assert expanded.upgrade_by(Step.MIGRATE) > 3
    assert undated(expanded) == 0
    check(expanded, made)

    late = expanded.create(Image("late", name="late", owner="owner", visibility=Visibility.SHARED))
    share_by_old_code(expanded, "late", MemberStatus.ACCEPTED)
    made["late"] = late
    check(expanded, made)
    with pytest.raises(SchemaOutdated, match="glancelike db migrate"):
        expanded.upgrade_by(Step.CONTRACT)
    assert expanded.upgrade_by(Step.MIGRATE) == 1
    assert expanded.upgrade_by(Step.CONTRACT) == 1
    check(expanded, made)
    # Old code that was left running is told, rather than its members overlooked.
    expanded.create(Image("another"))
    with pytest.raises(RegistryError):
        share_by_old_code(expanded, "another", MemberStatus.ACCEPTED)


def test_the_contraction_shuts_older_code_out(expanded: SqlRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [each for each in migrations.revisions() if each < "0007"]

    def start_older_code() -> None:
        with monkeypatch.context() as patched:
            for module in (migrations, schema):
                patched.setattr(module, "revisions", lambda: before)
            older = SqlRegistry(expanded.settings)
            older.open()
            older.close()

    start_older_code()
    expanded.upgrade()
    with pytest.raises(SchemaNewer, match="code of 0007"):
        start_older_code()
