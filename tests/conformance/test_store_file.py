"""The store in a directory against the store contract, and its own promises."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glancelike.errors import BlobExists, BlobNotFound, ConfigError, StoreFault, StoreFull
from glancelike.stores.file import FileStore
from glancelike.stores.guard import Guard
from glancelike.testing import StoreConformance
from glancelike.testing.sources import EndlessSource, WatchedSource, payload
from tests.file_stores import DATADIR, MIB, mounted_tmpfs, names, opened, put


class TestFileStore(StoreConformance):
    spawnable = True

    def backend(self) -> str:
        return "a directory"

    def make_store(self) -> FileStore:
        return FileStore({DATADIR: str(self.tmp_path / "data")})


class TestFileStoreWithoutFsync(StoreConformance):
    """Small odd blocks, a reserve, and permissions: every option not at its default."""

    variants = ("bare",)
    spawnable = True
    flat_size = 16 * MIB
    many_keys = 100

    def make_store(self) -> FileStore:
        return FileStore(
            {
                DATADIR: str(self.tmp_path / "data"),
                "filesystem_store_chunk_size": 65_521,
                "filesystem_store_fsync": False,
                "filesystem_store_reserve": 1,
                "filesystem_store_file_perm": 640,
                "filesystem_thin_provisioning": False,
            }
        )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    store = opened(tmp_path / "data")
    yield store
    store.close()


# Configuration


def test_uri() -> None:
    assert FileStore.settings_from_uri("file:///srv/my%20images") == {DATADIR: "/srv/my images"}


@pytest.mark.parametrize(
    "uri",
    ["file://relative", "file://relative/path", "file:relative", "file://", "file:///a?b=c", "file:///a#b"],
)
def test_uri_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="file:///srv/images"):
        FileStore.settings_from_uri(uri)


def test_datadir_is_required() -> None:
    with pytest.raises(ConfigError, match=f"{DATADIR} isn't set"):
        FileStore({})


def test_bad_permissions(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="filesystem_store_file_perm"):
        FileStore({DATADIR: str(tmp_path), "filesystem_store_file_perm": 689})


def test_constructor_touches_nothing(tmp_path: Path) -> None:
    FileStore({DATADIR: str(tmp_path / "data")})
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", ["missing/data", "file", "file/data"])
def test_unusable_datadir(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    before = len(names(Path("/proc/self/fd")))
    with pytest.raises(ConfigError, match=f"{DATADIR} .*{place}"):
        opened(tmp_path / place)
    assert len(names(Path("/proc/self/fd"))) == before


def test_unwritable_datadir(tmp_path: Path) -> None:
    """Root may write anywhere, so the test drops what root may."""
    (tmp_path / "data").mkdir()
    tmp_path.chmod(0o755)
    code = (
        "import os, sys\n"
        "from glancelike.errors import ConfigError\n"
        "from glancelike.stores.file import FileStore\n"
        "os.chdir(sys.argv[1])\n"
        "os.geteuid() or os.setresuid(65534, 65534, 65534)\n"
        f"store = FileStore({{{DATADIR!r}: 'data'}})\n"
        "try:\n"
        "    store.open()\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    (tmp_path / "data").chmod(0o555)
    said = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=30)
    assert DATADIR in said.stdout, said.stderr
    assert "Permission denied" in said.stdout


def test_unopened_store_refuses(tmp_path: Path) -> None:
    guard = Guard(FileStore({DATADIR: str(tmp_path)}), store_id="fast")
    with pytest.raises(StoreFault):
        guard.stat("key")


# What lies on the disk


def test_layout(store: FileStore, tmp_path: Path) -> None:
    for key in ("plain", "a/b", "a/b/c", "a"):
        put(store, key)
    found = sorted(str(path.relative_to(tmp_path / "data")) for path in (tmp_path / "data").rglob("*"))
    assert found == [
        *(".2", ".2/a", ".2/a/b", ".3", ".3/a", ".3/a/b", ".3/a/b/c", ".tmp", ".uploads", "a", "plain")
    ]


def test_emptied_directories_go(store: FileStore, tmp_path: Path) -> None:
    put(store, "a/b/c")
    put(store, "a/b/d")
    store.delete("a/b/c")
    assert names(tmp_path / "data/.3/a/b") == ["d"]
    store.delete("a/b/d")
    assert names(tmp_path / "data/.3") == []


def test_permissions(tmp_path: Path) -> None:
    store = opened(tmp_path / "data", filesystem_store_file_perm=640)
    put(store, "key")
    assert stat.S_IMODE(store.local_path("key").stat().st_mode) == 0o640
    store.close()


def refuse_to_clone(*_: Any) -> None:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


def test_copy_is_a_link_of_its_own_age(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.ioctl", refuse_to_clone)
    put(store, "old")
    os.utime(store.local_path("old"), (0, 0))
    info = store.copy("old", "new")
    assert store.local_path("new").samefile(store.local_path("old"))
    assert info.modified is not None
    assert info.modified.year > 2000, "gc would take the copy for an old orphan"


def test_copy_without_links(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system shares no blocks and refuses the first link, as ext4 does after 65,000."""
    monkeypatch.setattr("fcntl.ioctl", refuse_to_clone)
    data = payload(3 * MIB)
    put(store, "from", data)
    real = os.link
    refused: list[Any] = []

    def link(*args: Any, **options: Any) -> None:
        if not refused:
            refused.append(args)
            raise OSError(errno.EMLINK, "Too many links")
        real(*args, **options)

    monkeypatch.setattr(os, "link", link)
    store.copy("from", "to")
    assert refused
    assert b"".join(store.read("to")) == data
    assert not store.local_path("to").samefile(store.local_path("from"))


def test_foreign_files_are_no_blobs(store: FileStore, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (tmp_path / "secret").write_bytes(b"not for you")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_bytes(b"not for you")
    (data / "link").symlink_to(tmp_path / "secret")
    (data / "dangling").symlink_to(tmp_path / "none")
    (data / "directory").mkdir()
    os.mkfifo(data / "fifo")
    (data / ".2").mkdir()
    (data / ".2/outside").symlink_to(tmp_path / "outside")
    (data / "a b").touch()
    put(store, "mine")
    assert [info.key for info in store.list()] == ["mine"]
    for key in ("link", "dangling", "directory", "fifo", "outside/file"):
        for call in (store.stat, store.read, store.delete, store.local_path):
            with pytest.raises(BlobNotFound):
                call(key)
        with pytest.raises(BlobNotFound):
            store.copy(key, "copied")
    for key in ("link", "dangling", "directory"):
        with pytest.raises(BlobExists):
            put(store, key)
    with pytest.raises(OSError, match="Not a directory"):
        put(store, "outside/new")
    assert names(tmp_path / "outside") == ["file"]
    assert (tmp_path / "secret").read_bytes() == b"not for you"


def test_keys_cannot_leave(store: FileStore, tmp_path: Path) -> None:
    """The guard refuses these, too, but a driver may be used without it."""
    for key in ("../escaped", "a/../../escaped", "/escaped", ".tmp", "", "a//b"):
        with pytest.raises(Exception, match="not a key"):
            put(store, key)
    assert names(tmp_path) == ["data"]


# Crashes


def test_sweep_removes_the_dead_only(store: FileStore, tmp_path: Path) -> None:
    temporary = tmp_path / "data/.tmp"
    for name in ("0" * 32, f"{'1' * 32}.link"):
        (temporary / name).write_bytes(b"left by a killed writer")
    half, go_on = threading.Event(), threading.Event()

    def wait(at: int) -> None:
        half.set()
        go_on.wait(30)

    source = WatchedSource(payload(MIB), hook=wait)
    writer = threading.Thread(target=lambda: store.write("alive", source, size=MIB))
    writer.start()
    assert half.wait(30)
    assert len(names(temporary)) == 3
    other = opened(tmp_path / "data")
    assert len(names(temporary)) == 1
    go_on.set()
    writer.join()
    assert b"".join(other.read("alive")) == payload(MIB)
    assert names(temporary) == []
    other.close()


def test_swept_before_it_is_locked(store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process sweeps between the making and the locking of a temporary file."""
    real = fcntl.flock
    swept: list[int] = []

    def flock(fd: int, operation: int) -> None:
        if not swept:
            swept.append(fd)
            opened(tmp_path / "data").close()
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    put(store, "key")
    assert swept
    assert b"".join(store.read("key")) == b"data"


def test_killed_writer_is_swept(store: FileStore, tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from glancelike.stores.file import FileStore\n"
        "from glancelike.testing.store_child import stall_halfway\n"
        f"store = FileStore({{{DATADIR!r}: sys.argv[1]}})\n"
        "store.open()\n"
        "store.write('killed', stall_halfway(4 << 20), size=4 << 20)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path / "data"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"half\n"
    child.kill()
    child.communicate()
    assert len(names(tmp_path / "data/.tmp")) == 1
    opened(tmp_path / "data").close()
    assert names(tmp_path / "data/.tmp") == []


def test_directory_vanishes_under_a_write(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delete next door removes the emptied directory just before the link."""
    put(store, "d/first")
    real = os.link
    calls: list[Any] = []

    def link(*args: Any, **options: Any) -> None:
        calls.append(args)
        if len(calls) == 1:
            store.delete("d/first")
        real(*args, **options)

    monkeypatch.setattr(os, "link", link)
    put(store, "d/second")
    assert len(calls) == 2
    assert [info.key for info in store.list()] == ["d/second"]


def test_writes_and_deletes_in_one_directory(store: FileStore) -> None:
    errors: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(30):
                put(store, f"x/y/{number}-{turn}")
                store.delete(f"x/y/{number}-{turn}")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


# A full disk


def test_known_size_is_refused_before_a_byte_moves(store: FileStore) -> None:
    class Untouched:
        def read(self, size: int, /) -> bytes:
            raise AssertionError("read")

    with pytest.raises(StoreFull, match="are free"):
        store.write("key", Untouched(), size=1 << 60)
    upload = store.begin("key")
    with pytest.raises(StoreFull, match="are free"):
        store.put_part("key", upload, 1, Untouched(), size=1 << 60)


def test_reserve(tmp_path: Path) -> None:
    store = opened(tmp_path / "data", filesystem_store_reserve=1 << 60)
    with pytest.raises(StoreFull):
        store.write("key", io.BytesIO(b"unsized"), size=None)
    assert store.usage().free == 0
    assert names(tmp_path / "data/.tmp") == []
    store.close()


def test_disk_fills_midway(store: FileStore, tmp_path: Path) -> None:
    """A limit on the size of files stands for the end of the disk."""
    guard = Guard(store, store_id="fast")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * MIB, hard))
    try:
        with pytest.raises(StoreFull) as caught:
            guard.write("key", EndlessSource(8 * MIB), size=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.store, caught.value.key) == ("fast", "key")
    assert names(tmp_path / "data/.tmp") == []
    guard.write("key", EndlessSource(MIB), size=None)


def test_really_full_disk(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "small", mib=4) as small:
        store = opened(small)
        guard = Guard(store, store_id="fast")
        with pytest.raises(StoreFull):
            guard.write("key", EndlessSource(8 * MIB), size=None)
        assert names(small / ".tmp") == []
        guard.write("key", EndlessSource(2 * MIB), size=2 * MIB)
        upload = guard.begin("parts")
        with pytest.raises(StoreFull):
            guard.put_part("parts", upload, 1, EndlessSource(3 * MIB), size=3 * MIB)
        guard.abort("parts", upload)
        guard.write("another", EndlessSource(MIB), size=MIB)
        store.close()


def test_truncated_file_is_no_silent_end(store: FileStore) -> None:
    put(store, "key", payload(3 * MIB))
    blocks = store.read("key")
    next(blocks)
    os.truncate(store.local_path("key"), MIB)
    with pytest.raises(StoreFault, match="ended at"):
        list(blocks)


def test_listing_from_many_threads(store: FileStore) -> None:
    for number in range(50):
        put(store, f"key{number}")
    wrong: list[int] = []

    def look() -> None:
        for _ in range(20):
            if (count := len(list(store.list()))) != 50:
                wrong.append(count)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
