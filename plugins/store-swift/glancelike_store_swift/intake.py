"""Reading a source once, forward, in blocks of 1 MiB."""

from __future__ import annotations

from collections.abc import Iterator

from glancelike.errors import SizeMismatch
from glancelike.stores.base import Source

BLOCK = 1 << 20


class SourceFailed(Exception):
    """The source raised; the intake keeps what.

    Not the source's own error goes through the HTTP client: that would take
    an OSError for one of its connection, and swallow a BrokenPipeError.
    """


class Intake:
    """A source cut into segments; holds one block of 1 MiB at most.

    ``error`` is what the source raised, ``count`` how much was handed on.
    """

    def __init__(self, source: Source, size: int | None) -> None:
        self._source = source
        self._left = size
        self._ahead = b""
        self._ended = size == 0
        self.error: BaseException | None = None
        self.count = 0

    def more(self) -> bool:
        """Tell whether there is another byte, reading a whole block to know."""
        if not self._ahead and not self._ended:
            self._ahead = self._fill()
        return bool(self._ahead)

    def small(self) -> bytes | None:
        """Return all of it if it is smaller than a block, else None."""
        self.more()
        if not self._ended:
            return None
        data, self._ahead = self._ahead, b""
        self.count += len(data)
        return data

    def blocks(self, most: int) -> Iterator[bytes]:
        """Hand on up to ``most`` bytes."""
        while most and self.more():
            block, self._ahead = self._ahead[:most], self._ahead[most:]
            most -= len(block)
            self.count += len(block)
            yield block

    def _fill(self) -> bytes:
        """Gather a block: a source may give a few bytes at a time."""
        gathered = bytearray()
        want = BLOCK if self._left is None else min(BLOCK, self._left)
        while len(gathered) < want and not self._ended:
            try:
                block = self._source.read(want - len(gathered))
                if not block and self._left is not None:
                    raise SizeMismatch(f"the source ended {self._left - len(gathered)} bytes early")
            except BaseException as error:  # noqa: BLE001 - a source may raise anything
                self.error, self._ended = error, True
                raise SourceFailed from None
            gathered += block
            self._ended = not block
        if self._left is not None:
            self._left -= len(gathered)
            self._ended = self._ended or self._left == 0
        return bytes(gathered)
