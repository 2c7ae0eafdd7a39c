"""Conformance: what a listing shows, filters, sorts and pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from glancelike.errors import InvalidInput, InvalidMarker
from glancelike.model import (
    FILTER_FIELDS,
    SORT_FIELDS,
    Filter,
    Image,
    MemberStatus,
    Op,
    Query,
    SortKey,
    Status,
    Viewer,
    Visibility,
)
from glancelike.registry.base import ADMIN, Registry
from glancelike.testing.registry_kit import (
    EVERYTHING,
    MINE,
    OTHER,
    START,
    RegistryKit,
    fill,
    ids,
    image,
    refusal,
    share,
)

ME, STRANGER, ANYBODY, ROOT = (
    Viewer(MINE),
    Viewer("project-of-a-stranger"),
    Viewer(),
    Viewer(MINE, admin=True),
)

# Images of the visibility table: mine, and others' with how they are shared with me.
MY_IMAGES = "my-public my-community my-shared my-private"
OTHERS = "public community shared private"
TO_ME = "pending accepted rejected"
EVERY = f"{MY_IMAGES} {OTHERS} {TO_ME} public-member private-member"

# (viewer, visibility, member status) and what is listed.
VISIBLE: tuple[tuple[Viewer, str | None, str, str], ...] = (
    (ME, None, "accepted", f"{MY_IMAGES} public public-member accepted"),
    (ME, None, "pending", f"{MY_IMAGES} public public-member pending"),
    (ME, None, "rejected", f"{MY_IMAGES} public public-member rejected"),
    (ME, None, "all", f"{MY_IMAGES} public public-member {TO_ME}"),
    (ME, "all", "accepted", f"{MY_IMAGES} public public-member community accepted"),
    (ME, "all", "all", f"{MY_IMAGES} public public-member community {TO_ME}"),
    (ME, "public", "accepted", "my-public public public-member"),
    (ME, "community", "accepted", "my-community community"),
    (ME, "shared", "accepted", "my-shared accepted"),
    (ME, "shared", "pending", "my-shared pending"),
    (ME, "shared", "all", f"my-shared {TO_ME}"),
    (ME, "private", "all", "my-private"),
    (STRANGER, None, "all", "my-public public public-member"),
    (STRANGER, "all", "all", "my-public public public-member my-community community"),
    (STRANGER, "shared", "all", ""),
    (STRANGER, "private", "all", ""),
    (ANYBODY, None, "all", "my-public public public-member"),
    (ANYBODY, "all", "all", "my-public public public-member my-community community"),
    (ANYBODY, "public", "accepted", "my-public public public-member"),
    (ANYBODY, "community", "accepted", "my-community community"),
    (ANYBODY, "shared", "all", ""),
    (ANYBODY, "private", "all", ""),
    (ROOT, None, "accepted", EVERY.replace(" community", "")),
    (ROOT, "all", "accepted", EVERY),
    (ROOT, "shared", "accepted", f"my-shared shared {TO_ME}"),
    (ROOT, "private", "accepted", "my-private private private-member"),
    (ROOT, "community", "accepted", "my-community community"),
    (ADMIN, None, "accepted", EVERY.replace(" community", "").replace(" my-community", "")),
    (ADMIN, "all", "accepted", EVERY),
)

T0, T1, T2 = (START + timedelta(microseconds=number) for number in range(3))
SAMPLES = (
    Image("a", Status.ACTIVE, "one", MINE, size=0, min_disk=1, created_at=T0, updated_at=T2, checksum="c1"),
    Image("b", Status.QUEUED, "two", MINE, size=5, min_disk=2, created_at=T1, updated_at=T1, hash_value="h1"),
    Image(
        "c", Status.SAVING, "two", OTHER, size=2**62, min_ram=3, created_at=T2, updated_at=T0, protected=True
    ),
    Image(
        "d",
        Status.ACTIVE,
        None,
        None,
        disk_format="raw",
        container_format="bare",
        created_at=T2,
        updated_at=T0,
    ),
)
EXTRAS: Mapping[str, Mapping[str, Any]] = {
    "a": {"tags": {"x"}, "properties": {"os": "debian", "empty": ""}, "virtual_size": 7},
    "b": {"tags": {"x", "y"}, "properties": {"os": "fedora", "name": "shadow"}, "hash_algo": "sha512"},
    "c": {"tags": {"y", "X"}, "properties": {"OS": "debian", "os": "Debian"}},
}
EQ, NEQ, GT, GTE, LT, LTE, IN = Op
FOUND: tuple[tuple[str, Op, Any, str], ...] = (
    ("id", EQ, "a", "a"),
    ("id", NEQ, "a", "bcd"),
    ("id", IN, ("a", "d", "missing"), "ad"),
    ("id", IN, (), ""),
    ("name", EQ, "two", "bc"),
    ("name", EQ, "tw", ""),
    ("name", NEQ, "two", "a"),
    ("name", IN, ("one", "two"), "abc"),
    ("status", EQ, Status.ACTIVE, "ad"),
    ("status", NEQ, Status.ACTIVE, "bc"),
    ("status", IN, (Status.QUEUED, Status.SAVING), "bc"),
    ("owner", EQ, MINE, "ab"),
    ("owner", NEQ, MINE, "c"),
    ("disk_format", EQ, "raw", "d"),
    ("container_format", IN, ("bare", "ovf"), "d"),
    ("checksum", EQ, "c1", "a"),
    ("hash_algo", EQ, "sha512", "b"),
    ("hash_value", EQ, "h1", "b"),
    ("protected", EQ, True, "c"),
    ("protected", EQ, False, "abd"),
    ("protected", NEQ, False, "c"),
    ("size", EQ, 5, "b"),
    ("size", NEQ, 5, "ac"),
    ("size", GT, 0, "bc"),
    ("size", GTE, 0, "abc"),
    ("size", LT, 5, "a"),
    ("size", LTE, 5, "ab"),
    ("size", GTE, 2**62, "c"),
    ("size", IN, (0, 2**62), "ac"),
    ("virtual_size", LTE, 7, "a"),
    ("min_disk", GTE, 1, "ab"),
    ("min_disk", EQ, 0, "cd"),
    ("min_ram", GT, 2, "c"),
    ("created_at", EQ, T1, "b"),
    ("created_at", NEQ, T1, "acd"),
    ("created_at", GT, T0, "bcd"),
    ("created_at", GTE, T1, "bcd"),
    ("created_at", LT, T1, "a"),
    ("created_at", LTE, T1, "ab"),
    ("created_at", IN, (T0, T1), "ab"),
    ("updated_at", EQ, T0, "cd"),
    ("updated_at", NEQ, T0, "ab"),
    ("updated_at", GT, T0, "ab"),
    ("updated_at", GTE, T1, "ab"),
    ("updated_at", LT, T2, "bcd"),
    ("updated_at", LTE, T0, "cd"),
    ("updated_at", IN, (T2,), "a"),
    ("property os", EQ, "debian", "a"),
    ("property os", IN, ("debian", "fedora"), "ab"),
    ("property os", IN, (), ""),
    ("property OS", EQ, "debian", "c"),
    ("property empty", EQ, "", "a"),
    ("property missing", EQ, "", ""),
    ("property name", EQ, "shadow", "b"),
    ("property name", EQ, "two", ""),
)
NONSENSE = (
    Query(sort=(SortKey("colour"),)),
    Query(sort=(SortKey("tags"),)),
    Query(limit=-1),
    Query(visibility="secret"),
    Query(member_status="maybe"),
    Query(filters=(Filter("colour", EQ, "red"),)),
    Query(filters=(Filter("name", GT, "x"),)),
    Query(filters=(Filter("name", EQ, None),)),
    Query(filters=(Filter("name", IN, "abc"),)),
    Query(filters=(Filter("size", EQ, "5"),)),
    Query(filters=(Filter("size", EQ, True),)),
    Query(filters=(Filter("size", GT, 2**64),)),
    Query(filters=(Filter("protected", EQ, "yes"),)),
    Query(filters=(Filter("created_at", GT, "2026"),)),
    Query(filters=(Filter("created_at", GT, T0.replace(tzinfo=None)),)),
    Query(filters=(Filter("os", NEQ, "x", is_property=True),)),
    Query(filters=(Filter("os", EQ, 5, is_property=True),)),
)


def condition(field: str, op: Op, value: Any) -> Filter:
    """Make a filter from a line of FOUND."""
    kind, _, name = field.rpartition(" ")
    return Filter(name, op, value, is_property=kind == "property")


def in_order(images: list[Image], sort: tuple[SortKey, ...]) -> list[str]:
    """Sort by clause 3, the plain way."""

    def rank(image: Image, field: str) -> tuple[bool, Any]:
        value = getattr(image, field)
        return value is not None, value

    for key in (*sort, SortKey("id", sort[-1].descending))[::-1]:
        images = sorted(images, key=lambda each, key=key: rank(each, key.field), reverse=key.descending)  # type: ignore[misc]
    return [image.id for image in images]


class ListTests(RegistryKit):
    """Clauses 2 and 3, one caller at a time."""

    def make_table(self, registry: Registry) -> None:
        for visibility in Visibility:
            registry.create(image(f"my-{visibility}", visibility=visibility))
            registry.create(Image(str(visibility), owner=OTHER, visibility=visibility))
        for status in MemberStatus:
            registry.create(Image(str(status), owner=OTHER))
            share(registry, str(status), MINE, status)
        for visibility in (Visibility.PUBLIC, Visibility.PRIVATE):
            registry.create(Image(f"{visibility}-member", owner=OTHER, visibility=visibility))
            share(registry, f"{visibility}-member", MINE, MemberStatus.ACCEPTED)

    def test_what_a_viewer_lists(self, registry: Registry) -> None:
        self.make_table(registry)
        for viewer, visibility, status, wanted in VISIBLE:
            for limit in (100, 2):
                query = Query(visibility=visibility, member_status=status, limit=limit)
                found = ids(registry, query, viewer)
                assert sorted(found) == sorted(wanted.split()), (
                    f"clause 2: {viewer} lists visibility={visibility} member_status={status} limit={limit}"
                )

    def test_hidden_images(self, registry: Registry) -> None:
        for number in range(4):
            registry.create(image(f"{number}", hidden=number % 2 == 1, created_at=T0 + timedelta(number)))
        for viewer in (ME, ADMIN):
            for limit in (1, 10):
                assert ids(registry, Query(limit=limit), viewer) == ["2", "0"]
                assert ids(registry, Query(hidden=True, limit=limit), viewer) == ["3", "1"]
                assert ids(registry, Query(hidden=None, limit=limit), viewer) == ["3", "2", "1", "0"]

    def test_a_page_is_full(self, registry: Registry) -> None:
        for number in range(40):
            registry.create(Image(f"{number:02}", owner=MINE if number % 10 == 0 else OTHER, created_at=T0))
        page = registry.list(Query(limit=4), ME)
        assert len(page.images) == 4, "clause 2: visibility must be decided before a page is cut"
        assert page.next_marker is None, "the last page has no next one"

    # Filters

    def make_samples(self, registry: Registry) -> None:
        for made in SAMPLES:
            extras = {**EXTRAS.get(made.id, {}), "visibility": Visibility.PUBLIC}
            registry.create(replace(made, **extras))

    def test_filters(self, registry: Registry) -> None:
        self.make_samples(registry)
        for field, op, value, wanted in FOUND:
            query = Query(filters=(condition(field, op, value),), sort=(SortKey("id", False),), limit=2)
            for viewer in (ADMIN, ME):
                assert "".join(ids(registry, query, viewer)) == wanted, f"{field} {op} {value!r}"
        assert {field for field, *_ in FOUND} >= set(FILTER_FIELDS), "the table must know every field"

    def test_filters_together(self, registry: Registry) -> None:
        self.make_samples(registry)
        for number, (field, op, value, wanted) in enumerate(FOUND):
            other_field, other_op, other_value, other_wanted = FOUND[number - 7]
            pair = (condition(field, op, value), condition(other_field, other_op, other_value))
            found = ids(registry, Query(filters=pair), ME)
            assert set(found) == set(wanted) & set(other_wanted), f"{pair}"

    def test_tags(self, registry: Registry) -> None:
        self.make_samples(registry)
        for tags, wanted in {
            "x": "ab",
            "y": "bc",
            "xy": "b",
            "X": "c",
            "xX": "",
            "z": "",
            "": "abcd",
        }.items():
            assert sorted(ids(registry, Query(tags=frozenset(tags)), ME)) == sorted(wanted), f"tags {tags}"
        filtered = Query(tags=frozenset("x"), filters=(Filter("name", EQ, "two"),))
        assert ids(registry, filtered, ME) == ["b"]

    @pytest.mark.parametrize("query", NONSENSE)
    def test_nonsense(self, registry: Registry, query: Query) -> None:
        for viewer in (ADMIN, ANYBODY):
            with refusal(InvalidInput, f"list({query})"):
                registry.list(query, viewer)

    # Clause 3

    def make_ties(self, registry: Registry) -> list[Image]:
        """Create images with many equal values, and None, in every field."""
        made = []
        for number in range(24):
            made.append(
                Image(
                    f"{(number * 7) % 24:02}",
                    Status.ACTIVE if number % 3 else Status.QUEUED,
                    [None, "b", "a", "B", "é", "\U0001f98a", "\uffee", ""][number % 8],
                    [None, MINE, OTHER][number % 3],
                    [Visibility.PUBLIC, Visibility.SHARED][number % 2],
                    disk_format=[None, "raw"][number % 2],
                    container_format=[None, "bare", "ovf"][number % 3],
                    min_disk=number % 2,
                    min_ram=number % 3,
                    size=[None, 1, 2**62][number % 3],
                    virtual_size=[3, None][number % 2],
                    created_at=T0 + timedelta(seconds=number // 6),
                    updated_at=T0 - timedelta(seconds=number % 5),
                )
            )
        return [registry.create(image) for image in made]

    @pytest.mark.parametrize("limit", [1, 5, 24])
    def test_every_sort(self, registry: Registry, limit: int) -> None:
        made = self.make_ties(registry)
        for field in sorted(SORT_FIELDS):
            for descending in (False, True):
                sort = (SortKey(field, descending),)
                found = ids(registry, Query(sort=sort, visibility="all", limit=limit), ADMIN)
                assert found == in_order(made, sort), f"clause 3: sorted by {field}, descending={descending}"

    def test_several_sort_keys(self, registry: Registry) -> None:
        made = self.make_ties(registry)
        mine = [image for image in made if image.owner == MINE or image.visibility == "public"]
        for names in (("name", "size"), ("size", "name", "created_at"), ("container_format", "id", "name")):
            for directions in range(2 ** len(names)):
                sort = tuple(SortKey(name, bool(directions >> n & 1)) for n, name in enumerate(names))
                for viewer, seen in ((ADMIN, made), (ME, mine)):
                    query = Query(sort=sort, visibility="all", limit=5)
                    assert ids(registry, query, viewer) == in_order(seen, sort), f"clause 3: {sort} {viewer}"

    def test_sort_by_nothing_and_by_the_same(self, registry: Registry) -> None:
        made = self.make_ties(registry)
        newest_id = sorted((image.id for image in made), reverse=True)
        assert ids(registry, replace(EVERYTHING, sort=(), limit=7)) == newest_id
        twice = (SortKey("name", False), SortKey("name", True))
        found = ids(registry, replace(EVERYTHING, sort=twice, limit=7))
        assert found == in_order(made, (SortKey("name", False), SortKey("id", True)))

    @pytest.mark.parametrize(
        "query",
        [
            Query(filters=(Filter("name", EQ, "b"),)),
            Query(filters=(Filter("size", GTE, 1), Filter("created_at", GT, T0)), sort=(SortKey("size"),)),
            Query(filters=(Filter("created_at", GT, T0),)),
            Query(visibility="public", sort=(SortKey("name", False),)),
            Query(hidden=None, sort=(SortKey("name"), SortKey("size", False))),
        ],
    )
    def test_filtered_pages(self, registry: Registry, query: Query) -> None:
        self.make_ties(registry)
        for viewer in (ADMIN, ME, ANYBODY):
            whole = ids(registry, replace(query, limit=100), viewer)
            for limit in (1, 2, 3):
                assert ids(registry, replace(query, limit=limit), viewer) == whole, "clause 3: pages differ"

    def test_where_pages_end(self, registry: Registry) -> None:
        fill(registry, 6)
        assert registry.list(Query(limit=0), ME).images == ()
        for limit, last in ((6, None), (7, None), (5, "image-0001")):
            page = registry.list(Query(limit=limit), ME)
            assert (len(page.images), page.next_marker) == (min(limit, 6), last)
        page = registry.list(Query(marker="image-0000"), ME)
        assert (page.images, page.next_marker) == ((), None), "nothing comes after the last image"

    def test_markers(self, registry: Registry) -> None:
        self.make_table(registry)
        for viewer, marker in (
            (ME, "missing"),
            (ME, "nul\0"),
            (ME, "\ud800"),
            (ME, "private"),
            (ME, "shared"),
            (ME, "private-member"),
            (ANYBODY, "my-shared"),
            (STRANGER, "accepted"),
        ):
            with refusal(InvalidMarker, f"list(marker={marker!r}) by {viewer}", repr(marker)):
                registry.list(Query(marker=marker), viewer)
        registry.delete("my-private", expect=1)
        with refusal(InvalidMarker, "the marker of a deleted image"):
            registry.list(Query(marker="my-private"), ADMIN)
        # A marker need not be among what is listed, only visible.
        query = Query(visibility="public", sort=(SortKey("id", False),), marker="community")
        assert ids(registry, query, ME) == ["my-public", "public", "public-member"]

    @pytest.mark.parametrize("descending", [True, False])
    @pytest.mark.parametrize("field", ["created_at", "name", "id"])
    def test_paging_while_images_come_and_go(self, registry: Registry, field: str, descending: bool) -> None:
        made = fill(registry, 30, name="same")
        going = {image.id for image in made[::5]}
        seen: list[str] = []
        marker = None
        for number in range(100):
            query = Query(sort=(SortKey(field, descending),), limit=3, marker=marker)
            page = registry.list(query, ME)
            seen += [image.id for image in page.images]
            marker = page.next_marker
            if marker is None:
                break
            for name, moment in (("a", T0 - timedelta(days=1)), ("z", T0 + timedelta(days=1))):
                registry.create(image(f"{name}-{number}", name=name, created_at=moment))
            if going and (gone := going.pop()) != marker:
                registry.delete(gone, expect=1)
        kept = {image.id for image in made} - {image.id for image in made[::5]}
        assert len(seen) == len(set(seen)), "clause 3: an image was shown twice"
        assert kept <= set(seen), "clause 3: an image was skipped"
