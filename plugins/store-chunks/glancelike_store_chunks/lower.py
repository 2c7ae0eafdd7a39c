"""The store below, in the few calls that this driver makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from glancelike.errors import StoreError
from glancelike.stores.base import BlobInfo, Cap, Source
from glancelike.stores.guard import Guard


class Lower:
    """Call the store below; its errors keep their class and say whose they are.

    A key of the store below means nothing to whoever named a blob here, so
    it goes into the message instead of the error's ``key``.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    @property
    def id(self) -> str:
        return self._guard.id

    def stat(self, name: str) -> BlobInfo:
        with _lifted():
            return self._guard.stat(name)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return all of a span, so ask for little; raise BlobNotFound, InvalidRange."""
        with _lifted(), self._guard.read(name, offset=offset, length=length) as blocks:
            return b"".join(blocks)

    def write(self, name: str, data: bytes | bytearray) -> None:
        self.write_from(name, _Bytes(data), len(data))

    def write_from(self, name: str, source: Source, size: int) -> None:
        """Store what one of this driver's own sources gives; raise BlobExists."""
        with _lifted():
            self._guard.write(name, source, size=size)

    def delete(self, name: str) -> None:
        with _lifted():
            self._guard.delete(name)

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        with _lifted():
            yield from self._guard.list(prefix)

    def free(self) -> int | None:
        """Tell the bytes that are free, None where the store below can't."""
        if Cap.USAGE not in self._guard.capabilities:
            return None
        with _lifted():
            return self._guard.usage().free


class _Bytes:
    """Bytes in memory as a source, copied no more than a block at a time."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = data
        self._at = 0

    def read(self, size: int, /) -> bytes:
        # No view of the data is kept: its owner may want to give it another length.
        block = bytes(memoryview(self._data)[self._at : self._at + size])
        self._at += len(block)
        return block


@contextmanager
def _lifted() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise type(error)(f"in the store below: {error}") from error
