"""Which blocks of a sparse file are there, on disk: a journal that may end anywhere.

A header says which file it is about, and each record behind it that a run of
blocks is there. A record is written after its data has reached the disk, so
that a crash at any line loses records and never makes one up; a record that was
torn, and all behind it, is cut off by the next open.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

_MAGIC = b"NLJRNL01"
_RUN = struct.Struct("<QII")  # first block, number of blocks, CRC of both
_HEADER_BYTES = len(_MAGIC) + hashlib.sha256().digest_size

Run = tuple[int, int]  # first block and number of blocks


class Journal:
    """The blocks of one file. Not thread-safe: its owner has a lock."""

    def __init__(self, path: Path, blocks: int, about: str) -> None:
        """``about`` tells the file apart from any other that has had its name."""
        self._path = path
        self._blocks = blocks
        self._header = _MAGIC + hashlib.sha256(f"{about}\0{blocks}".encode()).digest()
        self._there = bytearray(blocks)
        self._file = -1
        self._pending: list[Run] = []
        self.missing = blocks

    def open(self) -> None:
        """Read what is told, or begin anew where that isn't about this file."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        told = self._path.read_bytes()
        good = len(self._header)
        if told[:good] != self._header:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, self._header, 0)
        else:
            for first, count in self._runs_in(told[good:]):
                self._mark(first, count)
                good += _RUN.size
            os.ftruncate(self._file, good)
        os.lseek(self._file, 0, os.SEEK_END)

    def close(self) -> None:
        """Close the file; what wasn't committed is forgotten."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def has(self, block: int) -> bool:
        """Tell whether a block is there."""
        return bool(self._there[block])

    def has_all(self, first: int, count: int) -> bool:
        """Tell whether all of a run are there."""
        return self._there.find(0, first, first + count) < 0

    def next_missing(self, start: int) -> int | None:
        """Return the first block from ``start`` on that isn't there."""
        found = self._there.find(0, start)
        return None if found < 0 else found

    def add(self, first: int, count: int) -> None:
        """Take blocks whose data is written, though not on the disk yet."""
        self._mark(first, count)
        if self._pending and sum(self._pending[-1]) == first:
            first, count = self._pending[-1][0], self._pending.pop()[1] + count
        self._pending.append((first, count))

    def take_pending(self) -> list[Run]:
        """Return the runs that aren't on disk; the caller syncs the data and commits them."""
        pending, self._pending = self._pending, []
        return pending

    def commit(self, runs: list[Run]) -> None:
        """Bring runs to the disk whose data is there already."""
        if runs:
            records = b"".join(_RUN.pack(first, count, _crc(first, count)) for first, count in runs)
            while records:
                records = records[os.write(self._file, records) :]
            os.fdatasync(self._file)

    def _mark(self, first: int, count: int) -> None:
        fresh = self._there.count(0, first, first + count)
        self._there[first : first + count] = b"\1" * count
        self.missing -= fresh

    def _runs_in(self, told: bytes) -> Iterator[Run]:
        for at in range(0, len(told) - _RUN.size + 1, _RUN.size):
            first, count, crc = _RUN.unpack_from(told, at)
            if crc != _crc(first, count) or not count or first + count > self._blocks:
                return
            yield first, count


def _crc(first: int, count: int) -> int:
    return zlib.crc32(struct.pack("<QI", first, count) + _MAGIC)
