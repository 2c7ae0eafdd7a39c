"""Stores whose keys name the owner: who gets which key, and what becomes of it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from glancelike.embedded import open_service
from glancelike.errors import ConfigError, Unsupported
from glancelike.model import Caller, Change, ChangeOp, Image, Upload
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService
from glancelike.service.ingest import image_of, new_key
from glancelike.stores.memory import MemoryStore
from glancelike.vfs import MountTable

MEMBER = frozenset({"member", "reader"})
OWNER, OTHER = Caller("u", "tenant", MEMBER), Caller("v", "other", MEMBER)
ADMIN = Caller.administrator("root")
RAW = {"disk_format": "raw", "container_format": "bare"}
DATA = bytes(range(256)) * 1000


class ByOwner(MemoryStore):
    keys_by_owner = True


class Stacked(MemoryStore):
    stacks_on = "over"
    options = ()

    def __init__(self, over: str) -> None:
        super().__init__({})
        self.settings = {"over": over}


@pytest.fixture(name="service")
def service_fixture() -> Iterator[ImageService]:
    stores = {"owned": ByOwner({}), "plain": MemoryStore({})}
    with open_service(MemoryRegistry({}), stores=stores) as opened:
        yield opened


def active(service: ImageService, caller: Caller = OWNER, **values: Any) -> Image:
    image = service.create_image(caller, {**RAW, **values})
    return service.upload(caller, image.id, io.BytesIO(DATA), size=len(DATA))


def keys(service: ImageService, store: str) -> list[str]:
    return [blob.key for blob in service._context.mounts[store].store.list()]


def test_a_key_names_the_owner_where_the_store_asks_for_it(service: ImageService) -> None:
    images = [active(service, caller) for caller in (OWNER, OTHER)]
    for image, owner in zip(images, ("tenant", "other"), strict=True):
        (location,) = image.locations
        assert location.store == "owned"
        assert location.key.startswith(f"{owner}/{image.id}-")
    plain = service.create_image(OWNER, RAW)
    plain = service.upload(OWNER, plain.id, io.BytesIO(DATA), size=len(DATA), store="plain")
    assert plain.locations[0].key.startswith(f"{plain.id}-")


def test_an_image_without_an_owner_has_a_key_without_one(service: ImageService) -> None:
    store = service._context.mounts["owned"].store
    key = new_key(store, "0" * 8 + "-0000-0000-0000-" + "0" * 12, None)
    assert "/" not in key
    assert image_of(store, key) == key[:36]


def test_a_key_stays_when_the_owner_changes(service: ImageService) -> None:
    image = active(service)
    (location,) = image.locations
    service.update_image(ADMIN, image.id, [Change(ChangeOp.REPLACE, ("owner",), "other")])
    moved = service.show_image(OTHER, image.id)
    assert (moved.owner, moved.locations) == ("other", (location,))
    assert b"".join(service.read(OTHER, image.id).chunks()) == DATA
    assert list(service.gc(grace_seconds=-5)) == []
    service.delete_image(OTHER, image.id)
    assert keys(service, "owned") == []


@pytest.mark.parametrize("owner", ["a/b", "with a space", ".hidden"])
def test_an_owner_that_cant_be_part_of_a_key(service: ImageService, owner: str) -> None:
    caller = Caller("u", owner, MEMBER)
    image = service.create_image(caller, RAW)
    with pytest.raises(Unsupported, match="can't be part of a key"):
        service.upload(caller, image.id, io.BytesIO(DATA), size=len(DATA))
    assert service.show_image(caller, image.id).status == "queued"
    stored = service.upload(caller, image.id, io.BytesIO(DATA), size=len(DATA), store="plain")
    assert stored.status == "active"


def test_gc_knows_its_keys_by_owner_only_where_there_are_such(service: ImageService) -> None:
    image = active(service)
    lost = f"gone/{image.id}-0123456789ab"
    for store in ("owned", "plain"):
        for key in (lost, "gone/else/what", f"a/b/{image.id}-0123456789ab"):
            service._context.mounts[store].store.write(key, io.BytesIO(b"lost"), size=4)
    found = [(orphan.store, orphan.key) for orphan in service.gc(grace_seconds=-5)]
    assert found == [("owned", lost)], "under a prefix a key is that of another store above"


def test_a_resumable_upload_goes_under_the_owner(service: ImageService) -> None:
    image = service.create_image(OWNER, RAW)
    upload: Upload = service.create_upload(OWNER, image.id, length=len(DATA))
    assert upload.key.startswith(f"tenant/{image.id}-")


def test_no_store_stacks_on_one_that_keeps_images_by_owner() -> None:
    with pytest.raises(ConfigError, match="store 'top': over: the store 'owned' keeps images by owner"):
        MountTable({"top": Stacked("owned"), "owned": ByOwner({})})
