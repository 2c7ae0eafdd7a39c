"""Resumable uploads of the file store: parts in place, and kill -9 at each step."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from glancelike.errors import BlobExists, BlobNotFound, StoreFault, StoreFull
from glancelike.stores.file import FileStore
from glancelike.testing.sources import EndlessSource, WatchedSource, payload
from tests.file_stores import MIB, content, free, mounted_tmpfs, names, opened, put, taken

PARTS = {number: payload(200_000 + number, seed=number) for number in range(1, 6)}
UNSYNCED = {"filesystem_store_fsync": False}  # a killed process needs no disk to remember what it did
# What a step of the store begins with, as the interpreter tells of it.
EVENTS = ("os.", "fcntl.", "open")


@pytest.fixture(name="store")
def store_fixture(tmp_path: Path) -> Iterator[FileStore]:
    store = opened(tmp_path / "data")
    yield store
    store.close()


def send(store: FileStore, upload: str, number: int, data: bytes | None = None) -> None:
    data = PARTS[number] if data is None else data
    assert store.put_part("key", upload, number, io.BytesIO(data), size=len(data)).size == len(data)


def begun(store: FileStore, *numbers: int) -> str:
    upload = store.begin("key")
    for number in numbers:
        send(store, upload, number)
    return upload


def joined(last: int, **others: bytes) -> bytes:
    return b"".join(others.get(f"part{number}", PARTS[number]) for number in range(1, last + 1))


def folder(store: FileStore, upload: str) -> Path:
    return Path(store.settings["filesystem_store_datadir"]) / ".uploads" / upload


def test_parts_in_order_are_never_copied(store: FileStore) -> None:
    upload = begun(store, 1, 2, 3)
    data = folder(store, upload) / "data"
    assert data.read_bytes() == joined(3)
    inode = data.stat().st_ino
    assert [part.size for part in store.parts("key", upload)] == [len(PARTS[n]) for n in (1, 2, 3)]
    store.complete("key", upload)
    assert store.local_path("key").stat().st_ino == inode
    assert content(store, "key") == joined(3)
    assert not folder(store, upload).exists()


@pytest.mark.parametrize("order", [(5, 4, 3, 2, 1), (1, 3, 2, 5, 4), (2, 1, 3, 4, 5), (1, 2, 5, 4, 3)])
def test_other_orders(store: FileStore, order: tuple[int, ...]) -> None:
    upload = begun(store, *order)
    store.complete("key", upload)
    assert content(store, "key") == joined(5)


@pytest.mark.parametrize("again", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 5, 199_000, 300_000])
def test_sent_again_in_another_size(store: FileStore, again: int, size: int) -> None:
    upload = begun(store, 1, 2, 3)
    send(store, upload, again, other := payload(size, seed=99))
    assert [part.size for part in store.parts("key", upload)][again - 1] == size
    send(store, upload, 4)
    send(store, upload, again, other)
    store.complete("key", upload)
    assert content(store, "key") == joined(4, **{f"part{again}": other})


def test_a_part_that_fails_takes_no_space(store: FileStore) -> None:
    upload = begun(store, 1)
    data = folder(store, upload) / "data"
    source = WatchedSource(payload(4 * MIB), steps=[MIB], fail_at=3 * MIB, error=FileNotFoundError("mine"))
    with pytest.raises(FileNotFoundError, match="mine"):
        store.put_part("key", upload, 2, source, size=4 * MIB)
    assert data.stat().st_size == len(PARTS[1])
    send(store, upload, 2, b"end")
    store.complete("key", upload)
    assert content(store, "key") == PARTS[1] + b"end"


def test_an_upload_as_large_as_the_disk(tmp_path: Path) -> None:
    """Neither in order nor out of it is the space needed twice."""
    with mounted_tmpfs(tmp_path / "small", mib=16) as small:
        store = opened(small)
        for order in ((1, 2, 3, 4), (1, 3, 4, 2)):
            upload = store.begin("key")
            for number in order:
                store.put_part("key", upload, number, EndlessSource(3 * MIB), size=3 * MIB)
            store.complete("key", upload)
            assert store.stat("key").size == 12 * MIB
            assert free(small) <= 4 * MIB
            store.delete("key")
            assert free(small) >= 15 * MIB
        store.close()


def test_a_disk_that_fills_while_parts_are_joined(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "small", mib=16) as small:
        store = opened(small)
        upload = store.begin("key")
        for number in (2, 1):
            store.put_part("key", upload, number, EndlessSource(5 * MIB), size=5 * MIB)
        put(store, "other", payload(4 * MIB))
        with pytest.raises(StoreFull, match="are free"):
            store.complete("key", upload)
        assert [part.size for part in store.parts("key", upload)] == [5 * MIB, 5 * MIB]
        store.delete("other")
        assert store.complete("key", upload).size == 10 * MIB
        store.close()


def test_holes_in_parts(store: FileStore) -> None:
    upload = store.begin("key")
    for number in (1, 2, 4, 3):
        send(store, upload, number, bytes(4 * MIB) + b"end")
    store.complete("key", upload)
    assert content(store, "key") == (bytes(4 * MIB) + b"end") * 4
    assert taken(store.local_path("key")) < MIB


def test_a_hanging_writer_holds_nobody_up(store: FileStore) -> None:
    """A client hangs in part 3, comes back on another connection, and completes."""
    upload = begun(store, 1, 2)
    half, go_on = threading.Event(), threading.Event()

    def wait(at: int) -> None:
        if at:
            half.set()
            go_on.wait(60)

    hanging = WatchedSource(payload(MIB, seed=7), steps=[1000], hook=wait)
    failed: list[Exception] = []

    def write() -> None:
        try:
            store.put_part("key", upload, 3, hanging, size=MIB)
        except Exception as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    assert half.wait(60)
    send(store, upload, 3)
    store.complete("key", upload)
    assert content(store, "key") == joined(3)
    go_on.set()
    writer.join()
    assert [type(error) for error in failed] == [BlobNotFound]
    assert content(store, "key") == joined(3)
    assert not folder(store, upload).exists()


def test_parallel_parts(store: FileStore) -> None:
    for _ in range(10):
        upload = store.begin("key")
        senders = [threading.Thread(target=send, args=(store, upload, number)) for number in PARTS]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        store.complete("key", upload)
        assert content(store, "key") == joined(5)
        store.delete("key")


def test_data_that_was_lost_is_told(store: FileStore) -> None:
    upload = begun(store, 1, 2)
    os.truncate(folder(store, upload) / "data", 1000)
    with pytest.raises(StoreFault, match="ended before"):
        store.complete("key", upload)


# Crashes


def die_at(step: int) -> None:
    """Have this process killed when it begins its step of that number."""
    left = step

    def count(event: str, _: Any) -> None:
        nonlocal left
        if event.startswith(EVENTS):
            left -= 1
            if left == -1:  # once: killing is an event, too
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def survives(path: Path, step: int, work: Any) -> bool:
    """Run ``work`` in a process that is killed at a step; tell whether it got to its end."""
    child = os.fork()
    if not child:
        try:
            store = opened(path, **UNSYNCED)
            die_at(step)
            work(store)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return not os.WIFSIGNALED(status)


def test_kill_at_each_step_of_an_upload(tmp_path: Path) -> None:
    for step in range(10_000):
        store = opened(tmp_path / "data", **UNSYNCED)
        upload = begun(store, 1)

        def work(theirs: FileStore, upload: str = upload) -> None:
            for number in (2, 4, 3, 5):
                send(theirs, upload, number)
            send(theirs, upload, 2)
            theirs.complete("key", upload)

        ended = survives(tmp_path / "data", step, work)
        store.close()
        store = opened(tmp_path / "data", **UNSYNCED)
        try:
            found = store.parts("key", upload)
        except BlobNotFound:
            assert content(store, "key") == joined(5), f"step {step}"
        else:
            _go_on(store, upload, {part.number: part.size for part in found}, step)
        assert content(store, "key") == joined(5), f"step {step}"
        store.abort("key", upload)
        store.delete("key")
        store.sweep(datetime.now(UTC))
        assert names(tmp_path / "data") == [".tmp", ".uploads"]
        assert names(tmp_path / "data/.tmp") == names(tmp_path / "data/.uploads") == []
        store.close()
        if ended:
            assert step > 50
            return
    raise AssertionError("it never got to its end")


def _go_on(store: FileStore, upload: str, found: dict[int, int], step: int) -> None:
    assert found[1] == len(PARTS[1])
    for number, size in found.items():
        assert size == len(PARTS[number]), f"step {step}: part {number}"
    for number in PARTS:
        if number not in found:
            send(store, upload, number)
    try:
        store.complete("key", upload)
    except BlobExists:
        # It was killed between the naming and the tidying up: whoever goes on changes no blob.
        send(store, upload, 6, b"late")
        send(store, upload, 1, b"later")


def test_kill_at_each_step_of_a_write_and_a_copy(tmp_path: Path) -> None:
    def work(theirs: FileStore) -> None:
        put(theirs, "a/b", PARTS[1])
        theirs.copy("a/b", "a/c")

    for step in range(10_000):
        ended = survives(tmp_path / "data", step, work)
        store = opened(tmp_path / "data")
        found = [info.key for info in store.list()]
        assert found in ([], ["a/b"], ["a/b", "a/c"], ["a/c", "a/b"]), f"step {step}"
        for key in found:
            assert content(store, key) == PARTS[1], f"step {step}: {key}"
            store.delete(key)
        assert names(tmp_path / "data/.tmp") == [], f"step {step}"
        store.close()
        if ended:
            assert step > 15
            return
    raise AssertionError("it never got to its end")
