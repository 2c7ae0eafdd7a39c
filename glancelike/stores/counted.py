"""The source of a write as a driver sees it: exact, or it raises."""

from __future__ import annotations

from glancelike.errors import SizeMismatch, StoreFault
from glancelike.stores.base import Source


class Counted:
    """The source as a driver sees it: exact, or it raises SizeMismatch.

    Before it hands out the last declared byte it looks one byte further,
    so that even a driver that never reads to the end can't store the
    front of a longer source. ``error`` keeps what came out of the source.
    """

    def __init__(self, source: Source, size: int | None, *, store: str, key: str) -> None:
        if size is not None and size < 0:
            raise SizeMismatch(f"the size can't be {size}", store=store, key=key)
        self._source = source
        self._size = size
        self._store = store
        self._key = key
        self.count = 0
        self.ended = False
        self.error: BaseException | None = None

    def start(self) -> None:
        """Look for the end of an empty source, which a driver need not read."""
        if self._size == 0:
            self._look_behind()

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; empty only at the declared end."""
        if self.error is not None:
            raise self.error
        if self.ended:
            return b""
        if size < 1:
            raise StoreFault(f"the driver reads {size} bytes from the source: it must read in chunks")
        block = self._pull(size if self._size is None else min(size, self._size - self.count))
        self.count += len(block)
        if not block:
            if self._size is not None:
                self._mismatch(f"the source ended after {self.count} of {self._size} bytes")
            self.ended = True
        elif self.count == self._size:
            self._look_behind()
        return block

    def settle(self) -> None:
        """Raise what a driver kept to itself: the source's error or an early stop."""
        if self.error is not None:
            raise self.error
        if not self.ended:
            stopped = f"the driver stopped after {self.count} bytes, before the source's end"
            raise StoreFault(stopped, store=self._store, key=self._key)

    def _look_behind(self) -> None:
        if self._pull(1):
            self._mismatch(f"the source has more than the declared {self._size} bytes")
        self.ended = True

    def _mismatch(self, message: str) -> None:
        self.error = SizeMismatch(message, store=self._store, key=self._key)
        raise self.error

    def _pull(self, size: int) -> bytes:
        try:
            block = self._source.read(size)
            # A non-blocking source says None for "not yet": taken for the end it would cut the blob.
            if not isinstance(block, bytes | bytearray | memoryview) or len(block) > size:
                raise TypeError(
                    f"{type(self._source).__name__}.read({size}) didn't return so many bytes or fewer"
                )
        except BaseException as error:
            self.error = error
            raise
        return block
