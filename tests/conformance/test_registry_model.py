"""Any listing: the SQL registry finds what the memory registry finds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glancelike.model import (
    FILTER_FIELDS,
    SORT_FIELDS,
    Filter,
    Image,
    Member,
    MemberStatus,
    Op,
    Query,
    SortKey,
    Status,
    Viewer,
    Visibility,
)
from glancelike.registry.base import Registry
from glancelike.registry.memory import MemoryRegistry
from glancelike.registry.sql import SqlRegistry, queries
from glancelike.registry.values import OPERATORS, PROPERTY_OPERATORS
from glancelike.testing.registry_kit import START, ids

PROJECTS = ("p", "q", "r")
# Few values a field, so that conditions meet and sorts tie.
VALUES: dict[str, tuple[Any, ...]] = {
    "id": tuple(f"{number:02}" for number in range(60)),
    "name": (None, "", "a", "A", "é"),
    "status": (*tuple(Status)[:4], Status.PENDING_DELETE),
    "owner": (None, *PROJECTS),
    "visibility": tuple(Visibility),
    "disk_format": (None, "raw"),
    "container_format": (None, "bare"),
    "checksum": (None, "c"),
    "hash_algo": (None, "sha512"),
    "hash_value": (None, "h", "i"),
    "min_disk": (0, 1, 2),
    "min_ram": (0, 1),
    "size": (None, 0, 1, 2**62),
    "virtual_size": (None, 5),
    "protected": (False, True),
    "hidden": (False, False, True),
    "created_at": tuple(START + timedelta(microseconds=number) for number in range(6)),
    "updated_at": tuple(START - timedelta(hours=number) for number in range(4)),
}
TAGS = ("x", "y", "z")
PROPERTIES = {"os": ("debian", "fedora", ""), "arch": ("x86", "arm")}

pytestmark = pytest.mark.slow


def images() -> Iterator[Image]:
    rng = random.Random(7)
    for id_ in VALUES["id"]:
        chosen = {field: rng.choice(values) for field, values in VALUES.items() if field != "id"}
        yield Image(
            id_,
            **chosen,
            tags=frozenset(tag for tag in TAGS if rng.random() < 0.4),
            properties={key: rng.choice(some) for key, some in PROPERTIES.items() if rng.random() < 0.6},
        )


def fill(registry: Registry) -> None:
    rng = random.Random(8)
    for image in images():
        registry.create(image)
        for project in PROJECTS:
            if rng.random() < 0.5:
                registry.add_member(Member(image.id, project, rng.choice(tuple(MemberStatus))))
    for doomed in VALUES["id"][::10]:
        registry.delete(doomed, expect=1)


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    is_property = draw(st.booleans())
    if is_property:
        field = draw(st.sampled_from(sorted(PROPERTIES)))
        values: tuple[Any, ...] = PROPERTIES[field]
        operators = PROPERTY_OPERATORS
    else:
        field = draw(st.sampled_from(sorted(FILTER_FIELDS)))
        values = tuple(value for value in VALUES[field] if value is not None)
        operators = OPERATORS[FILTER_FIELDS[field]]
    op = draw(st.sampled_from(sorted(operators)))
    value = st.sampled_from(values)
    return Filter(field, op, draw(st.lists(value).map(tuple) if op is Op.IN else value), is_property)


QUERIES = st.builds(
    Query,
    filters=st.lists(filters(), max_size=2).map(tuple),
    tags=st.frozensets(st.sampled_from(TAGS), max_size=2),
    visibility=st.sampled_from([None, "all", *Visibility]),
    member_status=st.sampled_from(["all", *MemberStatus]),
    hidden=st.sampled_from([None, False, True]),
    sort=st.lists(
        st.builds(SortKey, st.sampled_from(sorted(SORT_FIELDS)), st.booleans()), min_size=1, max_size=3
    ).map(tuple),
    limit=st.integers(1, 12),
)
VIEWERS = st.builds(
    Viewer,
    st.sampled_from([None, *PROJECTS, "stranger"]),
    st.booleans(),
    st.sampled_from([False, False, True]),
)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Registry]]:
    path = tmp_path_factory.mktemp("model") / "images.db"
    sql = SqlRegistry({"connection": f"sqlite:///{path}", "sqlite_synchronous": False})
    sql.upgrade()
    sql.open()
    memory = MemoryRegistry()
    for registry in (memory, sql):
        fill(registry)
    yield memory, sql
    sql.close()


@pytest.mark.parametrize("probe", [queries.PROBE, 0], ids=["probe", "walk"])
def test_listings(both: tuple[Registry, Registry], monkeypatch: pytest.MonkeyPatch, probe: int) -> None:
    monkeypatch.setattr(queries, "PROBE", probe)
    memory, sql = both

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(QUERIES, VIEWERS)
    def compare(query: Query, viewer: Viewer) -> None:
        assert ids(sql, query, viewer) == ids(memory, query, viewer)
        for marker in VALUES["id"][1:40:13]:
            assert page(sql, replace(query, marker=marker), viewer) == page(
                memory, replace(query, marker=marker), viewer
            )

    compare()


def page(registry: Registry, query: Query, viewer: Viewer) -> object:
    """List one page; an error is its class."""
    try:
        return registry.list(query, viewer)
    except Exception as error:
        return type(error)
