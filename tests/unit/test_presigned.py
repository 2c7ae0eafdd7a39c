"""Data that a client writes to the store itself: nothing of it is believed."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from glancelike import open_service
from glancelike.errors import (
    Conflict,
    FormatMismatch,
    ImageNotFound,
    InvalidInput,
    NotFound,
    QuotaExceeded,
    SizeMismatch,
    Unsupported,
    UploadNotFound,
)
from glancelike.model import Caller, Upload, UploadState
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService
from glancelike.stores.base import Cap
from glancelike.stores.memory import MemoryStore
from tests.server_fixtures import Api, write_users

OWNER = Caller("u", "p", frozenset({"member", "reader"}))
STRANGER = Caller("v", "q", frozenset({"member", "reader"}))
RAW = {"disk_format": "raw", "container_format": "bare"}
DATA = os.urandom(100_000)
SHA256 = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


class Signs(MemoryStore):
    """A store whose signed URLs are for whoever has the store in hand."""

    capabilities = MemoryStore.capabilities | Cap.PRESIGN

    def presign(self, key: str, method: str, expires: int) -> str:
        return f"memory://{key}?{method}&{expires}"

    def put(self, url: str, data: bytes) -> None:
        """Write as a client does that has a URL: over whatever is there."""
        key = url.removeprefix("memory://").partition("?")[0]
        if key in [blob.key for blob in self.list()]:
            self.delete(key)
        self.write(key, io.BytesIO(data), size=len(data))


class World:
    def __init__(self, **settings: Any) -> None:
        self.store = Signs({})
        given = {"presigned_upload_expires": 600, **settings}
        self.service: ImageService = open_service(MemoryRegistry({}), stores={"signs": self.store}, **given)

    def begin(self, size: int = len(DATA), **values: Any) -> tuple[Upload, str, datetime]:
        formats = {**RAW, **values.pop("formats", {})}
        image = self.service.create_image(OWNER, formats)
        return self.service.create_presigned(OWNER, image.id, size=size, **values)

    def complete(self, upload: Upload) -> Upload:
        return self.service.complete_presigned(OWNER, upload.image_id, upload.id)

    def keys(self) -> list[str]:
        return [blob.key for blob in self.store.list()]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.service.close()


def test_what_was_written_is_verified_and_can_not_be_changed_any_more(world: World) -> None:
    upload, url, _ = world.begin(digest=SHA256)
    assert url == f"memory://{upload.key}?PUT&600"
    world.store.put(url, DATA)
    assert list(world.service.gc(grace_seconds=0)) == [], "it is on its way"
    assert world.complete(upload).state is UploadState.DONE
    image = world.service.show_image(OWNER, upload.image_id)
    assert (image.status, image.size) == ("active", len(DATA))
    assert image.hash_value == hashlib.sha256(DATA).hexdigest()
    assert world.keys() == [image.locations[0].key] != [upload.key]
    world.store.put(url, b"other data, by the URL that is still good")
    assert b"".join(world.service.read(OWNER, image.id).chunks()) == DATA
    assert world.complete(upload).state is UploadState.DONE
    assert [orphan.key for orphan in world.service.gc(grace_seconds=0)] == [upload.key]
    assert b"".join(world.service.read(OWNER, image.id).chunks()) == DATA


def test_what_was_not_written_or_is_not_what_was_told(world: World) -> None:
    upload, url, _ = world.begin(digest=f"sha512:{hashlib.sha512(DATA).hexdigest()}")
    with pytest.raises(Conflict, match="nothing was written"):
        world.complete(upload)
    world.store.put(url, DATA[:-1])
    with pytest.raises(SizeMismatch):
        world.complete(upload)
    world.store.put(url, DATA[:-1] + b"?" if DATA[-1:] != b"?" else DATA[:-1] + b"!")
    with pytest.raises(InvalidInput, match="sha512"):
        world.complete(upload)
    assert world.service.show_image(OWNER, upload.image_id).status == "queued"
    assert world.keys() == []
    with pytest.raises(UploadNotFound):
        world.complete(upload)
    upload, url, _ = world.begin(formats={"disk_format": "qcow2"})
    world.store.put(url, DATA)
    with pytest.raises(FormatMismatch):
        world.complete(upload)
    assert world.keys() == []


def test_who_may_and_what_can_not_be(world: World) -> None:
    upload, url, _ = world.begin()
    with pytest.raises(ImageNotFound):
        world.service.create_presigned(STRANGER, upload.image_id, size=1)
    with pytest.raises(ImageNotFound):
        world.service.complete_presigned(STRANGER, upload.image_id, upload.id)
    with pytest.raises(InvalidInput, match="digest"):
        world.begin(digest="md5:x")
    with pytest.raises(UploadNotFound):
        world.service.show_upload(OWNER, upload.image_id, upload.id)
    with pytest.raises(UploadNotFound):
        world.service.continue_upload(OWNER, upload.image_id, upload.id, io.BytesIO(b"x"), offset=0)
    pieces = world.service.create_upload(OWNER, upload.image_id, length=5)
    with pytest.raises(NotFound):
        world.complete(pieces)
    world.store.put(url, DATA)
    world.service.delete_image(OWNER, upload.image_id)
    assert world.keys() == []


def test_where_it_is_off_or_the_store_can_not() -> None:
    world = World(presigned_upload_expires=0)
    with pytest.raises(NotFound, match="off"):
        world.begin()
    world.service.close()
    plain = open_service(MemoryRegistry({}), stores={"memory": MemoryStore({})}, presigned_upload_expires=60)
    with pytest.raises(Unsupported):
        plain.create_presigned(OWNER, plain.create_image(OWNER, RAW).id, size=1)
    plain.close()


def test_it_counts_from_the_beginning() -> None:
    world = World(user_storage_quota=len(DATA) + 10)
    upload, url, _ = world.begin()
    with pytest.raises(QuotaExceeded):
        world.begin(11)
    world.store.put(url, DATA)
    world.complete(upload)
    with pytest.raises(QuotaExceeded):
        world.begin(11)
    world.begin(10)
    world.service.close()


def test_over_http(tmp_path: Any) -> None:
    store = Signs({})
    api = Api(write_users(tmp_path / "users"), {"signs": store}, presigned_upload_expires=600)
    image_id, alice = api.image(), api.as_("alice")
    path = f"/v2/images/{image_id}/presigned"
    for wrong in ({}, {"size": -1}, {"size": 1, "other": 2}, {"size": "1"}):
        assert alice.post(path, json=wrong).status_code == 400, wrong
    made = alice.post(path, json={"size": len(DATA), "digest": SHA256})
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    assert (made.json["method"], made.json["headers"]) == ("PUT", {"Content-Length": str(len(DATA))})
    complete = f"{path}/{made.json['upload']}/complete"
    assert alice.post(complete).status_code == 409
    store.put(made.json["url"], DATA)
    assert api.as_("bob").post(complete).status_code == 404
    assert alice.post(complete).status_code == 204
    assert alice.get(f"/v2/images/{image_id}/file").content == DATA
    assert alice.post(complete).status_code == 204
    api.service.close()
