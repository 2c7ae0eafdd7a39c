"""Reading goes on when a store dies, and a store that is down at the start stops nobody."""

from __future__ import annotations

import io
import logging
import os
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glancelike.cache import ImageCache
from glancelike.embedded import open_service
from glancelike.errors import (
    BlobNotFound,
    ConfigError,
    StoreDenied,
    StoreFault,
    StoreUnavailable,
)
from glancelike.model import Caller, Location
from glancelike.service import ImageService
from glancelike.stores import mounted
from glancelike.stores.base import Cap
from glancelike.stores.http import HttpStore
from glancelike.stores.memory import MemoryStore
from glancelike.streams import Continued, Copy
from glancelike.vfs import ImageFile, MountOptions, MountTable
from tests.dying_store import dying_server

ADMIN = Caller.administrator("p-admin")
MIB = 1 << 20
DATA = random.Random(3).randbytes(5 * MIB)
HTTP = {
    "http_store_allowed_networks": ["127.0.0.0/8"],
    "http_store_allowed_ports": [],
    "http_store_retries": 0,
}


class Failing(MemoryStore):
    """A store whose backend goes away after so many bytes of a read."""

    after = 100_000
    opened = 0
    error: type[Exception] = ConnectionResetError

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self.opened += 1
        return self._some(b"".join(super().read(key, offset=offset, length=length)))

    def _some(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, self.after, 10_000):
            yield data[start : start + 10_000]
        raise self.error("gone")


class Forward(MemoryStore):
    capabilities = MemoryStore.capabilities & ~Cap.RANGE


def table(**stores: Any) -> tuple[MountTable, list[Location]]:
    made = MountTable(stores)
    made.open()
    for mount in made:
        mount.store.write("k", io.BytesIO(DATA), size=len(DATA))
    return made, [Location(name, "k") for name in stores]


def image_in(service: ImageService, *locations: Location, data: bytes = DATA) -> str:
    """Make an image of the default store's data, with other locations before it."""
    image = service.create_image(ADMIN, {"disk_format": "raw", "container_format": "bare"})
    service.upload(ADMIN, image.id, io.BytesIO(data), size=len(data))
    service._context.amend(image.id, lambda fresh: replace(fresh, locations=(*locations, *fresh.locations)))
    return image.id


@pytest.mark.parametrize("second", [MemoryStore, Forward])
@pytest.mark.parametrize(("offset", "length"), [(0, None), (7, None), (1000, 3 * MIB)])
def test_another_copy_goes_on_from_the_same_byte(second: Any, offset: int, length: int | None) -> None:
    made, places = table(a=Failing({}), b=second({}))
    end = None if length is None else offset + length
    read = b"".join(made.read(places, offset, length, size=len(DATA)))
    assert read == DATA[offset:end]


def test_says_which_store_failed_and_where(caplog: pytest.LogCaptureFixture) -> None:
    made, places = table(a=Failing({}), b=MemoryStore({}))
    with caplog.at_level(logging.WARNING):
        assert b"".join(made.read(places, size=len(DATA))) == DATA
    assert "byte 100000" in caplog.text
    assert "store 'a'" in caplog.text


def test_raises_when_no_copy_is_left_each_tried_once() -> None:
    first, second = Failing({}), Failing({})
    made, places = table(a=first, b=second)
    blocks = made.read(places, size=len(DATA))
    with pytest.raises(StoreUnavailable):
        b"".join(blocks)
    assert (first.opened, second.opened) == (1, 1)
    alone, places = table(a=Failing({}))
    with pytest.raises(StoreUnavailable, match="store 'a'"):
        b"".join(alone.read(places, size=len(DATA)))


def test_what_is_worth_a_retry_is_told_before_what_is_lost() -> None:
    made, _ = table(a=Failing({}), b=MemoryStore({}))
    made["b"].store.delete("k")
    blocks = made.read([Location("a", "k"), Location("b", "k")], size=len(DATA))
    with pytest.raises(StoreUnavailable):
        b"".join(blocks)


def test_a_copy_that_is_too_short_or_too_long_is_no_copy() -> None:
    made, places = table(a=MemoryStore({}), b=MemoryStore({}))
    for wrong in (DATA[:-1], DATA + b"x", DATA[:MIB], DATA[:-5] + bytes(10)):
        made["a"].store.delete("k")
        made["a"].store.write("k", io.BytesIO(wrong), size=len(wrong))
        if len(wrong) < len(DATA):
            assert b"".join(made.read(places, size=len(DATA))) == DATA
        with pytest.raises(StoreFault, match="store 'a'"):
            b"".join(made.read(places[:1], size=len(DATA)))


def test_a_file_of_the_wrong_size_is_not_sent_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    stores = {"b": "memory://", "a": f"file://{tmp_path / 'a'}"}
    with open_service("memory://", stores=stores) as service:
        service._context.mounts["a"].store.write("k", io.BytesIO(DATA), size=len(DATA))
        image_id = image_in(service, Location("a", "k"))
        assert service.read(ADMIN, image_id).path is not None
        os.truncate(tmp_path / "a" / "k", 1000)
        download = service.read(ADMIN, image_id)
        assert download.path is None
        assert b"".join(download.chunks()) == DATA


def test_an_error_behind_the_last_byte_is_nobodys_concern() -> None:
    class Late(MemoryStore):
        def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
            yield from super().read(key, offset=offset, length=length)
            raise StoreUnavailable("too late")

    made, places = table(a=Late({}))
    assert b"".join(made.read(places, size=len(DATA))) == DATA


def test_closing_ends_it() -> None:
    closed = []

    def blocks() -> Iterator[bytes]:
        try:
            yield b"ab"
            yield b"cd"
        finally:
            closed.append(1)

    stream = Continued([Copy("a", lambda offset, length: blocks())], 0, 4)
    assert next(stream) == b"ab"
    stream.close()
    assert closed == [1]
    assert list(stream) == []


def test_an_image_file_goes_on() -> None:
    made, places = table(a=Failing({}), b=MemoryStore({}))
    with ImageFile(made, places, len(DATA)) as file:
        file.seek(12345)
        assert file.read() == DATA[12345:]


def test_a_store_that_was_away_is_tried_last_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Failing({})
    made, places = table(a=first, b=MemoryStore({}))
    assert made["a"].reason is None
    for _ in range(3):
        assert b"".join(made.read(places, size=len(DATA))) == DATA
    assert first.opened == 1
    assert "gone" in str(made["a"].reason)
    # Alone it is tried all the same.
    with pytest.raises(StoreUnavailable):
        b"".join(made.read(places[:1], size=len(DATA)))
    monkeypatch.setattr(mounted, "AVOIDED_SECONDS", -1.0)
    with pytest.raises(StoreUnavailable):
        b"".join(made.read(places[:1], size=len(DATA)))
    assert made["a"].reason is None
    assert b"".join(made.read(places, size=len(DATA))) == DATA
    assert first.opened == 4


def test_a_lost_blob_doesnt_make_a_store_away() -> None:
    made, _ = table(a=MemoryStore({}), b=MemoryStore({}))
    with pytest.raises(BlobNotFound):
        made.read([Location("a", "lost")])
    assert made["a"].reason is None


@pytest.fixture(name="web_image")
def web_image_fixture(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """A service with an image on a server that stops after 2 MiB, and in memory."""
    (tmp_path / "image").write_bytes(DATA)
    cache = ImageCache(tmp_path / "cache")
    with (
        dying_server(tmp_path / "image", 2 * MIB) as server,
        open_service(
            "memory://",
            stores={"ram": MemoryStore({}), "web": HttpStore(HTTP)},
            store_options={"web": MountOptions(weight=1)},
            cache=cache,
        ) as service,
    ):
        yield service, server


def test_the_server_of_a_store_is_killed_in_a_download(web_image: tuple[Any, Any]) -> None:
    service, server = web_image
    image_id = image_in(service, Location("web", server.url))
    service._context.cache = None
    blocks = service.read(ADMIN, image_id).chunks()
    got = [next(blocks)]
    server.kill()
    got.extend(blocks)
    assert b"".join(got) == DATA


def test_the_server_of_a_store_is_killed_while_the_cache_is_filled(web_image: tuple[Any, Any]) -> None:
    service, server = web_image
    image_id = image_in(service, Location("web", server.url))
    blocks = service.read(ADMIN, image_id).chunks()
    got = [next(blocks)]
    server.kill()
    got.extend(blocks)
    assert b"".join(got) == DATA
    service.close()  # waits for the one that fills it
    image = service._context
    assert [entry.image_id for entry in image.cache.entries()] == [image_id]


class Unreachable(MemoryStore):
    """A store whose backend is away at first."""

    attempts = 0
    up = False
    error: type[Exception] = ConnectionRefusedError

    def open(self) -> None:
        self.attempts += 1
        if not self.up:
            raise self.error("no route to 10.1.2.3")


def test_a_store_that_is_away_at_the_start_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mounted, "REOPEN_SECONDS", 3600.0)
    store = Unreachable({})
    with (
        caplog.at_level(logging.WARNING),
        open_service("memory://", stores={"a": MemoryStore({}), "b": store}) as service,
    ):
        assert "store 'b' is down" in caplog.text
        image_id = image_in(service, Location("b", "k"))
        assert b"".join(service.read(ADMIN, image_id).chunks()) == DATA
        told = {info.id: info for info in service.store_details(ADMIN)}
        assert told["a"].unavailable is None
        assert "no route" in str(told["b"].unavailable)
        assert all(info.unavailable is None for info in service.stores(ADMIN))
        down = service._context.mounts["b"]
        for use in (lambda: down.store.stat("k"), lambda: list(down.store.list()), down.store.usage):
            with pytest.raises(StoreUnavailable, match="no route"):
                use()
        queued = service.create_image(ADMIN, {"disk_format": "raw", "container_format": "bare"})
        with pytest.raises(StoreUnavailable, match="no route"):
            service.upload(ADMIN, queued.id, io.BytesIO(b"x"), size=1, store="b")
        assert store.attempts == 1
        store.up = True
        down.store._next_attempt = 0.0
        assert list(down.store.list()) == []
        assert down.reason is None
        assert store.attempts == 2


def test_a_drivers_bug_at_the_start_stops_nobody_either() -> None:
    store = Unreachable({})
    store.error = ZeroDivisionError
    with open_service("memory://", stores={"a": MemoryStore({}), "b": store}) as service:
        assert "ZeroDivisionError" in str(service._context.mounts["b"].reason)


@pytest.mark.parametrize("error", [ConfigError, StoreDenied])
def test_the_operators_mistake_does_stop_the_start(error: type[Exception]) -> None:
    store = Unreachable({})
    store.error = error
    with pytest.raises(error):
        open_service("memory://", stores={"a": MemoryStore({}), "b": store})


def test_a_mistake_found_later_is_a_store_that_is_down() -> None:
    store = Unreachable({})
    made = MountTable({"a": MemoryStore({}), "b": store})
    made.open()
    store.error = ConfigError
    made["b"].store._next_attempt = 0.0
    with pytest.raises(StoreUnavailable):
        made["b"].store.stat("k")
    made.close()


def test_one_caller_waits_for_a_store_that_comes_back_the_others_are_told() -> None:
    opening, go_on = threading.Event(), threading.Event()

    class Slow(Unreachable):
        def open(self) -> None:
            if self.attempts:
                opening.set()
                go_on.wait(30)
            super().open()

    store = Slow({})
    made = MountTable({"a": MemoryStore({}), "b": store})
    made.open()
    down = made["b"].store
    down._next_attempt = 0.0
    store.up = True
    waiting = threading.Thread(target=lambda: list(down.list()))
    waiting.start()
    assert opening.wait(30)
    with pytest.raises(StoreUnavailable, match="no route"):
        list(down.list())
    go_on.set()
    waiting.join()
    assert list(down.list()) == []
    assert store.attempts == 2
