"""What is stored once, what a new version costs, and what a damaged chunk does."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from chunks_below import HookedStore, directory, names, stacked, sweep_all
from glancelike_store_chunks import ChunkStore

from glancelike.errors import BlobNotFound, ConfigError, StoreFault
from glancelike.testing.sources import EndlessSource, payload

DATA = payload(1_000_000)


@pytest.fixture
def below(tmp_path: Path) -> Iterator[HookedStore]:
    store = directory(tmp_path / "below")
    yield store
    store.close()


def put(store: ChunkStore, key: str, data: bytes) -> None:
    store.write(key, io.BytesIO(data), size=len(data))


def get(store: ChunkStore, key: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join(store.read(key, offset=offset, length=length))


def stored(below: HookedStore) -> int:
    return sum(info.size for info in below.list("chunks/"))


def test_an_insertion_in_the_middle_costs_a_few_chunks(below: HookedStore) -> None:
    store = stacked(below)
    put(store, "one", DATA)
    first = stored(below)
    assert first == len(DATA)
    changed = DATA[:500_001] + b"inserted" + DATA[500_001:]
    put(store, "two", changed)
    assert 0 < stored(below) - first <= 4 * 16384
    put(store, "cut", DATA[123_456:])
    assert stored(below) - first <= 8 * 16384
    for key, data in (("one", DATA), ("two", changed), ("cut", DATA[123_456:])):
        assert get(store, key) == data


def test_a_change_in_place_costs_its_chunk(below: HookedStore) -> None:
    store = stacked(below, "fixed")
    put(store, "one", DATA)
    changed = DATA[:500_000] + b"!" + DATA[500_001:]
    put(store, "two", changed)
    assert stored(below) == len(DATA) + 4096
    assert get(store, "one") == DATA
    assert get(store, "two") == changed


def test_both_methods_read_what_the_other_wrote(below: HookedStore) -> None:
    put(stacked(below, "fixed"), "fixed", DATA)
    put(stacked(below), "cdc", DATA)
    assert get(stacked(below), "fixed") == get(stacked(below, "fixed"), "cdc") == DATA


def test_cuts_depend_on_the_content_not_on_how_it_comes(below: HookedStore) -> None:
    store = stacked(below)
    put(store, "one", DATA)

    class Dribble(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 1, 777))

    store.write("two", Dribble(DATA), size=None)
    assert stored(below) == len(DATA)


@pytest.mark.parametrize("method", ["cdc", "fixed"])
def test_zeros_are_stored_nowhere(below: HookedStore, method: str) -> None:
    store = stacked(below, method, chunk_store_avg_size=1 << 20, chunk_store_max_size=4 << 20)

    class Zeros(EndlessSource):
        def read(self, size: int, /) -> bytes:
            return bytes(len(super().read(size)))

    assert store.write("hole", Zeros(200 << 20), size=200 << 20).size == 200 << 20
    assert stored(below) == 0
    assert sum(len(block) for block in store.read("hole") if not block.strip(b"\0")) == 200 << 20
    assert get(store, "hole", 123 << 20, 5) == bytes(5)
    sparse = bytes(8 << 20) + payload(100_000) + bytes(16 << 20)
    put(store, "sparse", sparse)
    assert get(store, "sparse") == sparse
    usage = store.usage()
    assert usage.logical == (200 << 20) + len(sparse)
    assert usage.used < 9 << 20


def test_a_range_reads_only_its_chunks(below: HookedStore) -> None:
    store = stacked(below, "fixed")
    put(store, "one", DATA)
    read: list[str] = []
    below.hook = lambda call, key: read.append(key) if call == "read" else None
    assert get(store, "one", 500_000, 5000) == DATA[500_000:505_000]
    assert sum(key.startswith("chunks/") for key in read) == 2
    assert len(read) == 3


@pytest.mark.parametrize("how", ["flipped", "cut", "longer", "removed"])
def test_a_damaged_chunk_is_named_and_never_served(below: HookedStore, tmp_path: Path, how: str) -> None:
    store = stacked(below, "fixed")
    put(store, "one", DATA)
    name = max(below.list("chunks/"), key=lambda info: (info.size, info.key)).key
    file = below.local_path(name)
    was = file.read_bytes()
    at = DATA.index(was)
    file.chmod(0o600)
    if how == "removed":
        file.unlink()
    elif how == "longer":
        file.write_bytes(was + b"more")
    else:
        file.write_bytes(was[:-1] + (bytes([was[-1] ^ 1]) if how == "flipped" else b""))
    if how == "longer":
        assert get(store, "one") == DATA
        return
    with pytest.raises(StoreFault, match=name):
        get(store, "one")
    assert get(store, "one", 0, at or 1) == DATA[: at or 1] if at else True
    assert get(store, "one", at + len(was)) == DATA[at + len(was) :]


@pytest.mark.parametrize("how", ["cut", "no manifest", "empty"])
def test_a_damaged_manifest_is_named(below: HookedStore, how: str) -> None:
    store = stacked(below, "fixed")
    put(store, "one", DATA)
    file = below.local_path("blobs/one")
    was = file.read_bytes()
    file.write_bytes({"cut": was[:-44], "no manifest": b"x" * 100, "empty": b""}[how])
    with pytest.raises(StoreFault, match="manifest 'blobs/one' in store 'below' is damaged"):
        get(store, "one")
    # What can't be read may list anything, so nothing is collected.
    with pytest.raises(StoreFault, match="blobs/one"):
        sweep_all(store)
    assert stored(below) == len(DATA)


def test_errors_of_the_store_below_say_whose_they_are(below: HookedStore) -> None:
    store = stacked(below)
    put(store, "one", DATA)
    with pytest.raises(BlobNotFound) as caught:
        store.stat("none")
    assert caught.value.key is None
    below.hook = lambda call, key: (_ for _ in ()).throw(PermissionError(13, "not for you"))
    with pytest.raises(Exception, match=r"in the store below: PermissionError.*'below'") as denied:
        store.stat("one")
    assert type(denied.value).__name__ == "StoreDenied"


def test_it_works_only_on_another_store() -> None:
    with pytest.raises(ConfigError, match="chunk_store_over"):
        ChunkStore({}).open()


def test_a_copy_costs_a_manifest(below: HookedStore) -> None:
    store = stacked(below)
    put(store, "one", DATA)
    store.copy("one", "two")
    assert stored(below) == len(DATA)
    store.delete("one")
    sweep_all(store)
    assert get(store, "two") == DATA
    store.delete("two")
    sweep_all(store)
    assert names(below, "") == names(below, "generations/")
