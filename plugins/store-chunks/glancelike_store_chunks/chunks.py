"""Chunks in the store below: their names, how they get there, verified loading.

A chunk is named by the SHA-256 of its bytes and by the generation in which
it was written, ``chunks/ab/cd/abcd…-1f``. The generation keeps a name from
being used again after its chunk was collected; see ``collector``.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from glancelike.errors import BlobExists, StoreFault
from glancelike_store_chunks.lower import Lower
from glancelike_store_chunks.sessions import Session

CHUNKS = "chunks/"
_NAME = re.compile(r"chunks/../../([0-9a-f]{64})-([0-9a-f]{1,8})")


class ChunkId(NamedTuple):
    """Which chunk, and which writing of it."""

    digest: bytes
    generation: int

    @property
    def name(self) -> str:
        """The chunk's key in the store below."""
        return f"{_prefix(self.digest)}{self.generation:x}"

    def packed(self) -> bytes:
        return self.digest + self.generation.to_bytes(4, "big")


_ZEROS = bytes(64 << 10)
# Zeros of any length, which are stored nowhere.
HOLE = ChunkId(bytes(32), 0)


def unpacked(packed: bytes) -> ChunkId:
    return ChunkId(packed[:32], int.from_bytes(packed[32:], "big"))


def named(name: str) -> ChunkId | None:
    """Return the id of the chunk with this key, None if it isn't one's."""
    found = _NAME.fullmatch(name)
    return ChunkId(bytes.fromhex(found[1]), int(found[2], 16)) if found else None


def load(lower: Lower, chunk: ChunkId, size: int) -> bytes:
    """Return a chunk's bytes; raise StoreFault when they aren't what was stored, BlobNotFound."""
    data = lower.read(chunk.name, length=size)
    if len(data) != size or hashlib.sha256(data).digest() != chunk.digest:
        raise StoreFault(
            f"chunk {chunk.name!r} in store {lower.id!r} is damaged: its bytes aren't its digest's"
        )
    return data


def store(lower: Lower, session: Session, data: bytes | bytearray) -> ChunkId:
    """See to it that a chunk is there, and return the id to rely on."""
    digest = hashlib.sha256(data).digest()
    usable = [
        chunk
        for info in lower.list(_prefix(digest))
        if info.size == len(data)
        and (chunk := named(info.key)) is not None
        and chunk.packed() not in session.condemned
    ]
    if usable:
        return min(usable)
    chunk = ChunkId(digest, session.generation)
    try:
        lower.write(chunk.name, data)
    except BlobExists:
        # Another writer of the same generation was faster, unless it's there all the time and cut short.
        if lower.stat(chunk.name).size != len(data):
            raise StoreFault(f"chunk {chunk.name!r} in store {lower.id!r} is damaged: wrong size") from None
    return chunk


def store_all(
    lower: Lower,
    session: Session,
    pieces: Iterable[memoryview],
    told: Callable[[ChunkId, int], None],
    threads: int,
) -> None:
    """Store pieces, up to ``threads`` at a time, and tell their ids in order.

    A piece is copied before the next is asked for, into a buffer that an
    earlier one no longer needs.
    """
    under_way: deque[tuple[Future[ChunkId], bytearray]] = deque()
    spare: list[bytearray] = []

    def settle() -> None:
        future, buffer = under_way.popleft()
        told(future.result(), len(buffer))
        spare.append(buffer)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="chunks")
    try:
        for piece in pieces:
            buffer = spare.pop() if spare else bytearray()
            buffer[:] = piece
            if is_zero(buffer):
                future: Future[ChunkId] = Future()
                future.set_result(HOLE)
            else:
                future = pool.submit(store, lower, session, buffer)
            under_way.append((future, buffer))
            if len(under_way) >= threads:
                settle()
        while under_way:
            settle()
    finally:
        # Not before the last one has ended: the session protects what they do.
        pool.shutdown(wait=True, cancel_futures=True)


def is_zero(data: bytearray) -> bool:
    """Tell whether all bytes are zero."""
    return data[:1] == data[-1:] == b"\0" and all(
        data.startswith(_ZEROS[: len(data) - at], at) for at in range(0, len(data), len(_ZEROS))
    )


def _prefix(digest: bytes) -> str:
    text = digest.hex()
    return f"{CHUNKS}{text[:2]}/{text[2:4]}/{text}-"
