"""What stands for a store whose driver can't be used.

A server goes on with its other stores. This one is mounted under its id, so
that whoever asks for it is told why it doesn't work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from glancelike.errors import StoreFault
from glancelike.stores.base import BlobInfo, Cap, Source, Store


class BrokenStore(Store):
    """Raise StoreFault with ``reason`` from every call; see ``broken_store``."""

    # Nobody knows what the driver can do. What callers ask of a store must be
    # answered with the reason, not with "the store is read-only"; what goes
    # through all stores by itself, as gc does, leaves this one alone.
    capabilities = Cap.RANGE | Cap.WRITE | Cap.UNKNOWN_SIZE | Cap.DELETE
    reason: ClassVar[str] = "the driver is broken"

    def open(self) -> None:
        raise StoreFault(self.reason)

    def stat(self, key: str) -> BlobInfo:
        raise StoreFault(self.reason)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        raise StoreFault(self.reason)

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        raise StoreFault(self.reason)

    def delete(self, key: str) -> None:
        raise StoreFault(self.reason)


def broken_store(why: str) -> type[BrokenStore]:
    """Return the class of a store that can't be used because of ``why``."""
    return type("BrokenStore", (BrokenStore,), {"reason": why})
