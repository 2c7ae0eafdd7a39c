"""A file store in several directories: where blobs go, and that no key is in two."""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from glancelike.errors import BlobExists, BlobNotFound, ConfigError, StoreFull
from glancelike.stores.file import FileStore
from glancelike.testing import StoreConformance
from glancelike.testing.sources import EndlessSource, payload
from tests.file_stores import DATADIR, DATADIRS, MIB, content, mounted_tmpfs, names, opened, put

RACERS = 4
KEYS = 60


class TestFileStoreInDirectories(StoreConformance):
    variants = ("bare",)
    spawnable = True
    flat_size = 16 * MIB
    many_keys = 1_200

    def make_store(self) -> FileStore:
        for name in ("a", "b", "c"):
            (self.tmp_path / name).mkdir(exist_ok=True)
        return FileStore({DATADIRS: [f"{self.tmp_path}/{entry}" for entry in ("a:1", "b:1", "c")]})


@pytest.fixture(name="dirs")
def dirs_fixture(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.mkdir()
    return paths


# Configuration


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, f"{DATADIR} isn't set"),
        ({DATADIR: "/x", DATADIRS: ["/y"]}, "set both"),
        ({DATADIRS: ["/x:high"]}, "PATH:PRIORITY"),
        ({DATADIRS: [":1"]}, "PATH:PRIORITY"),
    ],
)
def test_bad_configuration(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FileStore(settings)


def test_a_missing_directory_is_not_made(dirs: list[Path], tmp_path: Path) -> None:
    before = len(names(Path("/proc/self/fd")))
    with pytest.raises(ConfigError, match=f"{DATADIRS} .*missing.*No such file"):
        opened(dirs[0], tmp_path / "missing:5")
    assert len(names(Path("/proc/self/fd"))) == before
    assert not (tmp_path / "missing").exists()


def test_one_directory_twice(dirs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(dirs[0])
    with pytest.raises(ConfigError, match="the same directory"):
        opened(*dirs, tmp_path / "link")


def test_properties(dirs: list[Path]) -> None:
    assert opened(*dirs).public_properties()["data_dir"] == [str(path) for path in dirs]


# Where blobs go


def test_priority_then_room(tmp_path: Path) -> None:
    with ExitStack() as stack:
        small, large, other = (
            stack.enter_context(mounted_tmpfs(tmp_path / name, mib=mib))
            for name, mib in (("small", 4), ("large", 32), ("other", 16))
        )
        store = opened(f"{other}:1", f"{large}:1", f"{small}:2")
        sizes = {"first": 3 * MIB, "second": 3 * MIB, "third": 20 * MIB, "fourth": 12 * MIB}
        for key, size in sizes.items():
            store.write(key, EndlessSource(size), size=size)
        assert [store.local_path(key).parent for key in sizes] == [small, large, large, other]
        with pytest.raises(StoreFull, match="emptiest"):
            store.write("fifth", EndlessSource(0), size=13 * MIB)
        assert {info.key: info.size for info in store.list()} == sizes
        usage = store.usage()
        assert usage.used == sum(sizes.values())
        assert usage.free is not None
        assert 0 < usage.free <= (4 + 32 + 16) * MIB - usage.used
        upload = store.begin("parts")
        store.put_part("parts", upload, 1, EndlessSource(100), size=100)
        store.complete("parts", upload)
        assert store.local_path("parts").parent == small, "an upload goes by priority, too"
        store.close()


def test_room_is_counted_once(dirs: list[Path]) -> None:
    one, three = opened(dirs[0]).usage().free, opened(*dirs).usage().free
    assert one is not None
    assert three is not None
    assert three < 2 * one


def test_blobs_are_found_in_any(dirs: list[Path]) -> None:
    for number, path in enumerate(dirs):
        put(opened(path), f"key{number}", b"%d" % number)
    store = opened(*dirs)
    for number, path in enumerate(dirs):
        assert content(store, f"key{number}") == b"%d" % number
        assert store.copy(f"key{number}", f"copy{number}").size == 1
        assert store.local_path(f"copy{number}").parent == path
        with pytest.raises(BlobExists):
            put(store, f"key{number}")
        with pytest.raises(BlobExists):
            store.begin(f"key{number}")
        store.delete(f"key{number}")
        with pytest.raises(BlobNotFound):
            store.delete(f"key{number}")


def test_found_elsewhere_at_the_last_moment(dirs: list[Path]) -> None:
    """Another server, which prefers another directory, is faster."""
    ours = opened(f"{dirs[0]}:1", *dirs[1:])
    theirs = opened(f"{dirs[1]}:1", dirs[0], dirs[2])

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if not self.tell():
                put(theirs, "key", b"theirs")
            return super().read(size)

    with pytest.raises(BlobExists):
        ours.write("key", Slow(b"ours"), size=4)
    assert content(ours, "key") == b"theirs"
    assert not (dirs[0] / "key").exists()
    assert names(dirs[0] / ".tmp") == []


# Processes


def _race(paths: list[str], number: int, start: Any, won: Any) -> None:
    store = opened(*paths)
    start.wait()
    for key in range(KEYS):
        try:
            put(store, f"key{key}", b"%d" % number * 1000)
        except BlobExists:
            continue
        won.put((key, number))
    store.close()


def test_processes_race_for_keys(dirs: list[Path]) -> None:
    """Each process prefers another directory, so that no two link into the same one."""
    context = multiprocessing.get_context("fork")
    start, won = context.Barrier(RACERS), context.Queue()
    racers = []
    for number in range(RACERS):
        paths = [f"{path}:{(index + number) % len(dirs)}" for index, path in enumerate(dirs)]
        racers.append(context.Process(target=_race, args=(paths, number, start, won)))
        racers[-1].start()
    wins = [won.get(timeout=60) for _ in range(KEYS)]
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    assert won.empty()
    assert Counter(key for key, _ in wins) == dict.fromkeys(range(KEYS), 1)
    store = opened(*dirs)
    assert len(list(store.list())) == KEYS
    for key, number in wins:
        assert content(store, f"key{key}") == b"%d" % number * 1000


def _write_on(paths: list[str]) -> None:
    store = opened(*paths, filesystem_store_fsync=False)
    for number in range(1_000_000):
        put(store, f"{os.getpid()}-{number}", payload(70_000))


def test_killed_writers_leave_no_lock_and_no_half(dirs: list[Path]) -> None:
    context = multiprocessing.get_context("fork")
    chance = random.Random(1)
    for _ in range(12):
        writers = [context.Process(target=_write_on, args=(list(map(str, dirs)),)) for _ in range(2)]
        for writer in writers:
            writer.start()
        time.sleep(chance.uniform(0.02, 0.1))
        for writer in writers:
            assert writer.pid is not None
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
    store = opened(*dirs)
    found = list(store.list())
    assert found
    for info in found:
        assert content(store, info.key) == payload(70_000)
    put(store, "after")
    assert [names(path / ".tmp") for path in dirs] == [[], [], []]
