"""The mount table and images as seekable files."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_config import cfg

from glancelike.errors import (
    BlobNotFound,
    ConfigError,
    NoImageData,
    StoreDenied,
    StoreUnavailable,
    UnknownStore,
    Unsupported,
)
from glancelike.model import Location
from glancelike.stores.base import BlobInfo, Cap, Store
from glancelike.stores.file import FileStore
from glancelike.stores.memory import MemoryStore
from glancelike.vfs import LARGEST_WINDOW, STAGING, ImageFile, MountOptions, MountTable

DATA = random.Random(7).randbytes(3_000_000)


class ForwardOnly(Store):
    """A store that can only be read from the start, in odd blocks."""

    capabilities = Cap.NONE
    reads = 0
    closed = 0

    def stat(self, key: str) -> BlobInfo:
        return BlobInfo(key, len(DATA))

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        type(self).reads += 1
        return self._blocks()

    def _blocks(self) -> Iterator[bytes]:
        try:
            for start in range(0, len(DATA), 99_991):
                yield DATA[start : start + 99_991]
        finally:
            type(self).closed += 1


class Away(MemoryStore):
    """A store whose backend doesn't answer."""

    def stat(self, key: str) -> BlobInfo:
        raise StoreUnavailable("no answer")

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        raise StoreUnavailable("no answer")


def mounted(store: Store, store_id: str = "s") -> MountTable:
    table = MountTable({"default": MemoryStore({}), store_id: store})
    table.open()
    return table


def memory_file() -> ImageFile:
    table = mounted(MemoryStore({}))
    table["s"].store.write("blob", io.BytesIO(DATA), size=len(DATA))
    return ImageFile(table, [Location("s", "blob")], len(DATA))


steps = st.lists(st.tuples(st.integers(0, len(DATA) + 10), st.integers(-1, 700_000)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(steps, st.booleans())
def test_reads_like_a_file(walk: list[tuple[int, int]], forward_only: bool) -> None:
    if forward_only:
        file = ImageFile(mounted(ForwardOnly({})), [Location("s", "blob")], len(DATA))
    else:
        file = memory_file()
    model = io.BytesIO(DATA)
    with file:
        for offset, size in walk:
            assert file.seek(offset) == model.seek(offset)
            assert file.read(size) == model.read(size)
            assert file.tell() == model.tell()


def test_is_a_proper_file_object() -> None:
    with memory_file() as file, io.BufferedReader(file) as buffered:
        assert buffered.read(5) == DATA[:5]
        buffered.seek(-7, io.SEEK_END)
        assert buffered.read() == DATA[-7:]
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


@pytest.mark.parametrize(("offset", "whence"), [(-1, 0), (0, 9), (-1, 1)])
def test_impossible_seeks(offset: int, whence: int) -> None:
    with memory_file() as file, pytest.raises(ValueError, match="seek|whence"):
        file.seek(offset, whence)


def test_reading_ahead_grows_and_is_bounded() -> None:
    windows = []

    class Watched(MemoryStore):
        def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
            windows.append(length)
            return super().read(key, offset=offset, length=length)

    table = mounted(Watched({}))
    size = 40 * 1024 * 1024
    table["s"].store.write("blob", io.BytesIO(bytes(size)), size=size)
    with ImageFile(table, [Location("s", "blob")], size) as file:
        while file.read(65536):
            pass
    assert windows == sorted(windows[:-1]) + windows[-1:]
    assert max(w or 0 for w in windows) == LARGEST_WINDOW
    assert len(windows) < 12


def test_a_forward_only_store_is_read_once_and_closed() -> None:
    ForwardOnly.reads = ForwardOnly.closed = 0
    file = ImageFile(mounted(ForwardOnly({})), [Location("s", "blob")], len(DATA))
    file.read(10)
    file.seek(1_000_000)
    file.read(10)
    assert ForwardOnly.reads == 1
    file.close()
    assert ForwardOnly.closed == 1


def test_falls_over_to_another_location() -> None:
    table = mounted(MemoryStore({}))
    table["s"].store.write("blob", io.BytesIO(DATA), size=len(DATA))
    away = MountTable({"default": Away({}), "s": MemoryStore({})})
    away.open()
    away["s"].store.write("blob", io.BytesIO(DATA), size=len(DATA))
    places = [Location("default", "x"), Location("gone", "x"), Location("s", "blob")]
    with ImageFile(away, places, len(DATA)) as file:
        assert file.read(100) == DATA[:100]


def test_tells_why_no_location_works() -> None:
    table = mounted(MemoryStore({}))
    with pytest.raises(BlobNotFound):
        ImageFile(table, [Location("s", "lost")], 1)
    with pytest.raises(UnknownStore, match="nowhere"):
        ImageFile(table, [Location("nowhere", "x")], 1)
    with pytest.raises(NoImageData):
        ImageFile(table, [], 1)


def test_a_mount_table_that_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="enabled_backends"):
        MountTable({})
    with pytest.raises(ConfigError, match="'b'"):
        MountTable({"a": MemoryStore({})}, default="b")
    with pytest.raises(ConfigError, match="read-only"):
        MountTable({"a": ForwardOnly({})})


def test_open_is_all_or_nothing() -> None:
    events = []

    class Noted(MemoryStore):
        def open(self) -> None:
            super().open()
            events.append("open")

        def close(self) -> None:
            super().close()
            events.append("close")

    class Broken(MemoryStore):
        def open(self) -> None:
            raise StoreDenied("who are you?")

    with pytest.raises(StoreDenied):
        MountTable({"a": Noted({}), "b": Broken({})}).open()
    assert events == ["open", "close"]


def test_reads_by_weight_then_as_stored() -> None:
    stores = {"a": MemoryStore({}), "b": MemoryStore({}), "c": MemoryStore({})}
    table = MountTable(stores, options={"b": MountOptions(weight=5), "c": MountOptions(weight=-1)})
    places = [Location(name, "k") for name in ("c", "gone", "a", "b")]
    assert [each.store for each in table.ordered(places)] == ["b", "gone", "a", "c"]
    assert [each.store for each in table.ordered(places, ["c", "a"])] == ["c", "a", "b", "gone"]
    for name, store in stores.items():
        store.write("k", io.BytesIO(name.encode()), size=1)
    with ImageFile(table, table.ordered(places), 1) as file:
        assert file.read() == b"b"


def test_a_local_file_is_used_unless_another_store_goes_before_it(tmp_path: Path) -> None:
    disk = FileStore({"filesystem_store_datadir": str(tmp_path)})
    stores = {"ram": MemoryStore({}), "disk": disk}
    places = [Location("ram", "k"), Location("disk", "k")]
    equal = MountTable(stores)
    equal.open()
    try:
        disk.write("k", io.BytesIO(b"x"), size=1)
        assert equal.local_path(places) is not None
        heavy = MountTable(stores, options={"ram": MountOptions(weight=1)})
        assert heavy.local_path(heavy.ordered(places)) is None
    finally:
        equal.close()


def test_the_staging_store_is_there_but_no_target() -> None:
    table = MountTable({"a": MemoryStore({})}, staging=MemoryStore({}))
    assert table.staging is table[STAGING]
    assert [mount.id for mount in table] == ["a"]
    assert [mount.id for mount in table.all()] == ["a", STAGING]
    for ask in (table.listed, table.target):
        with pytest.raises(UnknownStore):
            ask(STAGING)
    with pytest.raises(UnknownStore):
        _ = MountTable({"a": MemoryStore({})}).staging
    with pytest.raises(ConfigError, match="reserved"):
        MountTable({"os_glance_mine": MemoryStore({})})
    with pytest.raises(ConfigError, match="read-only"):
        MountTable({"a": MemoryStore({})}, staging=ForwardOnly({}))


def test_a_store_may_be_mounted_read_only() -> None:
    table = MountTable(
        {"a": MemoryStore({}), "b": MemoryStore({})}, options={"a": MountOptions(read_only=True)}
    )
    assert table.default == "b"
    assert table.target(None).id == "b"
    with pytest.raises(Unsupported, match="read-only"):
        table.target("a")
    with pytest.raises(ConfigError, match="read-only"):
        MountTable({"a": MemoryStore({})}, options={"a": MountOptions(read_only=True)})


class Above(MemoryStore):
    """Stack on another store, and note when it is opened and closed."""

    stacks_on = "over"
    needs_below = Cap.LIST | Cap.DELETE
    options = (cfg.StrOpt("over"),)
    events: ClassVar[list[str]] = []

    def open(self) -> None:
        self.below.write("made-by-open", io.BytesIO(b"x"), size=1)
        self.events.append(f"open over {self.below.id}")

    def close(self) -> None:
        self.below.delete("made-by-open")
        self.events.append(f"close over {self.below.id}")


class Bottom(MemoryStore):
    def open(self) -> None:
        Above.events.append("open bottom")

    def close(self) -> None:
        Above.events.append("close bottom")


def test_a_store_on_another_opens_after_it_and_closes_before_it() -> None:
    Above.events.clear()
    top, middle, bottom = Above({"over": "middle"}), Above({"over": "bottom"}), Bottom({})
    table = MountTable({"top": top, "middle": middle, "bottom": bottom})
    assert top.below is table["middle"].store
    assert [mount.id for mount in table] == ["top", "middle", "bottom"]
    table.open()
    table.close()
    opened = ["open bottom", "open over bottom", "open over middle"]
    assert Above.events == [*opened, "close over middle", "close over bottom", "close bottom"]


@pytest.mark.parametrize(
    ("over", "match"),
    [
        ({"a": None}, "store 'a': over isn't set"),
        ({"a": "gone"}, "store 'a': over: no store is mounted as 'gone'"),
        ({"a": STAGING}, "no store is mounted"),
        ({"a": "a"}, "circle: 'a' on 'a'"),
        ({"a": "b", "b": "c", "c": "b"}, "circle: 'b' on 'c' on 'b'"),
        ({"a": "web"}, "store 'web' lacks DELETE, LIST"),
    ],
)
def test_a_store_on_what_cannot_carry_it_is_refused(over: dict[str, str | None], match: str) -> None:
    stores: dict[str, Store] = {"bottom": MemoryStore({}), "web": ForwardOnly({})}
    stores |= {name: Above({"over": below}) for name, below in over.items()}
    with pytest.raises(ConfigError, match=match):
        MountTable(stores, staging=MemoryStore({}))
