"""Read a blob: its chunks in order, some of them loaded before they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from glancelike.errors import BlobNotFound, StoreError, StoreFault
from glancelike_store_chunks.chunks import HOLE, load
from glancelike_store_chunks.lower import Lower
from glancelike_store_chunks.manifest import Manifest, Piece

BLOCK = 1 << 20
# To wait for the store below, to hash, and to use what was read go on side by side.
AHEAD = 2
_ZEROS = bytes(BLOCK)


def blocks(lower: Lower, manifest: Manifest, offset: int, end: int) -> Iterator[bytes]:
    """Yield the bytes from ``offset`` to before ``end``, verified chunk by chunk."""
    try:
        for piece, data in _loaded(lower, manifest.pieces(offset, end)):
            last = min(piece.end, end)
            for place in range(max(piece.start, offset), last, BLOCK):
                if data is None:
                    yield _ZEROS[: last - place]
                else:
                    yield data[place - piece.start : min(place + BLOCK, last) - piece.start]
    except BlobNotFound as error:
        raise _lost(lower, manifest, error) from error


def _loaded(lower: Lower, pieces: Iterator[Piece]) -> Iterator[tuple[Piece, bytes | None]]:
    """Load pieces in order; None for a hole. What fails is raised when its turn has come."""
    under_way: deque[tuple[Piece, Future[bytes] | None]] = deque()
    pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="chunks-ahead")
    try:
        for piece in pieces:
            hole = piece.chunk == HOLE
            size = piece.end - piece.start
            under_way.append((piece, None if hole else pool.submit(load, lower, piece.chunk, size)))
            if len(under_way) > AHEAD:
                yield _next(under_way)
        while under_way:
            yield _next(under_way)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _next(under_way: deque[tuple[Piece, Future[bytes] | None]]) -> tuple[Piece, bytes | None]:
    piece, loading = under_way.popleft()
    try:
        return piece, None if loading is None else loading.result()
    except BlobNotFound as error:
        raise BlobNotFound(f"chunk {piece.chunk.name!r}") from error


def _lost(lower: Lower, manifest: Manifest, missing: BlobNotFound) -> StoreError:
    try:
        lower.stat(manifest.name)
    except BlobNotFound:
        return BlobNotFound("the blob was deleted while it was read")
    return StoreFault(f"{missing} in store {lower.id!r} is missing")
