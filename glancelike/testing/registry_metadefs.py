"""Conformance: namespaces of metadata definitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from glancelike.errors import (
    InvalidInput,
    InvalidMarker,
    NamespaceExists,
    NamespaceNotFound,
    StaleNamespace,
)
from glancelike.model import Namespace, NamespaceQuery, SortKey, Viewer
from glancelike.registry.base import ADMIN, Registry
from glancelike.registry.metadef_values import DEEPEST, LARGEST, PARTS, SORT_FIELDS
from glancelike.testing.registry_child import Child, together
from glancelike.testing.registry_kit import (
    LOOKALIKES,
    MINE,
    OTHER,
    START,
    TEXTS,
    RegistryKit,
    kinds,
    race,
    refusal,
)

ME = Viewer(MINE)
WIDTH = 8


def namespace(name: str, **values: Any) -> Namespace:
    """Make a private namespace of this project's."""
    return Namespace(name, **{"owner": MINE, **values})


def full_namespace() -> Namespace:
    """Make a namespace in which every field differs from its default."""
    return Namespace(
        "OS::Test::Full",
        display_name="Everything",
        description="All there can be",
        visibility="public",
        protected=True,
        owner=OTHER,
        resource_types={"OS::Glance::Image": {"prefix": "hw_"}, "OS::Cinder::Volume": {}},
        # Neither in the order of the alphabet nor of one type.
        properties={
            "zz": {"title": "z", "type": "integer", "default": 1.5, "minimum": -(2**53)},
            "aa": {"title": "a", "type": "array", "items": {"type": "string"}, "enum": [None, True, {}]},
        },
        objects={"o2": {"required": ["b"], "properties": {"b": {"title": "b", "type": "string"}}}, "o1": {}},
        tags={"t2": {"created_at": "2026-01-02T03:04:05Z"}, "t1": {}},
        created_at=START,
        updated_at=START + timedelta(microseconds=1),
    )


def nested(levels: int) -> list[Any]:
    """Make a list in a list in a list …"""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def names(registry: Registry, query: NamespaceQuery | None = None, viewer: Viewer = ADMIN) -> list[str]:
    """List every namespace the query finds, in pages of its limit."""
    query = query or NamespaceQuery(limit=1000)
    found: list[str] = []
    marker = query.marker
    for _ in range(1000):
        page = registry.list_namespaces(replace(query, marker=marker), viewer)
        assert len(page.namespaces) <= query.limit, "a page holds more than its limit"
        found += [each.name for each in page.namespaces]
        if page.next_marker is None:
            return found
        assert page.next_marker == page.namespaces[-1].name, "the marker must be the page's last namespace"
        marker = page.next_marker
    pytest.fail("clause 3: the listing doesn't end")


def orders(value: Namespace) -> list[list[str]]:
    """Return the names of all definitions, in their order."""
    return [list(getattr(value, part)) for part in PARTS]


class MetadefTests(RegistryKit):
    """Clauses 1, 2, 3 and 5 for namespaces."""

    def test_namespaces_come_back_as_they_went(self, registry: Registry) -> None:
        made = registry.create_namespace(replace(full_namespace(), version=7))
        assert made == full_namespace(), "version must be 1, everything else as given"
        found = registry.get_namespace("OS::Test::Full", ADMIN)
        assert found == made
        assert orders(found) == orders(full_namespace()), "definitions keep the order they were made in"
        (listed,) = registry.list_namespaces(NamespaceQuery(), ADMIN).namespaces
        assert listed == replace(made, properties={}, objects={}, tags={})

    def test_namespaces_are_copies(self, registry: Registry) -> None:
        given = full_namespace()
        made = registry.create_namespace(given)
        for value in (given, made, registry.get_namespace(given.name, ADMIN)):
            for part in PARTS:
                definitions = getattr(value, part)
                next(iter(definitions.values()))["changed"] = True
                definitions["new"] = {}
        assert registry.get_namespace(given.name, ADMIN) == full_namespace()

    def test_a_namespace_has_its_name_alone(self, registry: Registry) -> None:
        registry.create_namespace(namespace("a", owner=OTHER))
        with refusal(NamespaceExists, "a name that anybody has", "'a'"):
            registry.create_namespace(namespace("a"))
        registry.delete_namespace("a", expect=1)
        assert registry.create_namespace(namespace("a")).owner == MINE, "a deleted name is free again"

    def test_namespace_update(self, registry: Registry) -> None:
        registry.create_namespace(full_namespace())
        small = namespace("renamed", created_at=START + timedelta(days=1))
        updated = registry.update_namespace("OS::Test::Full", small, expect=1)
        assert updated.version == 2
        assert updated.created_at == START, "created_at stays"
        assert updated.updated_at > START
        assert replace(updated, created_at=small.created_at, updated_at=small.updated_at, version=1) == small
        assert registry.get_namespace("renamed", ADMIN) == updated
        assert names(registry) == ["renamed"]
        assert names(registry, NamespaceQuery(resource_types=frozenset({"OS::Glance::Image"}))) == []
        with refusal(NamespaceNotFound, "the old name", "OS::Test::Full"):
            registry.get_namespace("OS::Test::Full", ADMIN)
        registry.create_namespace(namespace("other"))
        with refusal(NamespaceExists, "another's name", "'other'"):
            registry.update_namespace("renamed", replace(updated, name="other"), expect=2)
        with refusal(StaleNamespace, "an old version", "renamed"):
            registry.update_namespace("renamed", updated, expect=1)
        with refusal(NamespaceNotFound, "no such namespace", "missing"):
            registry.update_namespace("missing", updated, expect=1)
        assert registry.get_namespace("renamed", ADMIN) == updated, "what is refused changes nothing"

    def test_namespace_delete(self, registry: Registry) -> None:
        registry.create_namespace(full_namespace())
        with refusal(StaleNamespace, "an old version", "OS::Test::Full"):
            registry.delete_namespace("OS::Test::Full", expect=2)
        registry.delete_namespace("OS::Test::Full", expect=1)
        assert names(registry) == []
        for name in ("OS::Test::Full", "missing", "nul\0", "\ud800"):
            with refusal(NamespaceNotFound, "no such namespace"):
                registry.delete_namespace(name, expect=1)
            with refusal(NamespaceNotFound, "no such namespace"):
                registry.get_namespace(name, ADMIN)

    def test_who_sees_which_namespace(self, registry: Registry) -> None:
        for owner in (MINE, OTHER, None):
            for visibility in ("public", "private"):
                registry.create_namespace(
                    Namespace(f"{owner}-{visibility}", visibility=visibility, owner=owner)
                )
        everything = set(names(registry))
        public = {name for name in everything if name.endswith("-public")}
        assert len(everything) == 6
        seen = {ME: public | {f"{MINE}-private"}, Viewer(): public, ADMIN: everything}
        for viewer, wanted in seen.items():
            assert set(names(registry, viewer=viewer)) == wanted, "clause 2"
            for name in everything - wanted:
                with refusal(NamespaceNotFound, "clause 2: what isn't visible isn't there"):
                    registry.get_namespace(name, viewer)
                with refusal(InvalidMarker, "clause 3: the marker must be visible"):
                    registry.list_namespaces(NamespaceQuery(marker=name), viewer)

    def test_namespace_filters(self, registry: Registry) -> None:
        registry.create_namespace(namespace("a", resource_types={"X": {}, "Y": {}}))
        registry.create_namespace(namespace("b", resource_types={"Y": {}}, visibility="public", owner=OTHER))
        registry.create_namespace(namespace("c", visibility="public"))
        for wanted, query in {
            "a": NamespaceQuery(resource_types=frozenset({"X"})),
            "ab": NamespaceQuery(resource_types=frozenset({"X", "Y", "no such"})),
            "b": NamespaceQuery(resource_types=frozenset({"X", "Y"}), visibility="public"),
            "bc": NamespaceQuery(visibility="public"),
            "ac": NamespaceQuery(owner=MINE),
            "": NamespaceQuery(resource_types=frozenset({""})),
        }.items():
            assert "".join(sorted(names(registry, query))) == wanted, f"{query}"
        with refusal(InvalidInput, "an unknown visibility", "visibility"):
            registry.list_namespaces(NamespaceQuery(visibility="shared"), ADMIN)

    @pytest.mark.parametrize("field", sorted(SORT_FIELDS))
    @pytest.mark.parametrize("descending", [False, True])
    def test_every_namespace_sort(self, registry: Registry, field: str, descending: bool) -> None:
        for number in range(8):
            registry.create_namespace(
                namespace(
                    f"{number}",
                    display_name=[None, "B", "a", "é"][number % 4],
                    description=[None, "x", "X"][number % 3],
                    visibility=["public", "private"][number % 2],
                    protected=number % 3 == 0,
                    owner=[None, MINE, OTHER][number % 3],
                    created_at=START + timedelta(microseconds=number // 2),
                )
            )
        everything = registry.list_namespaces(NamespaceQuery(limit=1000), ADMIN).namespaces

        def rank(value: Namespace) -> tuple[bool, Any, str]:
            found = getattr(value, field)
            return found is not None, found, value.name

        wanted = [each.name for each in sorted(everything, key=rank, reverse=descending)]
        for limit in (1, 3, 8):
            query = NamespaceQuery(sort=(SortKey(field, descending),), limit=limit)
            assert names(registry, query) == wanted, f"clause 3: pages of {limit}"

    def test_namespace_paging_while_others_come_and_go(self, registry: Registry) -> None:
        for number in range(0, 20, 2):
            registry.create_namespace(namespace(f"{number:02}"))
        query = NamespaceQuery(sort=(SortKey("name", False),), limit=3)
        first = registry.list_namespaces(query, ADMIN)
        assert [each.name for each in first.namespaces] == ["00", "02", "04"]
        registry.create_namespace(namespace("01"))
        registry.delete_namespace("02", expect=1)
        rest = names(registry, replace(query, marker=first.next_marker))
        assert rest == ["06", "08", "10", "12", "14", "16", "18"]
        assert registry.list_namespaces(replace(query, limit=0), ADMIN).namespaces == ()
        for marker in ("missing", "nul\0"):
            with refusal(InvalidMarker, "no such marker"):
                registry.list_namespaces(replace(query, marker=marker), ADMIN)
        with refusal(InvalidInput, "a negative limit", "limit"):
            registry.list_namespaces(replace(query, limit=-1), ADMIN)
        with refusal(InvalidInput, "an unknown field", "version"):
            registry.list_namespaces(NamespaceQuery(sort=(SortKey("version"),)), ADMIN)

    @pytest.mark.parametrize("text", TEXTS)
    def test_texts_in_namespaces(self, registry: Registry, text: str) -> None:
        made = registry.create_namespace(
            namespace(
                text,
                display_name=text,
                description=text,
                owner=text,
                resource_types={text: {"prefix": text}},
                properties={text: {"title": text}},
            )
        )
        assert registry.get_namespace(text, Viewer(text)) == made, "clause 5"
        assert names(registry, NamespaceQuery(resource_types=frozenset({text}), owner=text)) == [text]
        assert [name for name, _, _ in registry.resource_types()] == [text]

    @pytest.mark.parametrize(("one", "other"), LOOKALIKES)
    def test_lookalikes_of_namespaces(self, registry: Registry, one: str, other: str) -> None:
        registry.create_namespace(namespace(one, resource_types={one: {}}))
        with refusal(NamespaceNotFound, "clause 5: text is equal only to itself"):
            registry.get_namespace(other, ADMIN)
        registry.create_namespace(namespace(other, resource_types={other: {}}))
        for name in (one, other):
            assert names(registry, NamespaceQuery(resource_types=frozenset({name}))) == [name], "clause 5"
        assert [name for name, _, _ in registry.resource_types()] == sorted((one, other)), "clause 5"

    @pytest.mark.parametrize(
        ("naming", "values"),
        [
            ("namespace", {"name": ""}),
            ("namespace", {"name": "x" * 81}),
            ("namespace", {"name": "nul\0"}),
            ("display_name", {"display_name": "x" * 81}),
            ("description", {"description": "x" * 501}),
            ("owner", {"owner": "\ud800"}),
            ("visibility", {"visibility": "shared"}),
            ("protected", {"protected": "yes"}),
            ("resource type", {"resource_types": {"": {}}}),
            ("resource type", {"resource_types": {"x" * 81: {}}}),
            ("definitions", {"properties": {"a": {"default": object()}}}),
            ("definitions", {"properties": {"a": {"default": float("nan")}}}),
            ("definitions", {"tags": {"a": {"text": "x" * LARGEST}}}),
            ("nested", {"properties": {"a": {"default": nested(DEEPEST)}}}),
            ("created_at", {"created_at": START.replace(tzinfo=None)}),
        ],
    )
    def test_what_namespaces_refuse(self, registry: Registry, naming: str, values: dict[str, Any]) -> None:
        bad = replace(namespace("a"), **values)
        with refusal(InvalidInput, f"{naming} that can't be kept", naming):
            registry.create_namespace(bad)
        made = registry.create_namespace(namespace("kept"))
        with refusal(InvalidInput, f"{naming} that can't be kept", naming):
            registry.update_namespace("kept", bad, expect=1)
        assert registry.get_namespace("kept", ADMIN) == made
        assert names(registry) == ["kept"]

    def test_the_longest_namespace(self, registry: Registry) -> None:
        text = "🦊" * (LARGEST // 12 - 1000)  # as JSON in ASCII each takes 12 bytes
        made = registry.create_namespace(
            namespace(
                "🦊" * 80,
                description="é" * 500,
                properties={"long": {"title": text}},
                tags={"deep": {"x": nested(DEEPEST - 5)}},
            )
        )
        assert registry.get_namespace(made.name, ADMIN) == made

    def test_resource_types_stay(self, registry: Registry) -> None:
        assert registry.resource_types() == ()
        made = registry.create_namespace(namespace("a", resource_types={"B": {}, "A": {}}))
        before = registry.resource_types()
        assert [name for name, _, _ in before] == ["A", "B"]
        assert all(created <= updated for _, created, updated in before)
        registry.update_namespace("a", replace(made, resource_types={"C": {}, "A": {}}), expect=1)
        registry.delete_namespace("a", expect=2)
        after = registry.resource_types()
        assert [name for name, _, _ in after] == ["A", "B", "C"]
        assert after[:2] == before

    def test_racing_namespace_updates(self, registry: Registry) -> None:
        made = registry.create_namespace(namespace("a"))
        results = race(
            [
                partial(
                    registry.update_namespace,
                    "a",
                    replace(made, resource_types={f"{n}": {}}, tags={f"{n}": {}}),
                    expect=1,
                )
                for n in range(WIDTH)
            ]
        )
        assert kinds(results) == ["StaleNamespace"] * (WIDTH - 1) + ["done"], "clause 1: one winner"
        (winner,) = [result for result in results if isinstance(result, Namespace)]
        assert registry.get_namespace("a", ADMIN) == winner, "clause 1: losers change nothing"
        found = registry.list_namespaces(
            NamespaceQuery(resource_types=frozenset(winner.resource_types)), ADMIN
        )
        assert len(found.namespaces) == 1

    def test_racing_namespace_creates(self, registry: Registry) -> None:
        types: dict[str, dict[str, Any]] = {f"type-{n}": {} for n in range(5)}
        for turn in range(3):
            calls = [
                partial(registry.create_namespace, namespace(f"{turn}", owner=f"{n}", resource_types=types))
                for n in range(WIDTH)
            ]
            assert kinds(race(calls)) == ["NamespaceExists"] * (WIDTH - 1) + ["done"]
        calls = [
            partial(registry.create_namespace, namespace(f"all-{n}", resource_types=types | {"new": {}}))
            for n in range(WIDTH)
        ]
        assert kinds(race(calls)) == ["done"] * WIDTH, "a resource type may be new to several at once"

    def test_namespace_update_against_delete(self, registry: Registry) -> None:
        for turn in range(5):
            made = registry.create_namespace(namespace(f"{turn}"))
            calls: list[Callable[[], object]] = [
                partial(registry.update_namespace, made.name, made, expect=1),
                partial(registry.delete_namespace, made.name, expect=1),
            ]
            updated, deleted = race(calls)
            if isinstance(updated, Exception):
                assert type(updated).__name__ in ("StaleNamespace", "NamespaceNotFound")
                assert deleted is None, "clause 1: one of two must win"
            else:
                assert type(deleted).__name__ == "StaleNamespace", "clause 1: delete is a compare-and-set too"

    def test_processes_edit_a_namespace(self, registry: Registry, children: Sequence[Child]) -> None:
        registry.create_namespace(namespace("a"))
        times = 10
        results = together(
            children, registry, "add_tags", [("a", f"{n}", times) for n in range(len(children))]
        )
        assert all(isinstance(result, int) for result in results), f"{results}"
        found = registry.get_namespace("a", ADMIN)
        assert len(found.tags) == times * len(children), "clause 1: an edit was lost"
        assert found.version == 1 + len(found.tags)
