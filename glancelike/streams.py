"""Iterators of blocks turned into what others want of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Self

from glancelike.errors import DataMismatch


def close(blocks: Iterator[bytes] | None) -> None:
    """Have an iterator of blocks release what it holds."""
    release = getattr(blocks, "close", None)
    if release is not None:
        release()


class ChunkSource:
    """An iterator of blocks as a Source; ``open_chunks`` is called at the first read."""

    def __init__(self, open_chunks: Callable[[], Iterator[bytes]]) -> None:
        self._open = open_chunks
        self._chunks: Iterator[bytes] | None = None
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, empty at the end."""
        if self._chunks is None:
            self._chunks = self._open()
        while not self._rest:
            block = next(self._chunks, b"")
            if not block:
                return b""
            self._rest = memoryview(block)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)

    def close(self) -> None:
        """Release what the iterator holds."""
        close(self._chunks)


class Part:
    """``length`` bytes from ``offset`` on of a stream that can only be read forward.

    Not a generator: closing one that was never advanced runs none of its code.
    """

    def __init__(self, blocks: Iterator[bytes], offset: int, length: int) -> None:
        self._blocks = blocks
        self._skip = offset
        self._left = length

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        while self._left:
            block = next(self._blocks)
            if len(block) <= self._skip:
                self._skip -= len(block)
                continue
            block = block[self._skip : self._skip + self._left]
            self._skip = 0
            self._left -= len(block)
            return block
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Release the stream."""
        self._left = 0
        close(self._blocks)


class Verified:
    """Blocks whose digest is compared at their end.

    The last block is held back until the digest turned out right, so who
    was told the length can't take the wrong data for complete. Raises
    DataMismatch.
    """

    def __init__(self, blocks: Iterator[bytes], algorithm: str, value: str) -> None:
        self._blocks = blocks
        self._digest = hashlib.new(algorithm, usedforsecurity=False)
        self._value = value
        self._held: bytes | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        while True:
            block = next(self._blocks, None)
            held, self._held = self._held, block
            if block is None:
                return self._last(held)
            self._digest.update(block)
            if held is not None:
                return held

    def _last(self, held: bytes | None) -> bytes:
        if self._digest.hexdigest() != self._value.lower():
            raise DataMismatch(f"the data's {self._digest.name} isn't what the record says")
        if held is None:
            raise StopIteration
        return held

    def close(self) -> None:
        """Release what the iterator holds."""
        close(self._blocks)
