"""What the file store's blobs take on the disk: holes, shared blocks, space taken before."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glancelike.errors import StoreFull
from glancelike.stores.file import sparse
from glancelike.testing.sources import EndlessSource, WatchedSource, payload
from tests.file_stores import MIB, content, free, mounted_tmpfs, mounted_xfs, opened, put, taken

THIN = "filesystem_thin_provisioning"
HOLEY = bytes(8 * MIB) + b"in between" + bytes(8 * MIB) + payload(MIB) + bytes(8 * MIB)


@pytest.mark.parametrize("step", [MIB, 16_384, 65_521])
def test_zeros_take_no_space(tmp_path: Path, step: int) -> None:
    store = opened(tmp_path / "data")
    for key, size in (("sized", len(HOLEY)), ("unsized", None)):
        store.write(key, WatchedSource(HOLEY, steps=[step]), size=size)
        assert content(store, key) == HOLEY
        assert taken(store.local_path(key)) < 2 * MIB
    assert store.public_properties()["thin_provisioning"] is True
    assert store.usage().used == 2 * len(HOLEY)


def test_zeros_take_space_when_not_thin(tmp_path: Path) -> None:
    store = opened(tmp_path / "data", **{THIN: False})
    put(store, "key", HOLEY)
    assert content(store, "key") == HOLEY
    assert taken(store.local_path("key")) >= len(HOLEY)
    assert store.public_properties()["thin_provisioning"] is False


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.booleans(), st.integers(0, 300_000)), max_size=6),
    steps=st.lists(st.integers(1, 1 << 20).map(lambda size: max(size, 4096)), min_size=1, max_size=3),
    at=st.integers(0, 200_000),
)
def test_what_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bool, int]], steps: list[int], at: int
) -> None:
    data = b"".join(payload(size) if full else bytes(size) for full, size in pieces)
    path = tmp_path_factory.mktemp("fill") / "file"
    copied = path.with_suffix(".copy")
    path.write_bytes(payload(at))
    with path.open("r+b") as file, copied.open("w+b") as copy:
        source = WatchedSource(data, steps=steps)
        written = sparse.fill(file.fileno(), source, at=at, chunk=MIB, thin=True, check=lambda size: None)
        assert written == (at + len(data), len(data))
        assert sparse.append(copy.fileno(), 0, file.fileno()) == at + len(data)
        end = sparse.append(copy.fileno(), at + len(data), file.fileno(), at, len(data))
        assert end == at + 2 * len(data)
    assert path.read_bytes() == payload(at) + data
    assert copied.read_bytes() == payload(at) + data + data


def test_a_copy_without_any_help_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shared blocks, no links, no copy_file_range: as on some network file systems."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    store = opened(tmp_path / "data")
    put(store, "key", HOLEY)
    real, calls = os.link, []

    def link(*args: str, **options: int) -> None:
        calls.append(args)
        if len(calls) == 1:
            refuse()
        real(*args, **options)

    monkeypatch.setattr("fcntl.ioctl", refuse)
    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    store.copy("key", "copy")
    assert content(store, "copy") == HOLEY
    assert store.local_path("copy").stat().st_nlink == 1
    assert taken(store.local_path("copy")) < 2 * MIB


def test_shared_blocks(tmp_path: Path) -> None:
    with mounted_xfs(tmp_path / "xfs") as xfs:
        store = opened(xfs)
        data = payload(32 * MIB)
        put(store, "key", data)
        os.sync()
        before = free(xfs)
        store.copy("key", "copy")
        assert store.local_path("copy").stat().st_nlink == 1, "it is a link"
        upload = store.begin("joined")
        for number in (2, 1):
            store.put_part("joined", upload, number, io.BytesIO(data[: 8 * MIB]), size=8 * MIB)
        store.complete("joined", upload)
        os.sync()
        assert before - free(xfs) < 20 * MIB
        store.delete("key")
        assert content(store, "copy") == data
        assert content(store, "joined") == data[: 8 * MIB] * 2
        store.close()


def test_space_is_taken_before_the_data_comes(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "small", mib=16) as small:
        store = opened(small, **{THIN: False})
        seen: list[int] = []
        source = EndlessSource(10 * MIB, hook=lambda at: seen.append(free(small)))
        store.write("key", source, size=10 * MIB)
        assert seen[0] <= 6 * MIB, "another upload could still take the space"
        with pytest.raises(StoreFull):
            store.write("more", EndlessSource(0), size=10 * MIB)
        store.close()


def test_the_reserve_holds_while_data_of_unknown_size_comes(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "small", mib=16) as small:
        store = opened(small, filesystem_store_reserve=6 * MIB)
        with pytest.raises(StoreFull, match="are free"):
            store.write("key", EndlessSource(12 * MIB), size=None)
        assert free(small) > 15 * MIB
        store.write("key", EndlessSource(9 * MIB), size=None)
        upload = store.begin("parts")
        with pytest.raises(StoreFull, match="are free"):
            store.put_part("parts", upload, 1, EndlessSource(2 * MIB), size=2 * MIB)
        store.close()
