"""The store contract, over a directory and over memory."""

from __future__ import annotations

from glancelike_store_chunks import ChunkStore

from glancelike.stores.base import Store
from glancelike.stores.file import FileStore
from glancelike.stores.memory import MemoryStore
from glancelike.testing import StoreConformance


class TestByContent(StoreConformance):
    variants = ("bare",)
    spawnable = True
    many_keys = 1_000

    def backend(self) -> str:
        return "a file store"

    def make_below(self) -> Store:
        # What is synced to the disk, and when, is the store below's affair.
        return FileStore(
            {"filesystem_store_datadir": str(self.tmp_path / "below"), "filesystem_store_fsync": False}
        )

    def make_store(self) -> Store:
        return ChunkStore({"chunk_store_over": "below"})


class TestFixed(TestByContent):
    many_keys = 300

    def make_store(self) -> Store:
        return ChunkStore({"chunk_store_over": "below", "chunk_store_method": "fixed"})


class TestOverMemory(StoreConformance):
    variants = ("bare",)
    many_keys = 300

    def make_below(self) -> Store:
        return MemoryStore()

    def make_store(self) -> Store:
        return ChunkStore({"chunk_store_over": "below"})
