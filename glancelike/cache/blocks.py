"""Blocks of an entry, or of a file that still grows into one."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Self

from glancelike import streams
from glancelike.cache.directory import is_filled

LOG = logging.getLogger(__name__)

BLOCK = 1 << 20
# Seconds without a new byte after which a reader turns to the store itself.
PATIENCE = 30.0
SHORTEST_NAP = 0.002
LONGEST_NAP = 0.05

# How to read ``length`` bytes from ``offset`` on without the cache.
Direct = Callable[[int, int], Iterator[bytes]]


class CachedBlocks:
    """The bytes from ``offset`` to ``end``; owns the descriptor.

    Where the file stops growing, ``successor`` returns the descriptor of the
    one that grows in its place; with True, as its filler died, it begins to
    fill one itself. Whatever else is wrong with the cache, the rest comes
    from ``direct``: a reader is never worse off than without a cache.
    """

    def __init__(
        self, fd: int, offset: int, end: int, *, successor: Callable[[bool], int | None], direct: Direct
    ) -> None:
        self._fd = fd
        self._at = offset
        self._end = end
        self._successor = successor
        self._direct = direct
        self._rest: Iterator[bytes] | None = None
        self._first: bytes | None = None

    def prime(self) -> Self:
        """Wait for the first block, so that what can fail fails now."""
        try:
            self._first = next(self, None)
        except BaseException:
            self.close()
            raise
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            block, self._first = self._first, None
            return block
        if self._rest is None:
            if self._at >= self._end or self._fd < 0:
                self.close()
                raise StopIteration
            cached = self._read()
            if cached:
                self._at += len(cached)
                return cached
            self._drop_file()
            self._rest = self._direct(self._at, self._end - self._at)
        return next(self._rest)

    def close(self) -> None:
        """Release the file and the stream; safe to call twice."""
        self._drop_file()
        streams.close(self._rest)
        self._rest = iter(())
        self._first = None

    def _drop_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> bytes:
        """Return the next block from the file, waiting for it; b"" when it won't come."""
        try:
            while not (block := os.pread(self._fd, min(BLOCK, self._end - self._at), self._at)):
                if not self._await_growth():
                    return b""
            return block
        except OSError as error:
            LOG.warning("image cache: reading goes on in the store: %s", error)
            return b""

    def _await_growth(self) -> bool:
        """Wait until the file reaches behind our position; False when it won't."""
        nap = SHORTEST_NAP
        seen = os.fstat(self._fd).st_size
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            filled = is_filled(self._fd)
            # Looked at after the lock: its last bytes come before it is given back.
            size = os.fstat(self._fd).st_size
            if size > self._at:
                return True
            if not filled:
                # Who fails removes the file, who dies leaves it.
                successor = self._successor(os.fstat(self._fd).st_nlink > 0)
                if successor is None:
                    return False
                os.close(self._fd)
                self._fd = successor
                size = 0
            if size != seen:
                seen, deadline = size, time.monotonic() + PATIENCE
            time.sleep(nap)
            nap = min(nap * 2, LONGEST_NAP)
        return False
