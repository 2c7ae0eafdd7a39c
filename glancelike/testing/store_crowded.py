"""Conformance: many blobs, many writers, and sources that keep one waiting."""

from __future__ import annotations

import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from glancelike.errors import StoreError
from glancelike.stores.base import BlobInfo, Cap, Store
from glancelike.testing.sources import WatchedSource, payload
from glancelike.testing.store_kit import MIB, AnyStore, StoreKit, Task, clause

WRITERS = 6
EACH = 3 * MIB + 1
SMALL = 4096  # bytes of each of many blobs, all together more than LISTING
LISTING = 16 * MIB  # what listing many blobs may take: 1,600 bytes of each of 10,000
PAUSE = 2.0


class Crowded(StoreKit):
    """Tests of LIST and of the clauses 6 and 8 with more than one of everything."""

    def test_many_keys(self, bare: Store) -> None:
        self.needs(Cap.LIST, Cap.WRITE, Cap.DELETE)
        top = self.key("many")
        keys = [self.own(f"{top}/{number:05d}") for number in range(self.many_keys)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: self.seed(key, key.encode().ljust(SMALL)), keys))
        try:
            listed, grown = Task(lambda: _listed(bare, f"{top}/")).result(10 * self.patience)
            one = [info.key for info in bare.list(keys[-1])]
        except TimeoutError:
            pytest.fail(clause(Cap.LIST, f"listing {len(keys)} blobs has no end"))
        finally:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(partial(_deleted, bare), keys))
            self._keys = [key for key in self._keys if not key.startswith(f"{top}/")]
        said = (
            f"{len(keys)} blobs were written, list() gave {len(listed)}, {len(set(listed))} of them distinct"
        )
        assert sorted(listed) == keys, clause(Cap.LIST, said)
        assert one == keys[-1:], clause(Cap.LIST, f"list() of one key among {len(keys)} gave {len(one)}")
        assert grown < LISTING, clause(
            Cap.LIST, f"listing {len(keys)} blobs took {grown // MIB} MiB of memory"
        )

    def test_parallel_writers(self, store: AnyStore) -> None:
        self.needs(Cap.WRITE)
        keys = [self.key(f"writer-{number}") for number in range(WRITERS)]
        line = threading.Barrier(WRITERS)

        def write(number: int) -> None:
            waited: list[int] = []

            def together(at: int) -> None:
                # All are in the midst of their blobs before one goes on.
                if at > MIB and not waited:
                    waited.append(at)
                    line.wait(self.patience)

            source = WatchedSource(payload(EACH, seed=number), steps=[MIB // 2 + number], hook=together)
            try:
                store.write(keys[number], source, size=EACH)
            except BaseException:
                line.abort()
                raise

        tasks = [Task(partial(write, number)) for number in range(WRITERS)]
        for task in tasks:
            try:
                task.result(2 * self.patience)
            except threading.BrokenBarrierError:
                pytest.fail(clause(8, "writers of different keys wait for one another"))
            except (StoreError, TimeoutError) as error:
                pytest.fail(clause(8, f"one of {WRITERS} writers of different keys got {error!r}"))
        for number, key in enumerate(keys):
            said = f"what one of {WRITERS} parallel writers wrote is stored otherwise"
            self.check_content(store, key, payload(EACH, seed=number), 8, said)

    def test_slow_source(self, bare: Store) -> None:
        self.needs(Cap.WRITE)
        data = payload(2 * MIB + 3)
        paused: list[int] = []

        def wait(at: int) -> None:
            if at >= MIB and not paused:
                paused.append(at)
                time.sleep(PAUSE)

        key = self.put(bare, WatchedSource(data, steps=[10_007, 1, 3], hook=wait), len(data))
        self.check_content(bare, key, data, 6, "a source that kept the driver waiting was stored otherwise")


def _listed(store: Store, prefix: str) -> tuple[list[str], int]:
    """Return the keys that ``list`` gives, and by how much the memory grew meanwhile."""
    tracemalloc.start()
    try:
        keys = [_key(info) for info in store.list(prefix)]
        return keys, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _key(info: BlobInfo) -> str:
    return info.key


def _deleted(store: Store, key: str) -> None:
    try:
        store.delete(key)
    except StoreError:
        return
