"""Sessions: what a writer announces before it relies on any chunk.

::

    sessions/<random>       a writer at work: when it began, where
    condemned/<random>      a round: chunks that no writer may rely on any more
    waiting/<random>        the sessions that the round of that name has to wait for
    generations/<number>    the largest one is part of the name of new chunks

``collector`` says how these keep what a writer relies on.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from glancelike.errors import BlobNotFound, StoreError, StoreUnavailable
from glancelike.stores.base import BlobInfo, Source
from glancelike_store_chunks.lower import Lower

SESSIONS = "sessions/"
CONDEMNED = "condemned/"
WAITING = "waiting/"
GENERATIONS = "generations/"
PACKED = 36  # bytes of a packed chunk id: 32 of the digest, 4 of the generation


class Session:
    """A writer's stay: from before its first look at a chunk until its manifest is there.

    ``condemned`` holds the packed ids of the chunks it must not rely on,
    ``generation`` goes into the names of those it writes. Both are read
    after the session is announced, in this order.
    """

    def __init__(self, lower: Lower) -> None:
        self._lower = lower
        self.name = f"{SESSIONS}{uuid.uuid4().hex}"
        lower.write(self.name, stamp())
        try:
            self.condemned = condemned(lower)
            self.generation = generation(lower)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A request that nobody answered may still be carried out. Until then the chunks must stay,
        # so the session stays, too, and is swept when it's old.
        if not isinstance(error, StoreUnavailable):
            self._end()

    def publish(self, name: str, source: Source, size: int) -> None:
        """Give a manifest its name; raise BlobExists.

        Raises StoreUnavailable when a sweep has taken this session for dead:
        what it relied on may be gone.
        """
        self._check()
        self._lower.write_from(name, source, size)
        try:
            self._check()
        except BaseException:
            self._lower.delete(name)
            raise

    def _check(self) -> None:
        try:
            self._lower.stat(self.name)
        except BlobNotFound:
            raise StoreUnavailable("a sweep took this upload for dead: it went on for too long") from None

    def _end(self) -> None:
        with suppress(StoreError):  # else a sweep does it, when it's old
            self._lower.delete(self.name)


def stamp() -> bytes:
    """Say when and where, for stores that don't tell when a blob was written, and for people."""
    return f"{time.time():.3f} {socket.gethostname()} {os.getpid()}\n".encode()


def began(lower: Lower, info: BlobInfo) -> datetime:
    """Tell when a stamped blob was written; raise BlobNotFound."""
    if info.modified is not None:
        return info.modified
    return datetime.fromtimestamp(float(lower.read(info.key).split()[0]), UTC)


def condemned(lower: Lower) -> set[bytes]:
    """Return the packed ids of all condemned chunks."""
    while True:
        found: set[bytes] = set()
        try:
            for info in lower.list(CONDEMNED):
                found |= members(lower, info.key)
        except BlobNotFound:
            continue  # the round ended; what it left is in another, which the next look shows
        return found


def members(lower: Lower, name: str) -> set[bytes]:
    """Return the packed ids of a round; raise BlobNotFound when it has ended."""
    data = lower.read(name)
    return {data[at : at + PACKED] for at in range(0, len(data), PACKED)}


def generation(lower: Lower) -> int:
    """Return the generation that new chunks belong to."""
    return max((int(info.key.removeprefix(GENERATIONS)) for info in lower.list(GENERATIONS)), default=0)
