"""Iterators of blocks turned into what others want of them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from glancelike.errors import DataMismatch, GlancelikeError, StoreError, StoreFault

LOG = logging.getLogger(__name__)


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


@dataclass(frozen=True, slots=True)
class Copy:
    """One of several copies of the same bytes.

    ``open(offset, length)`` returns an iterator over a stretch of it, to the
    end for None. ``ranged``: what is before the stretch needn't be read.
    """

    name: str
    open: Callable[[int, int | None], Iterator[bytes]]
    ranged: bool = True


class Continued:
    """A stretch of bytes of which there are copies, from the first copy that works.

    When a copy fails in the middle, or ends early, reading goes on in
    another from the same byte; each is used once at most. Fails at the call
    where none can be opened, with an error that is worth a retry if any
    copy's is, else with the last one's.
    """

    def __init__(self, copies: Iterable[Copy], offset: int, length: int | None) -> None:
        self._left = list(copies)
        self._at = offset
        self._end = None if length is None else offset + length
        self._worst: StoreError | None = None
        self._name = ""
        self._blocks: Iterator[bytes] | None = self._open_next()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        while self._blocks is not None:
            try:
                block = self._checked(next(self._blocks, None))
            except StoreError as error:
                self._drop()
                if self._at == self._end:
                    if isinstance(error, StoreFault):
                        raise  # there is more than there should be: who knows whether that was right
                    break  # all has come, whatever became of the store behind the last byte
                self._note(error)
                self._blocks = self._open_next()
                continue
            if block is None:
                break
            self._at += len(block)
            return block
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Release what the copy in use holds; nothing more comes."""
        blocks, self._blocks = self._blocks, None
        self._left.clear()
        close(blocks)

    def _checked(self, block: bytes | None) -> bytes | None:
        if self._end is not None:
            if block is None and self._at < self._end:
                raise StoreFault(f"the data in store {self._name!r} ends at byte {self._at} of {self._end}")
            if block is not None and self._at + len(block) > self._end:
                raise StoreFault(f"the data in store {self._name!r} goes on behind byte {self._end}")
        return block

    def _open_next(self) -> Iterator[bytes]:
        while self._left:
            if self._at:
                self._left.sort(key=lambda copy: not copy.ranged)
            copy = self._left.pop(0)
            self._name = copy.name
            try:
                return copy.open(self._at, None if self._end is None else self._end - self._at)
            except StoreError as error:
                self._note(error)
        assert self._worst is not None  # noqa: S101 - there was at least one copy
        raise self._worst

    def _note(self, error: StoreError) -> None:
        if self._left:
            LOG.warning("reading goes on in another store at byte %d: %s", self._at, error)
        if self._worst is None or error.retryable or not self._worst.retryable:
            self._worst = error

    def _drop(self) -> None:
        blocks, self._blocks = self._blocks, None
        with suppress(GlancelikeError):
            close(blocks)
