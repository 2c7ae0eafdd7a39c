"""The conformance kit against a real Swift, through its S3."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import version

import pytest
import swiftclient
from glancelike_store_s3 import S3Store
from glancelike_store_s3.conditions import LATE
from s3_proxy import proxy_to

from glancelike.errors import BlobNotFound, StoreDenied, StoreUnavailable
from glancelike.model import utcnow
from glancelike.stores.base import Store
from glancelike.testing import StoreConformance
from glancelike.testing.sources import EndlessSource, WatchedSource, payload
from tests.swift_server import SwiftServer

BUCKET, OTHER = "images", "peers"


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    server = SwiftServer(tmp_path_factory.mktemp("swift") / "s")
    yield server
    server.stop()


class TestS3Store(StoreConformance):
    variants = ("bare",)
    spawnable = True
    many_keys = 125  # two pages; a write is six requests here
    flat_size = 80 << 20  # more than may be held

    def backend(self) -> str:
        return f"Swift {version('swift')}, s3api"

    @pytest.fixture(autouse=True)
    def _settings(self, swift: SwiftServer) -> None:
        self.swift = swift

    def _store(self, bucket: str) -> Store:
        return S3Store(
            {
                "s3_store_host": self.swift.url,
                "s3_store_access_key": "other:stranger",
                "s3_store_secret_key": "stranging",
                "s3_store_bucket": bucket,
                "s3_store_create_bucket_on_put": True,
                "s3_store_bucket_url_format": "path",
            }
        )

    def make_store(self) -> Store:
        return self._store(BUCKET)

    def make_peer(self) -> Store:
        return self._store(OTHER)


def opened(swift: SwiftServer, **more: object) -> S3Store:
    store = S3Store(
        {
            "s3_store_host": swift.url,
            "s3_store_access_key": "other:stranger",
            "s3_store_secret_key": "stranging",
            "s3_store_bucket": "faults",
            "s3_store_create_bucket_on_put": True,
            "s3_store_bucket_url_format": "path",
            "s3_store_large_object_chunk_size": 5,
            "s3_store_max_attempts": 2,
            **more,
        }
    )
    store.open()
    return store


def test_wrong_keys(swift: SwiftServer) -> None:
    for more in ({"s3_store_secret_key": "not-the-secret"}, {"s3_store_access_key": "no:body"}):
        with pytest.raises(StoreDenied) as caught:
            opened(swift, **more)
        assert not any(secret in str(caught.value) for secret in more.values())


def test_server_dies_in_a_write(swift: SwiftServer) -> None:
    store = opened(swift)
    size = 30 << 20

    dead: list[int] = []

    def kill(at: int) -> None:
        if at >= size // 2 and not dead:
            dead.append(at)
            swift.kill("proxy")

    with pytest.raises(StoreUnavailable):
        store.write("killed", EndlessSource(size, hook=kill), size=size)
    swift.start()
    with pytest.raises(BlobNotFound):
        store.stat("killed")
    assert list(store.list()) == []
    left = list(store._bucket.pages("list_multipart_uploads"))
    assert [upload["Key"] for page in left for upload in page.get("Uploads", ())] == ["killed"]
    assert store.sweep(utcnow() - timedelta(hours=1)) == 0
    assert store.sweep(utcnow() + timedelta(minutes=1)) == 1
    assert not any(page.get("Uploads") for page in store._bucket.pages("list_multipart_uploads"))
    store.write("killed", EndlessSource(size), size=size)
    assert store.stat("killed").size == size
    store.close()


def test_complete_upload_is_not_swept(swift: SwiftServer) -> None:
    """A proxy that dies after it has joined the parts leaves the upload in the list."""
    store = opened(swift, s3_store_bucket="joined")
    data = payload(6 << 20)
    key, upload = "joined", store.begin("joined")
    store.put_part(key, upload, 1, WatchedSource(data[: 5 << 20]), size=5 << 20)
    store.put_part(key, upload, 2, WatchedSource(data[5 << 20 :]), size=1 << 20)
    store.complete(key, upload)
    s3_id = upload.partition(".")[2]
    # The marker that such a proxy would have left.
    account = swiftclient.Connection(swift.auth_url, "other:stranger", "stranging", auth_version="1")
    account.put_object("joined+segments", f"{key}/{s3_id}", b"")
    account.close()
    assert any(page.get("Uploads") for page in store._bucket.pages("list_multipart_uploads"))
    assert store.sweep(utcnow() + timedelta(minutes=1)) == 0
    assert b"".join(store.read(key)) == data
    store.abort(key, upload)
    assert b"".join(store.read(key)) == data
    store.close()


def test_probe_tells(swift: SwiftServer) -> None:
    store = opened(swift)
    found = dict(store.probe())
    store.close()
    assert found["conditional put"] == found["conditional complete"] == "ok"
    assert "claims" in found["one winner of racing puts"]
    assert found["ranges with If-Match"] == found["list of multipart uploads"] == "ok"
    assert found["multipart copy"] == found["unsigned payload"] == "ok"
    assert found["bucket in the path"] == "ok"
    assert "in the path" in found["bucket in the host"]
    assert "fails where nothing is" in found["conditional copy"]


def test_overlapping_writes_are_told_without_a_name(swift: SwiftServer) -> None:
    """That Swift decides nothing between two writes at a time is seen in a real race, too."""
    with proxy_to(swift.url) as proxy:
        proxy.hidden = ("x-trans-id",)
        store = opened(swift, s3_store_host=proxy.url)
        found = store.probe()
        assert sum("-race" in request.path and request.method == "PUT" for request in proxy.seen) == 2
        assert LATE in found["one winner of racing puts"]
        store.close()
