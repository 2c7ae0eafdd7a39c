"""One pass over a source for several writers."""

from __future__ import annotations

import hashlib
import io
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from glancelike.errors import StoreFull, StoreUnavailable, UnsafeImage
from glancelike.model import Source, TaskStatus
from glancelike.service import ImageService, ImportRequest
from glancelike.service.tee import WAITING, poured
from glancelike.stores.memory import MemoryStore
from glancelike.transfer import BLOCK
from tests.copies_fixtures import ADMIN, ALICE, Serve, keys, stores_of
from tests.copies_fixtures import serve as serve  # a fixture

DATA = random.Random(9).randbytes(20 * BLOCK + 17)


class Counted(io.BytesIO):
    """A source that knows how far it was read, and may break there."""

    breaks_at: int | None = None
    error: Exception = UnsafeImage("what is this?")

    def read(self, size: int | None = -1, /) -> bytes:
        if self.breaks_at is not None and self.tell() >= self.breaks_at:
            raise self.error
        return super().read(size)


def digest(size: int) -> Callable[[Source], str]:
    def write(source: Source) -> str:
        found = hashlib.sha256()
        while block := source.read(size):
            assert len(block) <= size
            found.update(block)
        return found.hexdigest()

    return write


def failing(error: Exception, after: int = 0) -> Callable[[Source], str]:
    def write(source: Source) -> str:
        for _ in range(after):
            source.read(BLOCK)
        raise error

    return write


def test_every_writer_gets_every_byte() -> None:
    writers = {"a": digest(BLOCK), "b": digest(1000), "c": digest(BLOCK * 3)}
    expected = hashlib.sha256(DATA).hexdigest()
    assert poured(io.BytesIO(DATA), writers) == (dict.fromkeys(writers, expected), {})
    assert poured(io.BytesIO(b""), writers)[0]["a"] == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("after", [0, 3])
def test_one_that_fails_is_left_behind(after: int) -> None:
    full = StoreFull("full")
    written, failed = poured(io.BytesIO(DATA), {"a": failing(full, after), "b": digest(BLOCK)})
    assert written == {"b": hashlib.sha256(DATA).hexdigest()}
    assert failed == {"a": full}


def test_where_all_fail_nothing_more_is_read() -> None:
    source = Counted(DATA)
    written, failed = poured(source, {"a": failing(StoreFull("x")), "b": failing(StoreUnavailable("y"))})
    assert (written, sorted(failed)) == ({}, ["a", "b"])
    assert source.tell() < len(DATA)


def test_the_sources_error_is_everybodys() -> None:
    source = Counted(DATA)
    source.breaks_at = 5 * BLOCK
    seen: list[BaseException] = []

    def write(branch: Source) -> str:
        try:
            return digest(BLOCK)(branch)
        except UnsafeImage as error:
            seen.append(error)
            raise

    with pytest.raises(UnsafeImage) as raised:
        poured(source, {"a": write, "b": write})
    assert seen == [raised.value] * 2


def test_what_isnt_a_stores_error_is_raised_when_all_have_ended() -> None:
    ended = threading.Event()

    def slow(branch: Source) -> str:
        found = digest(BLOCK)(branch)
        ended.set()
        return found

    with pytest.raises(ZeroDivisionError):
        poured(io.BytesIO(DATA), {"a": failing(ZeroDivisionError()), "b": slow})  # type: ignore[arg-type]
    assert ended.is_set()


def test_the_slowest_sets_the_pace() -> None:
    """No more blocks are read ahead than may wait for one writer."""
    source = Counted(DATA)
    go_on = threading.Event()
    stuck_at: list[int] = []

    def stuck(branch: Source) -> str:
        branch.read(BLOCK)
        go_on.wait(30)
        return digest(BLOCK)(branch)

    def quick(branch: Source) -> str:
        taken = 0
        while block := branch.read(BLOCK):
            taken += len(block)
            if taken == (WAITING + 1) * BLOCK:
                stuck_at.append(source.tell())
                go_on.set()
        return "done"

    poured(source, {"a": stuck, "b": quick})
    assert stuck_at
    assert stuck_at[0] <= (WAITING + 2) * BLOCK


# Imports


class Store(MemoryStore):
    """A store that tells how often it was read, and may be full or away after some bytes."""

    error: Exception | None = None

    def write(self, key: str, source: Source, *, size: int | None) -> Any:
        if self.error is not None:
            source.read(BLOCK)
            raise self.error
        return super().write(key, source, size=size)


class Staging(MemoryStore):
    reads = 0

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Any:
        self.reads += 1
        return super().read(key, offset=offset, length=length)


def imported(service: ImageService, data: bytes = DATA, *, disk_format: str = "raw", **how: Any) -> Any:
    image = service.create_image(ALICE, {"disk_format": disk_format, "container_format": "bare"})
    service.stage(ALICE, image.id, io.BytesIO(data))
    service.import_image(ALICE, image.id, ImportRequest("glance-direct", all_stores=True, **how))
    service.run_tasks()
    return image


def test_staged_data_is_read_once_for_all_stores(serve: Serve) -> None:
    staging = Staging({})
    service = serve("c", drivers={"a": Store({}), "b": Store({})}, staging=staging)
    image = imported(service)
    assert sorted(stores_of(service, image)) == ["a", "b", "c"]
    assert staging.reads == 1
    for location in service.show_image(ADMIN, image.id).locations:
        found = b"".join(service._context.mounts[location.store].store.read(location.key))
        assert found == DATA


def test_a_store_that_fails_hinders_no_other(serve: Serve) -> None:
    full = Store({})
    full.error = ConnectionResetError("gone")
    service = serve("c", drivers={"a": Store({}), "full": full})
    image = imported(service, all_stores_must_succeed=False)
    assert sorted(stores_of(service, image)) == ["a", "c"]
    found = service.show_image(ADMIN, image.id)
    assert found.properties["os_glance_failed_import"] == "full"
    assert found.properties["os_glance_importing_to_stores"] == ""
    assert found.hash_value == hashlib.sha256(DATA).hexdigest()


def test_nothing_is_kept_when_all_must_succeed(serve: Serve) -> None:
    full = Store({})
    full.error = StoreFull("full")
    service = serve("c", drivers={"a": Store({}), "full": full})
    image = imported(service)
    assert service.image_tasks(ADMIN, image.id)[0].status is TaskStatus.FAILURE
    found = service.show_image(ADMIN, image.id)
    assert (found.locations, found.size) == ((), None)
    assert found.properties["os_glance_failed_import"] == "full"
    assert keys(service, "a") == keys(service, "c") == keys(service, "full") == set()


def test_data_of_the_wrong_format_is_kept_nowhere(serve: Serve) -> None:
    service = serve("c", drivers={"a": Store({})})
    image = imported(service, disk_format="qcow2")
    task = service.image_tasks(ADMIN, image.id)[0]
    assert task.status is TaskStatus.FAILURE
    assert "qcow2" in task.message
    assert keys(service, "a") == keys(service, "c") == set()
