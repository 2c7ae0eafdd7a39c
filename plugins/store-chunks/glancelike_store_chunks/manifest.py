"""Manifests: which chunks a blob is made of. The format, version 1.

All numbers are big-endian and unsigned::

    8   "glchunk1"
    8   size of the blob in bytes
    8   number of records
    2   length of the key in bytes, then the key, in ASCII
    44  each record: 8 where its bytes end in the blob
                     4 the generation and
                    32 the SHA-256 of the chunk; both zero: a run of zero bytes, stored nowhere

Records are of one size and say where they end, so the one that an offset
lies in is found by a few reads, however long the manifest is. It says all
that reading needs: how it was cut, and by which options, doesn't matter.
A blob of 5 TiB, in chunks of 1.25 MiB, has a manifest of some 180 MiB.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import NamedTuple, Self

from glancelike.errors import InvalidRange, StoreFault
from glancelike_store_chunks.chunks import HOLE, ChunkId
from glancelike_store_chunks.lower import Lower
from glancelike_store_chunks.sessions import PACKED

_MAGIC = b"glchunk1"
_HEAD = struct.Struct(">8sQQH")
_RECORD = struct.Struct(">QI32s")
PAGE = 1024  # records read at once
HEAD_READ = 1024  # the head, however long the key is
FIRST_READ = 16 * 1024  # the head, and all of the manifest of a blob up to some 400 MiB


class Piece(NamedTuple):
    """A chunk, or a hole, and which bytes of the blob it is."""

    start: int
    end: int
    chunk: ChunkId


class Draft:
    """A manifest in the making; long ones are on the local disk, in the temporary directory."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115 - closed by __exit__
        self._count = 0
        self._hole = False  # the last record, not yet written, is one
        self._head = b""
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, chunk: ChunkId, size: int) -> None:
        """Add what comes next; adjacent holes become one."""
        if self._hole and chunk != HOLE:
            self._write(HOLE)
        self.size += size
        self._hole = chunk == HOLE
        if not self._hole:
            self._write(chunk)

    def finish(self, key: str) -> tuple[Draft, int]:
        """Add the head; return the manifest as a source, and its length in bytes."""
        if self._hole:
            self._write(HOLE)
            self._hole = False
        name = key.encode()
        self._head = _HEAD.pack(_MAGIC, self.size, self._count, len(name)) + name
        self._file.seek(0)
        return self, len(self._head) + self._count * _RECORD.size

    def read(self, size: int, /) -> bytes:
        """Return the head, then the records; for the store below."""
        block, self._head = self._head[:size], self._head[size:]
        return block or self._file.read(size)

    def _write(self, chunk: ChunkId) -> None:
        self._file.write(_RECORD.pack(self.size, chunk.generation, chunk.digest))
        self._count += 1


class Manifest:
    """A published manifest, read piece by piece."""

    def __init__(self, lower: Lower, name: str, *, first_read: int = FIRST_READ) -> None:
        """Read the beginning; raise BlobNotFound, or StoreFault for what is no manifest."""
        self._lower = lower
        self.name = name
        self._first = lower.read(name, length=first_read)
        try:
            magic, self.size, self.count, length = _HEAD.unpack_from(self._first)
            self._base = _HEAD.size + length
            self.key = self._first[_HEAD.size : self._base].decode("ascii")
        except (struct.error, UnicodeDecodeError):
            magic = b""
        if magic != _MAGIC:
            self._damaged("it's no manifest of version 1")
        if not self.count and self.size:
            self._damaged("it lists nothing")

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """Yield the pieces that hold the bytes from ``start`` to before ``end``."""
        if start >= end:
            return
        number, before = self._find(start)
        while before < end:
            if number >= self.count:
                self._damaged("it ends before the blob")
            for at, chunk in self._page(number, min(self.count, number + PAGE)):
                if at <= before:
                    self._damaged("its offsets don't rise")
                yield Piece(before, at, chunk)
                before = at
                if before >= end:
                    return
            number += PAGE

    def packed(self) -> Iterator[bytes]:
        """Yield the packed ids of all chunks, not of holes."""
        for first in range(0, self.count, PAGE):
            data = self._bytes(first, min(self.count, first + PAGE))
            for at in range(0, len(data), _RECORD.size):
                generation, digest = data[at + 8 : at + 12], data[at + 12 : at + 12 + PACKED - 4]
                if digest != HOLE.digest:
                    yield digest + generation

    def _find(self, offset: int) -> tuple[int, int]:
        """Return the number of the record that ``offset`` lies in, and where that begins."""
        # The record is among low..high-1, which hold the bytes from floor to ceiling.
        low, high, floor, ceiling = 0, self.count, 0, self.size
        halve = False
        while low < high:
            # Chunks are about equally long, so a guess is close. Holes aren't: halving bounds the steps.
            share = 0.5 if halve else (offset - floor) / max(1, ceiling - floor)
            halve = not halve
            first = min(max(low, low + int((high - low) * share) - PAGE // 2), max(low, high - PAGE))
            ends = [end for end, _chunk in self._page(first, min(high, first + PAGE))]
            inside = bisect_right(ends, offset)
            if inside == len(ends):
                low, floor = first + len(ends), ends[-1]
            elif inside:
                return first + inside, ends[inside - 1]
            elif first == low:
                return first, floor
            else:
                high, ceiling = first + 1, ends[0]
        raise self._damage("its offsets don't rise")

    def _page(self, first: int, end: int) -> Iterator[tuple[int, ChunkId]]:
        for at, generation, digest in _RECORD.iter_unpack(self._bytes(first, end)):
            yield at, ChunkId(digest, generation)

    def _bytes(self, first: int, end: int) -> bytes:
        start, stop = (self._base + number * _RECORD.size for number in (first, end))
        if stop <= len(self._first):
            return self._first[start:stop]
        try:
            data = self._lower.read(self.name, start, stop - start)
        except InvalidRange:
            data = b""
        if len(data) != stop - start:
            self._damaged("it's cut short")
        return data

    def _damaged(self, why: str) -> None:
        raise self._damage(why)

    def _damage(self, why: str) -> StoreFault:
        return StoreFault(f"manifest {self.name!r} in store {self._lower.id!r} is damaged: {why}")
