"""Copies where one store is a real Swift that dies, comes back, copies and presigns by itself."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from glancelike.errors import StoreUnavailable
from glancelike.service import ImageService
from glancelike.stores.memory import MemoryStore
from glancelike.vfs import MountOptions
from tests.copies_fixtures import ADMIN, Serve, active, content, keys, stores_of
from tests.copies_fixtures import serve as serve  # a fixture
from tests.swift_server import KEY, USER, SwiftServer

driver = pytest.importorskip("glancelike_store_swift")


@pytest.fixture(scope="module")
def data() -> bytes:
    return os.urandom(48 << 20)


@pytest.fixture(name="swift", scope="module")
def swift_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    server = SwiftServer(tmp_path_factory.mktemp("swift"))
    yield server
    server.stop()


def store(swift: SwiftServer, container: str = "images") -> Any:
    return driver.SwiftStore(
        {
            "swift_store_auth_address": swift.auth_url,
            "swift_store_auth_version": "1",
            "swift_store_user": USER,
            "swift_store_key": KEY,
            "swift_store_container": container,
            "swift_store_create_container_on_put": True,
            "swift_store_temp_url_key": "a key for the tests",
            "swift_store_temp_url_key_create": True,
            "swift_store_retry_get_count": 0,
            "swift_store_timeout": 5.0,
        }
    )


def test_swift_dies_in_a_download_and_another_store_goes_on(
    serve: Serve, swift: SwiftServer, data: bytes
) -> None:
    service = serve(
        drivers={"ram": MemoryStore({}), "swift": store(swift)},
        replicas=2,
        store_options={"swift": MountOptions(weight=1)},
    )
    image = active(service, data)
    service.run_tasks()
    assert stores_of(service, image) == ["ram", "swift"]
    blocks = service.read(ADMIN, image.id).chunks()
    got = [next(blocks)]
    swift.kill("proxy")
    try:
        got.extend(blocks)
        assert b"".join(got) == data
        assert content(service, image) == data
    finally:
        swift.start()
    assert all(found.fine for found in service.verify())


def test_swift_is_away_at_the_start(
    serve: Serve, swift: SwiftServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    swift.kill("proxy")
    try:
        service = serve(drivers={"ram": MemoryStore({}), "swift": store(swift)})
        reason = service._context.mounts["swift"].reason
        assert reason
        image = active(service)
        assert content(service, image)
        with pytest.raises(StoreUnavailable):
            service.move_image(image.id, source="ram", target="swift")
    finally:
        swift.start()
    monkeypatch.setattr(service._context.mounts["swift"].store, "_next_attempt", 0.0)
    service.move_image(image.id, source="ram", target="swift")
    assert stores_of(service, image) == ["swift"]


def test_two_containers_of_one_swift_copy_by_themselves(
    serve: Serve, swift: SwiftServer, data: bytes
) -> None:
    first, second = store(swift, "first"), store(swift, "second")
    service = serve(drivers={"first": first, "second": second}, copy_read_back=True)
    image = active(service, data)

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("the bytes pass through here")

    second.write = refused
    service.move_image(image.id, source="first", target="second")
    assert (stores_of(service, image), keys(service, "first")) == (["second"], set())
    assert content(service, image) == data


def test_a_presigned_url_of_swift(serve: Serve, swift: SwiftServer, data: bytes) -> None:
    service: ImageService = serve(drivers={"swift": store(swift)}, presigned_download_expires=60)
    image = active(service, data[:1000])
    url = service.read(ADMIN, image.id).presigned()
    assert url is not None
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == data[:1000]
    whole = urllib.request.Request(url, headers={"Range": "bytes=5-9"})
    with urllib.request.urlopen(whole) as answer:
        assert answer.read() == data[5:10]
