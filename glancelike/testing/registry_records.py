"""Conformance: images one at a time, members and leases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from glancelike.errors import (
    ImageExists,
    ImageNotFound,
    InvalidInput,
    MemberNotFound,
    SchemaOutdated,
    StaleImage,
)
from glancelike.model import Filter, Image, Location, Member, MemberStatus, Op, Query, Viewer, Visibility
from glancelike.registry.base import ADMIN, Registry
from glancelike.registry.values import LARGEST, LENGTHS, LONG_TEXT
from glancelike.testing.registry_kit import (
    EVERYTHING,
    LOOKALIKES,
    MINE,
    OTHER,
    START,
    TEXTS,
    RegistryKit,
    full_image,
    ids,
    image,
    refusal,
    share,
)

LONGEST = "\U0001f98a"  # four bytes, one character

TEXT_FIELDS = (
    "name",
    "owner",
    "disk_format",
    "container_format",
    "checksum",
    "hash_algo",
    "hash_value",
)
TOO_MUCH: Mapping[str, Mapping[str, Any]] = {
    **{field: {field: "x" * (LENGTHS[field] + 1)} for field in ("id", *TEXT_FIELDS)},
    "tag": {"tags": frozenset({"x" * (LENGTHS["tag"] + 1)})},
    "property name": {"properties": {"x" * (LENGTHS["property"] + 1): "y"}},
    "property 'x'": {"properties": {"x": "é" * (LONG_TEXT // 2) + "é"}},
    "location key": {"locations": (Location("fast", "x" * (LONG_TEXT + 1)),)},
    "min_disk": {"min_disk": LARGEST["min_disk"] + 1},
    "min_ram": {"min_ram": -1},
    "size": {"size": LARGEST["size"] + 1},
    "virtual_size": {"virtual_size": 1.5},
    "created_at": {"created_at": datetime(2026, 1, 1)},
    "status": {"status": "sleeping"},
    "visibility": {"visibility": "secret"},
    "protected": {"protected": "yes"},
}


class RecordTests(RegistryKit):
    """Clauses 1, 2, 4 and 5, one caller at a time."""

    def test_is_never_falsy(self, registry: Registry) -> None:
        assert registry, "clause 8: a registry must not be falsy when it is empty"

    def test_opens_again_after_close(self, registry: Registry) -> None:
        registry.close()
        registry.close()
        registry.open()
        registry.create(image("a"))

    def test_open_before_upgrade(self) -> None:
        registry = self.make_registry()
        try:
            registry.open()
        except SchemaOutdated as error:
            if "glancelike db upgrade" not in str(error):
                pytest.fail(f"SchemaOutdated must say what to run, it says {error}")
        finally:
            registry.close()

    def test_upgrade_twice_keeps_everything(self, registry: Registry) -> None:
        made = registry.create(full_image())
        registry.upgrade()
        registry.upgrade()
        assert registry.get(made.id, ADMIN) == made, "clause 7: upgrade must keep the images"

    @pytest.mark.parametrize("made", [full_image("a"), Image("a")], ids=["full", "minimal"])
    def test_create_and_get(self, registry: Registry, made: Image) -> None:
        assert registry.create(made) == made
        assert registry.get("a", ADMIN) == made
        assert registry.list(EVERYTHING, ADMIN).images == (made,)

    def test_values_are_copies(self, registry: Registry) -> None:
        properties = {"key": "kept"}
        registry.create(image("a", properties=properties))
        properties["key"] = "changed"
        found = registry.get("a", ADMIN)
        if isinstance(found.properties, dict):
            found.properties["key"] = "changed"
        assert registry.get("a", ADMIN).properties == {"key": "kept"}, "values in, values out"

    def test_create_starts_at_version_one(self, registry: Registry) -> None:
        assert registry.create(image("a", version=7)).version == 1
        assert registry.get("a", ADMIN).version == 1

    def test_create_twice(self, registry: Registry) -> None:
        registry.create(image("a", name="first"))
        with refusal(ImageExists, "create() of an id in use"):
            registry.create(image("a", name="second"))
        assert registry.get("a", ADMIN).name == "first"

    def test_update_replaces_everything(self, registry: Registry) -> None:
        old = registry.create(
            image("full", name="old", tags={"b", "c"}, properties={"os_distro": "x", "y": ""})
        )
        wanted = replace(full_image(), created_at=START - timedelta(days=1), version=99)
        before = datetime.now(UTC) - timedelta(seconds=5)
        new = registry.update(wanted, expect=1)
        assert new == replace(wanted, created_at=old.created_at, updated_at=new.updated_at, version=2)
        assert new.updated_at >= before, "update() must set updated_at"
        assert registry.get("full", ADMIN) == new
        bare = registry.update(Image("full"), expect=2)
        assert registry.get("full", ADMIN) == bare
        assert (bare.name, bare.tags, bare.properties, bare.locations) == (None, frozenset(), {}, ())

    def test_update_reorders_locations(self, registry: Registry) -> None:
        places = (Location("a", "1"), Location("b", "2", {"x": "y"}), Location("a", "1"))
        registry.create(image("a", locations=places))
        registry.update(image("a", locations=places[::-1][:2]), expect=1)
        assert registry.get("a", ADMIN).locations == places[::-1][:2]

    def test_update_of_a_stale_image(self, registry: Registry) -> None:
        registry.create(image("a", name="kept"))
        for expect in (0, 2, -1):
            with refusal(StaleImage, "clause 1: update() with another version"):
                registry.update(image("a", name="lost", tags={"lost"}), expect=expect)
        found = registry.get("a", ADMIN)
        assert (found.name, found.tags, found.version) == ("kept", frozenset(), 1)

    def test_refused_update_changes_nothing(self, registry: Registry) -> None:
        made = registry.create(full_image())
        with refusal(InvalidInput, "a property that can't be stored", "evil"):
            registry.update(replace(made, name="new", tags=frozenset(), properties={"evil": "\0"}), expect=1)
        assert registry.get(made.id, ADMIN) == made, "one method is one transaction"

    def test_missing_images(self, registry: Registry) -> None:
        for absent in ("missing", "", "nul\0", "\ud800", "x" * 1000, TEXTS[2]):
            with refusal(ImageNotFound, f"get({absent!r})"):
                registry.get(absent, ADMIN)
            with refusal(ImageNotFound, f"delete({absent!r})"):
                registry.delete(absent, expect=1)
        with refusal(ImageNotFound, "update() of an unknown id"):
            registry.update(image("missing"), expect=1)

    def test_delete(self, registry: Registry) -> None:
        made = registry.create(full_image())
        registry.add_member(Member(made.id, MINE))
        with refusal(StaleImage, "clause 1: delete() with another version"):
            registry.delete(made.id, expect=2)
        assert registry.get(made.id, ADMIN) == made
        registry.delete(made.id, expect=1)
        with refusal(ImageNotFound, "get() of a deleted image"):
            registry.get(made.id, ADMIN)
        with refusal(ImageNotFound, "update() of a deleted image"):
            registry.update(made, expect=2)
        with refusal(ImageNotFound, "a second delete()"):
            registry.delete(made.id, expect=2)
        with refusal(ImageNotFound, "add_member() to a deleted image"):
            registry.add_member(Member(made.id, OTHER))
        with refusal(MemberNotFound, "get_member() of a deleted image"):
            registry.get_member(made.id, MINE)
        assert ids(registry) == []
        assert ids(registry, replace(EVERYTHING, tags=frozenset({"a"}))) == []
        assert registry.list_members(made.id) == ()
        assert registry.locations_of([made.id]) == {}

    def test_an_id_is_never_used_again(self, registry: Registry) -> None:
        registry.create(image("a"))
        registry.delete("a", expect=1)
        with refusal(ImageExists, "clause 4: create() of a deleted image's id"):
            registry.create(image("a"))
        if self.processes:
            registry.close()
            registry.open()
            with refusal(ImageExists, "clause 4: create() of a deleted image's id after a restart"):
                registry.create(image("a"))

    def test_locations_of(self, registry: Registry) -> None:
        for number in range(30):
            registry.create(
                image(f"{number}", locations=(Location("s", f"b{number}"), Location("s", "a"))[: number % 3])
            )
        registry.delete("2", expect=1)
        asked = [str(number) for number in range(1000)] + ["nul\0", "\ud800"]
        found = registry.locations_of(iter(asked))
        assert set(found) == {str(number) for number in range(30)} - {"2"}
        assert (found["0"], found["1"]) == ((), (("s", "b1"),))
        assert found["5"] == (("s", "b5"), ("s", "a"))
        assert registry.locations_of([]) == {}

    # Clause 5

    def test_empty_text(self, registry: Registry) -> None:
        made = image("a", name="", owner="", tags=frozenset({""}), properties={"": ""})
        registry.create(made)
        registry.create(Image("b"))
        assert registry.get("a", ADMIN) == made, "clause 5: an empty text isn't None"
        assert ids(registry, Query(filters=(Filter("name", Op.EQ, ""),)), ADMIN) == ["a"]
        assert ids(registry, Query(tags=frozenset({""})), ADMIN) == ["a"]

    @pytest.mark.parametrize("text", TEXTS)
    def test_any_text(self, registry: Registry, text: str) -> None:
        made = image(
            text,
            name=text,
            owner=text,
            tags=frozenset({text}),
            properties={text: text},
            locations=(Location(text, text, {text: text}),),
        )
        registry.create(made)
        assert registry.get(text, Viewer(text)) == made, "clause 5: text must come back as it was given"
        registry.add_member(Member(text, text))
        assert registry.get_member(text, text).project == text
        assert registry.acquire_lease(text, text, 60)
        assert registry.leased([text]) == {text}
        for condition in (Filter("name", Op.EQ, text), Filter(text, Op.IN, (text,), is_property=True)):
            wanted = Query(filters=(condition,), tags=frozenset({text}))
            assert ids(registry, wanted, Viewer(text)) == [text]

    @pytest.mark.parametrize(("one", "two"), LOOKALIKES)
    def test_lookalikes(self, registry: Registry, one: str, two: str) -> None:
        for text in (one, two):
            registry.create(
                Image(
                    text,
                    name=text,
                    owner=text,
                    hash_value=text,
                    tags=frozenset({text}),
                    properties={"p": text},
                )
            )
            registry.add_member(Member(text, text, MemberStatus.ACCEPTED))
            assert registry.acquire_lease(text, text, 60)
        both = image("both", tags=frozenset({one, two}), properties={one: "1", two: "2"})
        assert registry.create(both) == registry.get("both", ADMIN)
        registry.add_member(Member("both", one))
        registry.add_member(Member("both", two))
        for text in (one, two):
            assert registry.get(text, ADMIN).name == text
            assert ids(registry, Query(), Viewer(text)) == [text]
            assert registry.leased([text]) == {text}
            for field in ("id", "name", "owner", "hash_value"):
                wanted = replace(EVERYTHING, filters=(Filter(field, Op.EQ, text),))
                assert ids(registry, wanted) == [text], f"clause 5: {field} must be compared exactly"
            wanted = replace(EVERYTHING, filters=(Filter("p", Op.EQ, text, is_property=True),))
            assert ids(registry, wanted) == [text], "clause 5: properties must be compared exactly"
            wanted = replace(EVERYTHING, filters=(Filter(text, Op.IN, ("1", "2"), is_property=True),))
            assert ids(registry, wanted) == ["both"], "clause 5: property names must be compared exactly"
            assert sorted(ids(registry, replace(EVERYTHING, tags=frozenset({text})))) == sorted(
                [text, "both"]
            )

    def test_long_values_that_differ_at_their_end(self, registry: Registry) -> None:
        start = "x" * (LONG_TEXT - 1)
        for end in "ab":
            registry.create(image(end, properties={"p": start + end}))
        for end in "ab":
            wanted = Query(filters=(Filter("p", Op.EQ, start + end, is_property=True),))
            assert ids(registry, wanted) == [end], "clause 5: long values must be compared to their end"

    def test_longest_values(self, registry: Registry) -> None:
        made = image(
            LONGEST * LENGTHS["id"],
            tags=frozenset({LONGEST * LENGTHS["tag"]}),
            properties={LONGEST * LENGTHS["property"]: LONGEST * (LONG_TEXT // 4)},
            locations=(Location(LONGEST * LENGTHS["store"], LONGEST * (LONG_TEXT // 4)),),
            **{
                field: LONGEST * LENGTHS[field]
                for field in (
                    "name",
                    "owner",
                    "disk_format",
                    "container_format",
                    "checksum",
                    "hash_algo",
                    "hash_value",
                )
            },
            **LARGEST,
        )
        assert registry.create(made) == made
        assert registry.get(made.id, ADMIN) == made, "clause 5: the longest values must come back whole"
        project = LONGEST * LENGTHS["project"]
        assert registry.add_member(Member(made.id, project)) == registry.get_member(made.id, project)

    @pytest.mark.parametrize("field", TOO_MUCH)
    def test_too_much(self, registry: Registry, field: str) -> None:
        made = replace(image("a"), **TOO_MUCH[field])
        with refusal(InvalidInput, f"create() with a bad {field}", field):
            registry.create(made)
        assert ids(registry) == []

    @pytest.mark.parametrize("text", ["nul\0", "\0", "high \ud83e", "low \udd8a"])
    def test_text_that_cannot_be_stored(self, registry: Registry, text: str) -> None:
        registry.create(image("a"))
        for field, values in {
            "id": {"id": text},
            "name": {"name": text},
            "owner": {"owner": text},
            "tag": {"tags": frozenset({text})},
            "property": {"properties": {text: "x"}},
            "'x'": {"properties": {"x": text}},
            "location": {"locations": (Location("fast", text),)},
        }.items():
            with refusal(InvalidInput, f"a bad {field}", field):
                registry.create(replace(image("b"), **values))  # type: ignore[arg-type]
        with refusal(InvalidInput, "a bad member", "member"):
            registry.add_member(Member("a", text))
        with refusal(InvalidInput, "a bad lease", "lease"):
            registry.acquire_lease(text, "me", 1)
        with refusal(InvalidInput, "a bad filter", "name"):
            registry.list(Query(filters=(Filter("name", Op.EQ, text),)), ADMIN)
        assert ids(registry) == ["a"]

    def test_times(self, registry: Registry) -> None:
        made = datetime(2026, 7, 8, 1, 2, 3, 4, timezone(timedelta(hours=5, minutes=30)))
        registry.create(image("a", created_at=made, updated_at=datetime(1970, 1, 1, tzinfo=UTC)))
        registry.create(image("b", created_at=datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)))
        found = registry.get("a", ADMIN)
        assert (found.created_at, found.created_at.utcoffset()) == (made, timedelta())
        assert found.updated_at == datetime(1970, 1, 1, tzinfo=UTC)
        assert registry.get("b", ADMIN).created_at.microsecond == 999999

    # Clause 2

    @pytest.mark.parametrize("visibility", Visibility)
    def test_who_may_see_what(self, registry: Registry, visibility: Visibility) -> None:
        registry.create(image("a", visibility=visibility))
        members = {f"member-{status}": status for status in MemberStatus}
        for project, status in members.items():
            share(registry, "a", project, status)
        for viewer, seen in {
            ADMIN: True,
            Viewer(OTHER, admin=True): True,
            Viewer(MINE): True,
            Viewer(OTHER): visibility in ("public", "community"),
            Viewer(): visibility in ("public", "community"),
            **{Viewer(project): visibility != "private" for project in members},
        }.items():
            if seen:
                assert registry.get("a", viewer).id == "a", f"{viewer} must see a {visibility} image"
            else:
                with refusal(ImageNotFound, f"clause 2: {viewer} and a {visibility} image"):
                    registry.get("a", viewer)

    def test_an_image_of_nobody(self, registry: Registry) -> None:
        registry.create(Image("a", owner=None, visibility=Visibility.PRIVATE))
        assert registry.get("a", ADMIN).owner is None
        for viewer in (Viewer(), Viewer(""), Viewer("None")):
            with refusal(ImageNotFound, f"clause 2: {viewer} and an image without owner"):
                registry.get("a", viewer)
            assert ids(registry, Query(visibility="all"), viewer) == []
