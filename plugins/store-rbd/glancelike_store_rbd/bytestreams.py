"""Bytes into images and out of them: sparse, with few blocks in flight."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Self

from glancelike.errors import StoreFault
from glancelike.stores.base import Source
from glancelike_store_rbd.bindings import Ceph, by_number

BLOCK = 4 << 20  # read or sent at once
IN_FLIGHT = 3  # blocks sent that aren't acknowledged
PIECE = 64 << 10  # a run of zeros that is aligned and this long isn't stored
GROWTH = 64 << 20  # an image of unknown size begins with this
_ZEROS = bytes(BLOCK)


def extents(block: bytes, start: int = 0) -> Iterator[tuple[int, int]]:
    """Iterate over the spans of a block, (from, to), that aren't zeros only."""
    if block == _ZEROS[: len(block)]:
        return
    begun: int | None = None
    at = 0
    while at < len(block):
        # Pieces are aligned in the image, not in the block.
        end = min(len(block), at + PIECE - (start + at) % PIECE)
        if block[at:end] == _ZEROS[: end - at]:
            if begun is not None:
                yield begun, at
            begun = None
        elif begun is None:
            begun = at
        at = end
    if begun is not None:
        yield begun, len(block)


def gathered(source: Source, size: int = BLOCK) -> Iterator[bytes]:
    """Iterate over a source in blocks of ``size``, though it gives fewer bytes at a time."""
    pieces: list[bytes] = []
    held = 0
    while piece := source.read(size - held):
        pieces.append(piece)
        held += len(piece)
        if len(pieces) >= 1024:
            # A source that gives single bytes must not become a list of millions.
            pieces = [b"".join(pieces)]
        if held == size:
            yield b"".join(pieces)
            pieces, held = [], 0
    if held:
        yield b"".join(pieces)


class Writer:
    """Writes an open image from its beginning, a few blocks at once.

    ``size`` None means that the image grows with what is written.
    """

    def __init__(self, ceph: Ceph, image: Any, size: int | None, *, thin: bool) -> None:
        self._ceph = ceph
        self._image = image
        self._grows = size is None
        self._room = size or 0
        self._thin = thin
        self._pending: deque[Any] = deque()
        self.at = 0

    def write(self, block: bytes) -> None:
        """Send a block of up to BLOCK bytes behind those before it."""
        end = self.at + len(block)
        with self._ceph.translated():
            if end > self._room:
                self._make_room(end)
            spans = extents(block, self.at) if self._thin else iter([(0, len(block))])
            for first, last in spans:
                whole = (first, last) == (0, len(block))
                self._send(block if whole else block[first:last], self.at + first)
        self.at = end

    def finish(self) -> int:
        """Wait until all is stored, give the image its exact size and return that."""
        with self._ceph.translated():
            while self._pending:
                self._settle()
            if self._grows and self._room != self.at:
                self._image.resize(self.at)
        return self.at

    def abandon(self) -> None:
        """Wait for what is under way; whether it worked doesn't matter any more."""
        while self._pending:
            completion = self._pending.popleft()
            try:
                completion.wait_for_complete_and_cb()
            except self._ceph.errors:
                continue

    def _make_room(self, end: int) -> None:
        if not self._grows:
            raise StoreFault(f"{end} bytes came for an image of {self._room}")
        self._room = max(end, 2 * self._room, GROWTH)
        self._image.resize(self._room)

    def _send(self, data: bytes, offset: int) -> None:
        while len(self._pending) >= IN_FLIGHT:
            self._settle()
        self._pending.append(self._image.aio_write(data, offset, lambda _completion: None))

    def _settle(self) -> None:
        completion = self._pending.popleft()
        completion.wait_for_complete_and_cb()
        result = completion.get_return_value()
        if result < 0:
            raise by_number(result, f"writing to the cluster failed: {os.strerror(-result)}")


class Blocks:
    """The iterator over a span of an open image; closing it closes the image.

    Data of an image that has been removed reads as zeros, so each block
    counts only after ``check`` has found the image in its place.
    """

    def __init__(self, ceph: Ceph, image: Any, offset: int, end: int, check: Callable[[bool], None]) -> None:
        self._ceph = ceph
        self._image = image
        self._at = offset
        self._end = end
        self._check = check

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._image is None or self._at >= self._end:
            self.close()
            raise StopIteration
        wanted = min(BLOCK - self._at % BLOCK, self._end - self._at)
        with self._ceph.translated():
            block: bytes = self._image.read(self._at, wanted)
        if len(block) != wanted:
            raise StoreFault(f"{len(block)} bytes came where {wanted} are")
        self._at += wanted
        self._check(self._at >= self._end)
        return block

    def close(self) -> None:
        """Close the image, however far it was read."""
        image, self._image = self._image, None
        if image is not None:
            with self._ceph.translated():
                image.close()
