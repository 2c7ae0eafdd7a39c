"""Cut a stream into chunks.

``cdc`` cuts where the content says so (FastCDC): what is inserted or removed
moves the cuts near by, and all chunks behind are the same as before.
``fixed`` cuts every so many bytes: for disks, which change in place, and
whose blocks then keep their position.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyfastcdc import FastCDC

from glancelike.errors import ConfigError
from glancelike.stores.base import Source

BLOCK = 1 << 20
# What the library can do.
AVERAGE = (1 << 10, 4 << 20)
LEAST = (1 << 8, 1 << 20)
MOST = (1 << 12, 16 << 20)


@dataclass(frozen=True, slots=True)
class Cutter:
    """Cuts by ``method``: ``cdc`` with its three sizes, ``fixed`` into pieces of ``average``."""

    method: str
    least: int
    average: int
    most: int

    def __post_init__(self) -> None:
        for name, value, (low, high) in (
            ("chunk_store_min_size", self.least, LEAST),
            ("chunk_store_avg_size", self.average, AVERAGE),
            ("chunk_store_max_size", self.most, MOST),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{name} = {value}: it must be from {low} to {high}")
        if not self.least < self.average < self.most:
            raise ConfigError("chunk_store_min_size, _avg_size, _max_size: each must be larger than the last")

    def cut(self, source: Source) -> Iterator[memoryview]:
        """Yield the chunks of a source, each of them good until the next is asked for.

        All lie in one window, which is filled again and again: memory that
        is made anew costs more time than cutting does.
        """
        if self.method == "fixed":
            return _fixed(source, self.average)
        return self._by_content(source)

    def _by_content(self, source: Source) -> Iterator[memoryview]:
        cdc = FastCDC(self.average, min_size=self.least, max_size=self.most)
        window = memoryview(bytearray(3 * self.most))
        held, ended = 0, False
        while not ended:
            # What is left of the last window is less than the largest chunk.
            goal = held + 2 * self.most
            held = _fill(source, window[:goal], held)
            ended = held < goal
            at = 0
            for chunk in cdc.cut_buf(window[:held]):
                if not ended and chunk.offset + chunk.length == held:
                    break  # this one ends where the window does, not by its content
                yield window[chunk.offset : chunk.offset + chunk.length]
                at = chunk.offset + chunk.length
            window[: held - at] = window[at:held]
            held -= at


def _fixed(source: Source, size: int) -> Iterator[memoryview]:
    window = memoryview(bytearray(size))
    held = size
    while held == size and (held := _fill(source, window, 0)):
        yield window[:held]


def _fill(source: Source, window: memoryview, held: int) -> int:
    """Fill a window from ``held`` on; return how much is in it, all but at the source's end."""
    while held < len(window) and (block := source.read(min(BLOCK, len(window) - held))):
        window[held : held + len(block)] = block
        held += len(block)
    return held
