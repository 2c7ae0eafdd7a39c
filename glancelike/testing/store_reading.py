"""Conformance: keys, stat, read, ranges, and closing."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import threading
import time

import pytest

from glancelike.errors import (
    BlobNotFound,
    InvalidKey,
    InvalidRange,
    StoreError,
)
from glancelike.stores.base import BlobInfo, Cap, Store
from glancelike.stores.guard import Guard
from glancelike.testing.sources import WatchedSource, payload
from glancelike.testing.store_kit import MIB, AnyStore, StoreKit, clause, close, refusal

LARGEST_BLOCK = 8 * MIB
# offset, length, in a blob of 2 MiB + 5: first and last bytes, block borders, cut at the end.
SPANS: list[tuple[int, int | None]] = [
    (0, 1),
    (0, None),
    (1, None),
    (0, 2 * MIB + 5),
    (0, 3 * MIB),
    (MIB - 1, 2),
    (MIB, MIB),
    (MIB + 1, 10),
    (2 * MIB + 4, 1),
    (2 * MIB + 4, None),
    (2 * MIB + 4, 100),
    (2 * MIB, 1 << 40),
]
# What no store can hold: not flat, not ASCII, or something else to a shell, a URL or a file system.
NO_KEYS = [
    *("", "/a", "a/", "a//b", "..", "a/../b", ".a", "a/.b", "-a", "~a", "a b", "a\n", "a\0b", "a" * 256),
    *("é", "ключ", "a\u0301", "\uff41", "\u212a", "a\u202eb", "\u0663", "\U0001f600"),
    *("%41", "a%2Fb", "a%00", "a?b", "a#b", "a\\b", "a+b", "a:b", "a*b", "a,b", "{a}"),
]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - Path.iterdir() would hold one open


class Reading(StoreKit):
    """Tests of the clauses 4, 5, 7, 8, 9 and of the looking capabilities."""

    def test_driver_is_never_falsy(self, bare: Store) -> None:
        assert bool(bare) is True, clause(8, "bool(driver) is False")

    def test_missing_blob(self, store: AnyStore) -> None:
        key = self.key("missing")
        caps = self.driver.capabilities
        self.check_absent(store, key, 7, "of a missing key")
        if Cap.DELETE in caps:
            with refusal(7, BlobNotFound, "delete() of a missing key"):
                store.delete(key)
        if Cap.COPY in caps:
            with refusal(7, BlobNotFound, "copy() of a missing key"):
                store.copy(key, self.key("target"))

    def test_deleted_blob(self, store: AnyStore) -> None:
        self.needs(Cap.DELETE)
        key = self.seeded(b"short-lived")
        store.delete(key)
        self.check_absent(store, key, 7, "after delete()")
        with refusal(7, BlobNotFound, "the second delete()"):
            store.delete(key)

    @pytest.mark.parametrize("size", [0, 1, 4095, MIB, 2 * MIB + 5, LARGEST_BLOCK + 1])
    def test_stat_and_read(self, store: AnyStore, size: int) -> None:
        data = payload(size)
        key = self.seeded(data)
        info = store.stat(key)
        assert isinstance(info, BlobInfo), clause(1, f"stat() returned {info!r}")
        assert (info.key, info.size) == (key, size), clause(1, f"stat() of {size} bytes returned {info!r}")
        if info.modified is not None:
            assert info.modified.tzinfo is not None, clause(1, "BlobInfo.modified has no time zone")
        blocks = store.read(key)
        read = list(blocks)
        close(blocks)
        assert all(isinstance(block, bytes) for block in read), clause(4, "read() must give bytes")
        largest = max(map(len, read), default=0)
        assert largest <= LARGEST_BLOCK, clause(6, f"read() gave a block of {largest} bytes")
        assert b"".join(read) == data, clause(1, f"{size} bytes came back otherwise")

    def test_read_raises_at_the_call(self, store: AnyStore) -> None:
        with refusal(4, BlobNotFound, "read() of a missing key, before the first next(),"):
            store.read(self.key("missing"))
        if Cap.RANGE in self.driver.capabilities:
            key = self.seeded(b"0123456789")
            with refusal(4, InvalidRange, "read(offset=10) of 10 bytes, before the first next(),"):
                store.read(key, offset=10)

    @pytest.mark.parametrize(
        "name",
        [
            "a",
            "A",
            "0",
            "a.b-c_d",
            "a" * 255,
            "a/b",
            "a/b/c",
            f"{'d' * 200}/{'e' * 200}",
            "x..y/z--",
            "a.tmp",
        ],
    )
    def test_every_valid_key(self, store: AnyStore, name: str) -> None:
        self.needs(Cap.WRITE)
        # Unique, and yet just as long where the length is the point.
        unique = self.key("k")
        key = self.own(name if len(name) == 255 else f"{unique}/{name}")
        with contextlib.suppress(StoreError):
            self.driver.delete(key)
        data = payload(100, seed=len(name))
        store.write(key, WatchedSource(data), size=100)
        self.check_content(store, key, data, 1, f"the key {key!r} doesn't hold what was written")
        if Cap.LIST in self.driver.capabilities:
            assert [info.key for info in store.list(key)] == [key], clause(Cap.LIST, f"{key!r} isn't listed")

    def test_longest_key(self, store: AnyStore) -> None:
        key = self.seeded(b"x", "k" * (255 - 37) + "/" + "l" * 255)
        self.check_content(store, key, b"x", 1, f"a key of {len(key)} characters isn't found")

    def test_keys_are_flat(self, store: AnyStore) -> None:
        self.needs(Cap.WRITE)
        upper = self.key("X")
        keys = [
            upper,
            self.own(upper[:-1] + "x"),
            self.own(f"{upper}/below"),
            self.own(f"{upper}/below/that"),
        ]
        for key in [*keys[:2], *reversed(keys[2:])]:
            store.write(key, WatchedSource(key.encode()), size=None if self._unknown else len(key))
        for key in keys:
            said = f"the keys {upper!r}, its lower case and {upper!r}/… must not touch one another"
            self.check_content(store, key, key.encode(), 1, said)

    @property
    def _unknown(self) -> bool:
        return Cap.UNKNOWN_SIZE in self.driver.capabilities

    @pytest.mark.parametrize("key", NO_KEYS, ids=lambda key: key[:8].encode("unicode_escape").decode())
    def test_guard_refuses_key(self, guard: Guard, key: str) -> None:
        caps = self.driver.capabilities
        for cap, what, call in (
            (Cap.NONE, "stat", lambda: guard.stat(key)),
            (Cap.NONE, "read", lambda: guard.read(key)),
            (Cap.WRITE, "write", lambda: guard.write(key, WatchedSource(b"x"), size=1)),
            (Cap.DELETE, "delete", lambda: guard.delete(key)),
            (Cap.COPY, "copy from", lambda: guard.copy(key, self.key("target"))),
            (Cap.COPY, "copy to", lambda: guard.copy(self.key("source"), key)),
            (Cap.PRESIGN, "presign", lambda: guard.presign(key, "GET", 60)),
            (Cap.LOCAL, "local_path", lambda: guard.local_path(key)),
            (Cap.PARTS, "begin", lambda: guard.begin(key)),
            (Cap.URLS, "url_of", lambda: guard.url_of(key)),
        ):
            if cap in caps:
                with refusal(9, InvalidKey, f"{what} of the key {key!r}"):
                    call()

    def test_ranges(self, store: AnyStore) -> None:
        self.needs(Cap.RANGE)
        size = 2 * MIB + 5
        data = payload(size)
        key = self.seeded(data)
        chance = random.Random(7)
        some = [(chance.randrange(size), chance.choice([None, chance.randrange(1, size)])) for _ in range(20)]
        for offset, length in SPANS + some:
            expected = data[offset:] if length is None else data[offset : offset + length]
            said = f"read(offset={offset}, length={length}) of {size} bytes"
            self.check_content(store, key, expected, Cap.RANGE, said, offset, length)

    def test_ranges_behind_the_end(self, store: AnyStore) -> None:
        self.needs(Cap.RANGE)
        some, empty = self.seeded(b"0123456789"), self.seeded(b"")
        for key, offset in ((some, 10), (some, 11), (some, 1 << 40), (empty, 1)):
            for length in (None, 1):
                with refusal(Cap.RANGE, InvalidRange, f"offset {offset} at or behind the end"):
                    store.read(key, offset=offset, length=length)
        self.check_content(store, empty, b"", Cap.RANGE, "offset 0 of no bytes", 0, 5)

    def test_closing_releases_everything(self, store: AnyStore) -> None:
        key = self.seeded(payload(5 * MIB))

        def unread() -> None:
            close(store.read(key))

        def begun() -> None:
            blocks = store.read(key)
            next(blocks)
            close(blocks)
            close(blocks)

        def exhausted() -> None:
            self.content(store, key)

        for use in (unread, begun, exhausted):
            use()  # what a pool keeps open for good is there after the first time
            gc.collect()
            files, threads = descriptors(), threading.active_count()
            for _ in range(12):
                use()
            deadline = time.monotonic() + self.patience / 4
            while True:
                left, running = descriptors() - files, threading.active_count() - threads
                if left < 4 and running < 4:
                    break
                said = f"12 closed reads ({use.__name__}) left {left} descriptors, {running} threads"
                assert time.monotonic() < deadline, clause(5, said)
                time.sleep(0.05)

    def test_closed_iterator_ends(self, store: AnyStore) -> None:
        key = self.seeded(payload(3 * MIB))
        blocks = store.read(key)
        next(blocks)
        close(blocks)
        with refusal(5, StopIteration, "next() of a closed iterator"):
            next(blocks)

    def test_delete_during_read(self, guard: Guard) -> None:
        self.needs(Cap.DELETE)
        data = payload(6 * MIB)
        key = self.seeded(data)
        blocks = guard.read(key)
        got = next(blocks)
        guard.delete(key)
        with contextlib.suppress(StoreError):
            for block in blocks:
                got += block
            assert got == data, clause(1, "a read during delete() ended early without an error")
        blocks.close()
