"""Conformance: uploads in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from glancelike.errors import ImageNotFound, InvalidInput, StaleUpload, UploadNotFound
from glancelike.model import Upload, UploadKind, UploadState, utcnow
from glancelike.registry.base import ADMIN, Registry
from glancelike.testing.registry_child import Child, together
from glancelike.testing.registry_kit import OTHER, START, TEXTS, RegistryKit, image, kinds, race, refusal

WIDTH = 8


def upload(id_: str, image_id: str = "an-image", **values: Any) -> Upload:
    """Make an upload to an image."""
    given = {"store": "fast", "home": "fast", "key": f"{image_id}-{id_}", "part_size": 5 << 20}
    return Upload(id_, image_id, **{**given, "created_at": START, "expires_at": START, **values})


def full_upload() -> Upload:
    """Make an upload in which every field differs from its default."""
    return upload(
        "full",
        home="staging",
        key="k" * 512,
        kind=UploadKind.FINAL,
        state=UploadState.FINISHING,
        owner=OTHER,
        length=2**53 + 1,
        session="an id of the store's own/" + "x" * 3000,
        parts=9999,
        part_size=2**40,
        tail=(("tail-1", 2**33), ("tail-2", 1)),
        joins=("a", "b", "a"),
        metadata="filename d29ybGQ=,empty",
        task_id="a-task",
        expires_at=START + timedelta(days=3, microseconds=1),
    )


def upload_ids(found: Sequence[Upload]) -> list[str]:
    """Name uploads in their order."""
    return [each.id for each in found]


class UploadTests(RegistryKit):
    """``UploadRecords``."""

    def test_uploads_are_kept_whole(self, registry: Registry) -> None:
        registry.create(image("an-image"))
        for each in (full_upload(), upload("plain")):
            assert registry.create_upload(replace(each, version=7)) == each
            assert registry.get_upload(each.id) == each
        for number, text in enumerate(TEXTS, 1):
            changed = registry.update_upload(replace(full_upload(), metadata=text), expect=number)
            assert changed == registry.get_upload("full")
            assert changed.metadata == text

    def test_update_upload(self, registry: Registry) -> None:
        registry.create(image("an-image"))
        made = registry.create_upload(upload("a"))
        changed = replace(made, state=UploadState.FULL, image_id="other", created_at=utcnow(), version=99)
        updated = registry.update_upload(changed, expect=1)
        assert updated == replace(made, state=UploadState.FULL, version=2)
        assert registry.get_upload("a") == updated
        results = race([partial(registry.update_upload, updated, expect=2) for _ in range(WIDTH)])
        assert kinds(results) == ["StaleUpload"] * (WIDTH - 1) + ["done"], "clause 1: one winner"
        with refusal(UploadNotFound, "update_upload() of none", "'none'"):
            registry.update_upload(upload("none"), expect=1)
        with refusal(StaleUpload, "delete_upload() of an older version"):
            registry.delete_upload("a", expect=2)
        registry.delete_upload("a", expect=3)
        with refusal(UploadNotFound, "delete_upload() twice"):
            registry.delete_upload("a", expect=3)

    def test_uploads_that_can_not_be(self, registry: Registry) -> None:
        registry.create(image("an-image"))
        for id_ in ("none", "nul\0", "\ud800"):
            with refusal(UploadNotFound, "get_upload()"):
                registry.get_upload(id_)
            with refusal(UploadNotFound, "delete_upload()"):
                registry.delete_upload(id_, expect=1)
        with refusal(ImageNotFound, "an upload to no image", "'none'"):
            registry.create_upload(upload("a", "none"))
        registry.create_upload(upload("a"))
        with refusal(InvalidInput, "create_upload() with an id in use", "a"):
            registry.create_upload(upload("a"))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("id", ""),
            ("image_id", "nul\0"),
            ("store", ""),
            ("home", "x" * 256),
            ("key", "x" * 513),
            ("owner", "\ud800"),
            ("length", -1),
            ("part_size", 2**63),
            ("parts", -1),
            ("tail", (("key", -1),)),
            ("metadata", "x" * 65536),
            ("kind", "other"),
            ("state", "other"),
            ("expires_at", START.replace(tzinfo=None)),
        ],
    )
    def test_what_an_upload_can_not_hold(self, registry: Registry, field: str, value: Any) -> None:
        registry.create(image("an-image"))
        with refusal(InvalidInput, f"{field} = {value!r:.40}"):
            registry.create_upload(replace(upload("a"), **{field: value}))
        assert registry.uploads_of(["an-image"]) == ()

    def test_uploads_are_found(self, registry: Registry) -> None:
        now = utcnow()
        for name in ("one", "two", "three"):
            registry.create(image(name))
        for number, (image_id, state, hours) in enumerate(
            [
                ("one", UploadState.OPEN, -3),
                ("two", UploadState.FULL, 1),
                ("one", UploadState.FULL, -1),
                ("three", UploadState.FINISHING, -2),
                ("one", UploadState.DONE, -2),
            ]
        ):
            at = START - timedelta(seconds=number)
            expires = now + timedelta(hours=hours)
            registry.create_upload(
                upload(f"u{number}", image_id, state=state, created_at=at, expires_at=expires)
            )
        assert upload_ids(registry.uploads_of(["one"])) == ["u4", "u2", "u0"]
        many = [*(f"none{number}" for number in range(1200)), "two", "nul\0", "three"]
        assert upload_ids(registry.uploads_of(iter(many))) == ["u3", "u1"]
        assert upload_ids(registry.expired_uploads(10)) == ["u0", "u4", "u2"], "not what is finishing"
        assert upload_ids(registry.expired_uploads(1)) == ["u0"]
        assert upload_ids(registry.uploads_in(UploadState.FULL, 10)) == ["u2", "u1"]
        assert upload_ids(registry.uploads_in(UploadState.FULL, 1)) == ["u2"]

    def test_uploads_go_with_their_image(self, registry: Registry) -> None:
        for name in ("one", "two"):
            registry.create(image(name))
            registry.create_upload(upload(f"of-{name}", name))
        registry.delete("one", expect=1)
        with refusal(UploadNotFound, "an upload whose image was deleted"):
            registry.get_upload("of-one")
        with refusal(UploadNotFound, "update_upload() after the image's delete"):
            registry.update_upload(upload("of-one", "one"), expect=1)
        with refusal(ImageNotFound, "an upload to a deleted image"):
            registry.create_upload(upload("late", "one"))
        assert registry.get_upload("of-two").image_id == "two"
        assert registry.get("two", ADMIN).version == 1, "an upload is no change of its image"

    def test_processes_claim_uploads(self, registry: Registry, children: Sequence[Child]) -> None:
        registry.create(image("an-image"))
        registry.create_upload(upload("a"))
        results = together(children, registry, "claim_upload", [("a", 1, n) for n in range(len(children))])
        assert sorted(map(str, results)) == ["StaleUpload"] * (len(children) - 1) + ["done"], "clause 1"
        assert registry.get_upload("a").parts == results.index("done")
