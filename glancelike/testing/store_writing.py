"""Conformance: what a write leaves, in peace, under a race and when the source fails."""

from __future__ import annotations

import gc
import threading
import time
from functools import partial

import pytest

from glancelike.errors import BlobExists, BlobNotFound, SizeMismatch
from glancelike.stores.base import Cap, Store
from glancelike.stores.guard import Guard
from glancelike.testing.sources import SeekableSource, WatchedSource, payload
from glancelike.testing.store_kit import MIB, AnyStore, StoreKit, Task, clause, refusal
from glancelike.testing.store_reading import descriptors

WRITERS = 8
# More than one part of any backend with multipart upload has to be.
LARGE = 9 * MIB + 3


class Cancelled(BaseException):
    """Stand for what isn't an Exception: an interrupt, a cancelled request."""


class ClientGone(Exception):
    """Stand for a source's own error."""


SOURCE_ERRORS: list[BaseException] = [
    ClientGone("the peer is away"),
    Cancelled("the request is cancelled"),
    # These mean something else when a driver's own system call raises them.
    FileNotFoundError(2, "the source's file is gone"),
    FileExistsError(17, "the source's file exists"),
    OSError(28, "the source's disk is full"),
    BlobNotFound("the source's store lacks the blob", store="other", key="theirs"),
    KeyError("source"),
]


class Writing(StoreKit):
    """Tests of the clauses 1, 2, 3, 6 and 8 for ``write``."""

    @pytest.mark.parametrize("known", [True, False], ids=["sized", "unsized"])
    @pytest.mark.parametrize("steps", [(1,), (1, 7, 4096, 65_537), (MIB,), ()], ids=str)
    def test_short_blocks(self, store: AnyStore, steps: tuple[int, ...], known: bool) -> None:
        self.needs(Cap.WRITE, *(() if known else (Cap.UNKNOWN_SIZE,)))
        for size in (0, 1, 3000 if steps == (1,) else 2 * MIB + 1):
            data = payload(size, seed=len(steps))
            key = self.put(store, WatchedSource(data, steps=steps), size if known else None)
            said = f"a source that returns {steps or 'full'} bytes at a time was stored otherwise"
            self.check_content(store, key, data, 6, said)

    def test_source_is_never_sought(self, bare: Store) -> None:
        self.needs(Cap.WRITE)
        data = payload(MIB + 1)
        key = self.put(bare, SeekableSource(data), len(data))
        self.check_content(bare, key, data, 6, "a source that could be sought was stored otherwise")

    def test_partial_is_invisible(self, store: AnyStore) -> None:
        self.needs(Cap.WRITE)
        key, other = self.key(), self.seeded(b"something else")
        half, go_on = threading.Event(), threading.Event()

        def wait(at: int) -> None:
            if at >= LARGE // 2 and not half.is_set():
                half.set()
                go_on.wait(self.patience)

        source = WatchedSource(payload(LARGE), steps=[MIB], hook=wait)
        task = Task(lambda: store.write(key, source, size=LARGE))
        try:
            assert half.wait(self.patience), clause(6, "the driver doesn't read on")
            look = Task(lambda: self.check_absent(store, key, 1, "while it is being written"))
            look.result(self.patience)
            read = Task(lambda: self.content(store, other))
            assert read.result(self.patience) == b"something else"
        except TimeoutError:
            pytest.fail(clause(8, "a slow write keeps other threads from looking at the store"))
        finally:
            go_on.set()
            task.result(self.patience)
        self.check_content(store, key, payload(LARGE), 1, "a slow source was stored otherwise")

    @pytest.mark.parametrize("error", SOURCE_ERRORS, ids=lambda error: type(error).__name__)
    @pytest.mark.parametrize("fail_at", [0, 10, LARGE - 1], ids=["first", "early", "late"])
    def test_source_raises(self, store: AnyStore, fail_at: int, error: BaseException) -> None:
        self.needs(Cap.WRITE)
        key = self.key()
        before = (error.args, vars(error).copy())
        source = WatchedSource(payload(LARGE), fail_at=fail_at, error=error)
        self._raises(lambda: store.write(key, source, size=LARGE), error)
        assert (error.args, vars(error)) == before, clause(2, f"{error!r} was changed on its way")
        assert not source.faults, clause(2, "; ".join(source.faults))
        self.check_absent(store, key, 2, f"after the source had raised at {fail_at}")
        store.write(key, WatchedSource(b"second try"), size=10)
        self.check_content(store, key, b"second try", 2, "the key can't be used again")

    def test_source_raises_at_the_end(self, store: AnyStore) -> None:
        self.needs(Cap.WRITE, Cap.UNKNOWN_SIZE)
        key, error = self.key(), ClientGone("just before the end")
        source = WatchedSource(payload(MIB), fail_at=MIB, error=error)
        self._raises(lambda: store.write(key, source, size=None), error)
        self.check_absent(store, key, 2, "after the source had raised instead of ending")

    def test_failed_writes_leave_nothing(self, store: AnyStore) -> None:
        self.needs(Cap.WRITE)

        def fail() -> None:
            source = WatchedSource(payload(MIB), fail_at=MIB // 2, error=ClientGone("again"))
            with pytest.raises(ClientGone):
                store.write(self.key(), source, size=MIB)

        fail()
        gc.collect()
        files, threads = descriptors(), threading.active_count()
        used = store.usage().used if Cap.USAGE in self.driver.capabilities else 0
        for _ in range(12):
            fail()
        deadline = time.monotonic() + self.patience / 4
        while descriptors() > files + 3 or threading.active_count() > threads + 3:
            assert time.monotonic() < deadline, clause(2, "failed writes leave descriptors or threads")
            time.sleep(0.05)
        if Cap.USAGE in self.driver.capabilities:
            assert store.usage().used <= used, clause(2, "failed writes use up the store")

    @pytest.mark.parametrize("real", [0, 1, MIB, LARGE - 1, LARGE + 1, LARGE + MIB])
    def test_source_of_another_size(self, guard: Guard, real: int) -> None:
        self.needs(Cap.WRITE)
        key = self.key()
        with refusal(2, SizeMismatch, f"write(size={LARGE}) of {real} bytes"):
            guard.write(key, WatchedSource(payload(real)), size=LARGE)
        self.check_absent(guard, key, 2, "after a source of another size than declared")

    def test_source_longer_than_nothing(self, guard: Guard) -> None:
        self.needs(Cap.WRITE)
        key = self.key()
        with refusal(2, SizeMismatch, "write(size=0) of a byte"):
            guard.write(key, WatchedSource(b"x"), size=0)
        self.check_absent(guard, key, 2, "after a source of another size than declared")

    def test_existing_is_kept(self, store: AnyStore) -> None:
        self.needs(Cap.WRITE)
        for old in (b"the old bytes", b""):
            key = self.seeded(old)
            for new in (b"the new ones", b""):
                with refusal(3, BlobExists, "write() to an existing key"):
                    store.write(key, WatchedSource(new), size=len(new))
            if Cap.UNKNOWN_SIZE in self.driver.capabilities:
                with refusal(3, BlobExists, "write(size=None) to an existing key"):
                    store.write(key, WatchedSource(b"unsized"), size=None)
            self.check_content(store, key, old, 3, "write() replaced the old bytes")

    def test_race_of_writers(self, store: AnyStore) -> None:
        self.needs(Cap.WRITE)
        for size in (10, 2 * MIB):
            self._race(store, self.key(), size)

    def _race(self, store: AnyStore, key: str, size: int) -> None:
        line = threading.Barrier(WRITERS)

        def together(at: int) -> None:
            # All have found the key absent by now. A driver that reserves the key lets
            # only one come here, and that one goes on alone.
            if at == 0:
                try:
                    line.wait(1)
                except threading.BrokenBarrierError:
                    return

        def write(number: int) -> bool:
            source = WatchedSource(payload(size, seed=number), hook=together)
            try:
                store.write(key, source, size=size)
            except BlobExists:
                return False
            return True

        tasks = [Task(partial(write, number)) for number in range(WRITERS)]
        try:
            won = [number for number, task in enumerate(tasks) if task.result(self.patience)]
        except Exception as error:
            pytest.fail(clause(3, f"a loser of the race must get BlobExists, it got {error!r}"))
        assert len(won) == 1, clause(3, f"{len(won)} of {WRITERS} racing writers believe they have won")
        said = "the blob isn't the one of the writer that won the race"
        self.check_content(store, key, payload(size, seed=won[0]), 3, said)
