"""The mount table of stores, and images as seekable files.

Above this module nobody cares where the bytes lie: a location is a mounted
store's id and a key. Below it every driver stands behind its guard.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from glancelike.errors import (
    ConfigError,
    NoImageData,
    StoreError,
    UnknownStore,
    Unsupported,
)
from glancelike.model import Location
from glancelike.stores.base import Cap, Store
from glancelike.stores.guard import Guard
from glancelike.stores.mounted import MountedStore
from glancelike.streams import Continued, Copy, Part

T = TypeVar("T")

# The mount of data that waits for its import; never listed. No store's id
# may begin as the service's own do.
STAGING = "os_glance_staging_store"
RESERVED = "os_glance_"

# How far ImageFile reads ahead: little at first, so that a look at a header
# costs little; twice as much each time reading goes on where it stopped.
FIRST_WINDOW = 256 * 1024
LARGEST_WINDOW = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What the operator says of a store.

    ``weight`` orders the stores that an image is read from, highest first;
    ``read_only`` keeps this server from writing to it; ``type`` names the
    driver.
    """

    description: str | None = None
    weight: int = 0
    read_only: bool = False
    type: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """A store under its id, behind the guard."""

    id: str
    store: MountedStore
    description: str | None = None
    read_only: bool = False
    weight: int = 0
    type: str = ""

    @property
    def reason(self) -> str | None:
        """Say why the store is down, or was seen to be a moment ago; None when it works."""
        return self.store.reason


class MountTable:
    """Maps store ids to stores; one of them is the default for writing.

    ``staging`` holds what waits for its import. It is opened and closed with
    the others and found by its id, STAGING, but is never listed and never a
    target. A store that stacks on another (``Store.stacks_on``) is given that
    one's guard here, and opened after it.
    """

    def __init__(
        self,
        stores: Mapping[str, Store],
        *,
        default: str | None = None,
        options: Mapping[str, MountOptions] | None = None,
        staging: Store | None = None,
    ) -> None:
        if not stores:
            raise ConfigError("no store is configured: enabled_backends is empty")
        for name in stores:
            if name.startswith(RESERVED):
                raise ConfigError(f"{name!r} can't be a store's id: {RESERVED} is reserved")
        told = options or {}
        self._listed = {name: _mount(name, store, told.get(name)) for name, store in stores.items()}
        self._mounts = dict(self._listed)
        if staging is not None:
            self._mounts[STAGING] = _mount(STAGING, staging, None)
            if self._mounts[STAGING].read_only:
                raise ConfigError("the staging store is read-only")
        self._order = self._stacked()
        writable = (mount.id for mount in self if not mount.read_only)
        self.default = default or next(writable, next(iter(stores)))
        if self.default not in stores:
            raise ConfigError(f"default store {self.default!r} isn't among {', '.join(sorted(stores))}")
        if self._listed[self.default].read_only:
            raise ConfigError(f"default store {self.default!r} is read-only")

    def open(self) -> None:
        """Open all stores or none; one that can't be reached is down, and no reason to stop.

        Raises ConfigError and StoreDenied.
        """
        opened: list[Mount] = []
        try:
            for mount in self._order:
                mount.store.open()
                opened.append(mount)
        except BaseException:
            for mount in reversed(opened):
                mount.store.close()
            raise

    def close(self) -> None:
        """Close all stores."""
        for mount in reversed(self._order):
            mount.store.close()

    def __iter__(self) -> Iterator[Mount]:
        return iter(self._listed.values())

    def all(self) -> tuple[Mount, ...]:
        """Return all mounts, the staging store among them."""
        return tuple(self._mounts.values())

    def __getitem__(self, store_id: str) -> Mount:
        """Return a mount, by its id also the staging store; raise UnknownStore."""
        try:
            return self._mounts[store_id]
        except KeyError:
            raise UnknownStore(f"no store is mounted as {store_id!r}", store=store_id) from None

    @property
    def staging(self) -> Mount:
        """The staging store; raises UnknownStore where there is none."""
        return self[STAGING]

    def listed(self, store_id: str) -> Mount:
        """Return a mount that callers may name; raise UnknownStore."""
        mount = self[store_id]
        if mount.id not in self._listed:
            raise UnknownStore(f"no store is mounted as {store_id!r}", store=store_id)
        return mount

    def target(self, store_id: str | None) -> Mount:
        """Return the mount to write image data to, None being the default.

        Raises UnknownStore or Unsupported.
        """
        mount = self.listed(store_id or self.default)
        if mount.read_only:
            raise Unsupported("the store is read-only", store=mount.id)
        return mount

    def ordered(self, locations: Sequence[Location], prefer: Sequence[str] = ()) -> tuple[Location, ...]:
        """Return the locations in the order they are read.

        First those in the stores of ``prefer``, in its order, then by
        weight, highest first, then as they are stored.
        """

        def rank(location: Location) -> tuple[int, int]:
            wanted = prefer.index(location.store) if location.store in prefer else len(prefer)
            return wanted, -self._weight(location)

        return tuple(sorted(locations, key=rank))

    def _stacked(self) -> tuple[Mount, ...]:
        """Give stores the ones they stack on; return all, lower ones first."""
        lower = {mount.id: self._lower(mount) for mount in self.all()}
        order: dict[str, Mount] = {}
        for mount in self.all():
            pile = [mount]
            while (below := lower[pile[-1].id]) is not None and below.id not in order:
                if below in pile:
                    circle = " on ".join(repr(each.id) for each in (*pile[pile.index(below) :], below))
                    raise ConfigError(f"stores can't stack in a circle: {circle}")
                pile.append(below)
            for each in reversed(pile):
                order[each.id] = each
        for mount in order.values():
            if (below := lower[mount.id]) is not None:
                mount.store.driver.below = below.store
        return tuple(order.values())

    def _lower(self, mount: Mount) -> Mount | None:
        """Return the mount that one stacks on, if any; raise ConfigError."""
        driver = mount.store.driver
        if driver.stacks_on is None:
            return None
        wanted = driver.settings[driver.stacks_on]
        said = f"store {mount.id!r}: {driver.stacks_on}"
        if not wanted:
            raise ConfigError(f"{said} isn't set: it needs the id of another store")
        if wanted not in self._listed:
            raise ConfigError(f"{said}: no store is mounted as {wanted!r}")
        below = self._listed[wanted]
        missing = [cap.name or "" for cap in driver.needs_below if cap not in below.store.capabilities]
        if missing:
            raise ConfigError(f"{said}: the store {wanted!r} lacks {', '.join(missing)}")
        if below.store.keys_by_owner:
            raise ConfigError(f"{said}: the store {wanted!r} keeps images by owner, and nothing else")
        return below

    def _weight(self, location: Location) -> int:
        mount = self._mounts.get(location.store)
        return mount.weight if mount else 0

    def first(self, locations: Sequence[Location], use: Callable[[Guard, str], T]) -> T:
        """Return ``use(store, key)`` of the first location where it works.

        A location whose store is away, refuses, or has lost the blob, is passed over
        as long as there is another. See ``ordered``.
        """
        if not locations:
            raise NoImageData("the image has no data")
        for number, location in enumerate(self.likely(locations), 1):
            try:
                return use(self[location.store].store, location.key)
            except StoreError:
                if number == len(locations):
                    raise
        raise AssertionError("unreachable")

    def likely(self, locations: Sequence[Location]) -> tuple[Location, ...]:
        """Return the locations with those last whose store was seen away just now."""

        def away(location: Location) -> bool:
            mount = self._mounts.get(location.store)
            return mount is not None and mount.store.avoided

        return tuple(sorted(locations, key=away))

    def read(
        self,
        locations: Sequence[Location],
        offset: int = 0,
        length: int | None = None,
        *,
        size: int | None = None,
    ) -> Iterator[bytes]:
        """Return ``length`` bytes of an image from ``offset`` on, to the end for None.

        ``size`` is the image's. The locations are copies of the same bytes:
        where one fails in the middle, or has fewer bytes than it should,
        another goes on from the same byte.
        """
        if not locations:
            raise NoImageData("the image has no data")
        if length is None and size is not None:
            length = size - offset
        return Continued([self._copy(each, size) for each in self.likely(locations)], offset, length)

    def _copy(self, location: Location, size: int | None) -> Copy:
        mount = self._mounts.get(location.store)
        ranged = mount is None or Cap.RANGE in mount.store.capabilities

        def read(offset: int, length: int | None) -> Iterator[bytes]:
            store = self[location.store].store
            if not offset and length in (None, size):
                return store.read(location.key)
            if ranged:
                return store.read(location.key, offset=offset, length=length)
            return Part(store.read(location.key), offset, sys.maxsize if length is None else length)

        return Copy(location.store, read, ranged)

    def local_path(self, locations: Sequence[Location], size: int | None = None) -> Path | None:
        """Return a local file holding the data, if some location has one.

        Of those that have the weight of the first. A file of another ``size``
        isn't the image's.
        """
        for location in locations:
            if self._weight(location) != self._weight(locations[0]):
                break
            try:
                store = self[location.store].store
                if Cap.LOCAL in store.capabilities:
                    path = store.local_path(location.key)
                    if size is None or path.stat().st_size == size:
                        return path
            except (StoreError, OSError):
                continue
        return None


def _mount(store_id: str, store: Store, options: MountOptions | None) -> Mount:
    told = options or MountOptions()
    return Mount(
        store_id,
        MountedStore(store, store_id=store_id),
        told.description,
        read_only=told.read_only or Cap.WRITE not in store.capabilities,
        weight=told.weight,
        type=told.type or next(iter(store.schemes), ""),
    )


class ImageFile(io.RawIOBase):
    """An image's data as a seekable, read-only binary file.

    Reads are served from one window of at most 8 MiB, so memory is flat. A
    store without RANGE is read forward; seeking back starts it over.
    """

    def __init__(self, mounts: MountTable, locations: Sequence[Location], size: int, name: str = "") -> None:
        super().__init__()
        self.name = name
        self.size = size
        self._mounts = mounts
        self._locations = tuple(locations)
        self._position = 0
        self._start = 0  # where the window begins
        self._data = b""
        self._window = FIRST_WINDOW
        self._stream: Iterator[bytes] | None = None  # only without RANGE
        mounts.first(self._locations, lambda store, key: store.stat(key))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError(f"invalid whence {whence}")
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to ``size`` bytes, all to the end for -1 or None."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        end = self.size if size is None or size < 0 else min(self.size, self._position + size)
        parts = []
        while self._position < end:
            part = self._peek(end)
            parts.append(part)
            self._position += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        with memoryview(buffer).cast("B") as view:
            part = self.read(len(view))
            view[: len(part)] = part
        return len(part)

    def close(self) -> None:
        if not self.closed:
            self._drop_stream()
            self._data = b""
        super().close()

    def _peek(self, end: int) -> bytes:
        """Return bytes from the position on, at least one, none behind ``end``."""
        if not self._start <= self._position < self._start + len(self._data):
            self._fill()
        at = self._position - self._start
        return self._data[at : at + end - self._position]

    def _fill(self) -> None:
        goes_on = bool(self._data) and self._position == self._start + len(self._data)
        self._window = min(self._window * 2, LARGEST_WINDOW) if goes_on else FIRST_WINDOW
        length = min(self._window, self.size - self._position)
        if self._ranged():
            self._data = b"".join(self._mounts.read(self._locations, self._position, length, size=self.size))
            self._start = self._position
        else:
            self._advance()

    def _ranged(self) -> bool:
        mounted = {mount.id: mount.store.capabilities for mount in self._mounts}
        return all(Cap.RANGE in mounted.get(each.store, Cap.RANGE) for each in self._locations)

    def _advance(self) -> None:
        """Move the window of a forward-only store to the position."""
        if self._stream is None or self._position < self._start:
            self._drop_stream()
            self._stream = self._mounts.read(self._locations, size=self.size)
            self._start, self._data = 0, b""
        while self._position >= self._start + len(self._data):
            self._start += len(self._data)
            # Who ends early raises, so there is a next block.
            self._data = next(self._stream)

    def _drop_stream(self) -> None:
        if self._stream is not None:
            close = getattr(self._stream, "close", None)
            if close is not None:
                close()
            self._stream = None
