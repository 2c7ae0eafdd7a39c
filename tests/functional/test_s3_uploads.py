"""Uploads in pieces, and presigned ones, into a real object store by S3."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from glancelike import open_service
from glancelike.model import Caller, UploadKind
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService
from tests.swift_server import KEY, USER, SwiftServer

driver = pytest.importorskip("glancelike_store_s3.store", reason="needs the plugin glancelike-store-s3")

PART = 8 << 20
OWNER = Caller("u", "p", frozenset({"member", "reader"}))
RAW = {"disk_format": "raw", "container_format": "bare"}
DATA = os.urandom(2 * PART + 12345)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageService]:
    server = SwiftServer(tmp_path_factory.mktemp("swift"))
    server.start()
    settings = {
        "s3_store_host": server.url,
        "s3_store_access_key": USER,
        "s3_store_secret_key": KEY,
        "s3_store_bucket": "images",
        "s3_store_create_bucket_on_put": True,
        "s3_store_bucket_url_format": "path",
    }
    try:
        with open_service(
            MemoryRegistry({}), stores={"s3": driver.S3Store(settings)}, presigned_upload_expires=600
        ) as opened:
            yield opened
    finally:
        server.stop()


def assert_active(service: ImageService, image_id: str) -> None:
    image = service.show_image(OWNER, image_id)
    assert (image.status, image.size) == ("active", len(DATA))
    assert image.hash_value == hashlib.sha256(DATA).hexdigest()
    assert b"".join(service.read(OWNER, image_id).chunks()) == DATA
    kept = [blob.key for blob in service._context.mounts["s3"].store.list(f"{image_id}-")]
    assert kept == [image.locations[0].key], "nothing but the image's data"


def test_pieces(service: ImageService) -> None:
    image_id = service.create_image(OWNER, RAW).id
    upload = service.create_upload(OWNER, image_id, length=len(DATA))
    assert upload.home == "s3"
    for start, end in ((0, 1000), (1000, 3_000_000), (3_000_000, PART + 5), (PART + 5, len(DATA))):
        piece = io.BytesIO(DATA[start:end])
        upload = service.continue_upload(OWNER, image_id, upload.id, piece, offset=start, size=end - start)
        assert upload.offset == end
    assert_active(service, image_id)


def test_partial_uploads(service: ImageService) -> None:
    image_id, parts = service.create_image(OWNER, RAW).id, []
    for start, end in ((0, PART + 9), (PART + 9, len(DATA))):
        part = service.create_upload(OWNER, image_id, length=end - start, kind=UploadKind.PARTIAL)
        service.continue_upload(OWNER, image_id, part.id, io.BytesIO(DATA[start:end]), offset=0)
        parts.append(part.id)
    service.create_upload(OWNER, image_id, length=None, kind=UploadKind.FINAL, joins=tuple(parts))
    assert_active(service, image_id)


def test_written_by_the_client_itself(service: ImageService, tmp_path: Path) -> None:
    image_id = service.create_image(OWNER, RAW).id
    digest = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    upload, url, _until = service.create_presigned(OWNER, image_id, size=len(DATA), digest=digest)
    assert requests.put(url, data=DATA, timeout=120).status_code == 200
    service.complete_presigned(OWNER, image_id, upload.id)
    assert_active(service, image_id)
    assert requests.put(url, data=b"other", timeout=120).status_code == 200, "it is good until it expires"
    assert b"".join(service.read(OWNER, image_id).chunks()) == DATA
    # The store tells times in whole seconds, rounded up.
    assert [orphan.key for orphan in service.gc(grace_seconds=-60)] == [upload.key]
