"""Sources of bytes that watch how a store driver reads them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

MOST_AT_ONCE = 64 << 20


@lru_cache(maxsize=16)
def payload(size: int, seed: int = 0) -> bytes:
    """Make ``size`` bytes that repeat nowhere, the same ones each time."""
    return random.Random(f"{seed}-{size}").randbytes(size)


class WatchedSource:
    """Hand out bytes as a socket would, and note what a driver may not do.

    ``steps`` are the largest block sizes of successive reads, repeated for
    ever; ``fail_at`` is the position at which ``error`` is raised; ``hook``
    is called before each read with the position. ``faults`` lists what the
    driver did wrong.
    """

    def __init__(
        self,
        data: bytes,
        *,
        steps: Iterable[int] = (),
        fail_at: int | None = None,
        error: BaseException | None = None,
        hook: Callable[[int], None] | None = None,
    ) -> None:
        self.faults: list[str] = []
        self.at = 0
        self._data = memoryview(data)
        self._steps: Iterator[int] = itertools.cycle(tuple(steps) or (MOST_AT_ONCE,))
        self._fail_at = fail_at
        self._error = error
        self._hook = hook
        self._done = ""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes, or raise what was asked for."""
        if self._done:
            self.faults.append(f"it read on after {self._done}")
        if not 0 < size <= MOST_AT_ONCE:
            self.faults.append(f"it read {size} bytes at once")
            size = MOST_AT_ONCE
        if self._hook is not None:
            self._hook(self.at)
        size = min(size, next(self._steps))
        if self._fail_at is not None and self._error is not None:
            if self.at >= self._fail_at:
                self._done = "the source had raised"
                raise self._error
            size = min(size, self._fail_at - self.at)
        block = bytes(self._data[self.at : self.at + size])
        self.at += len(block)
        if not block:
            self._done = "the end"
        return block


class SeekableSource(WatchedSource):
    """A source that could be sought or bypassed, by a driver that shouldn't."""

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self.faults.append(f"it sought the source to {offset}, {whence}")
        self.at = (0, self.at, len(self._data))[whence] + offset
        return self.at

    def readall(self) -> bytes:
        self.faults.append("it read all at once")
        return self.read(MOST_AT_ONCE)

    def fileno(self) -> int:
        raise OSError("there is no file behind this source")


class EndlessSource:
    """Make ``size`` bytes on the way, so that nothing but the driver holds them."""

    def __init__(self, size: int, *, hook: Callable[[int], None] | None = None) -> None:
        self._block = payload(1 << 20)
        self._size = size
        self._hook = hook
        self.at = 0

    def read(self, size: int, /) -> bytes:
        """Return up to 1 MiB; the bytes of a position are always the same."""
        if self._hook is not None:
            self._hook(self.at)
        start = self.at % len(self._block)
        block = self._block[start : start + min(size, self._size - self.at)]
        self.at += len(block)
        return block
