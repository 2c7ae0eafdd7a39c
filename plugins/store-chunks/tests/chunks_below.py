"""Stores to stack on, with what the tests have to see or to hold up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from glancelike_store_chunks import ChunkStore

from glancelike.model import utcnow
from glancelike.stores.base import BlobInfo, Source
from glancelike.stores.file import FileStore
from glancelike.stores.guard import Guard

# Small, so that a few kilobytes are many chunks.
SMALL = {
    "chunk_store_over": "below",
    "chunk_store_min_size": 1024,
    "chunk_store_avg_size": 4096,
    "chunk_store_max_size": 16384,
}


class HookedStore(FileStore):
    """Call ``hook`` with the name of each call and its key, before it's made."""

    hook: Callable[[str, str], None] | None = None

    def _told(self, call: str, key: str) -> None:
        if self.hook is not None:
            self.hook(call, key)

    def stat(self, key: str) -> BlobInfo:
        self._told("stat", key)
        return super().stat(key)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self._told("read", key)
        return super().read(key, offset=offset, length=length)

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._told("write", key)
        return super().write(key, source, size=size)

    def delete(self, key: str) -> None:
        self._told("delete", key)
        super().delete(key)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        self._told("list", prefix)
        return super().list(prefix)


def directory(path: Path) -> HookedStore:
    """Open a directory to stack on."""
    below = HookedStore({"filesystem_store_datadir": str(path), "filesystem_store_fsync": False})
    below.open()
    return below


def stacked(below: FileStore, method: str = "cdc", **settings: Any) -> ChunkStore:
    """Open a chunk store with small chunks."""
    store = ChunkStore({**SMALL, "chunk_store_method": method, **settings})
    store.below = Guard(below, store_id="below")
    store.open()
    return store


def dawdle(call: str, key: str) -> None:
    """Wait a little now and then, so that calls of several processes mix."""
    if random.random() < 0.2:
        time.sleep(random.random() * 0.01)


def sweep_all(store: ChunkStore) -> int:
    """Sweep as long after everything."""
    return store.sweep(utcnow() + timedelta(minutes=1))


def names(below: FileStore, prefix: str) -> set[str]:
    return {info.key for info in below.list(prefix)}
