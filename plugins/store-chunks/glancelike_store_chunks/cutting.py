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

    def cut(self, source: Source) -> Iterator[bytes]:
        """Yield the chunks of a source, holding a few of the largest at most."""
        if self.method == "fixed":
            return _fixed(source, self.average)
        return self._by_content(source)

    def _by_content(self, source: Source) -> Iterator[bytes]:
        cdc = FastCDC(self.average, min_size=self.least, max_size=self.most)
        rest = b""
        for data, ended in _gathered(source, 2 * self.most):
            window = rest + data
            at = 0
            for chunk in cdc.cut_buf(window):
                if not ended and chunk.offset + chunk.length == len(window):
                    break  # this one ends where the window does, not by its content
                yield window[chunk.offset : chunk.offset + chunk.length]
                at = chunk.offset + chunk.length
            rest = window[at:]


def _fixed(source: Source, size: int) -> Iterator[bytes]:
    for data, _ended in _gathered(source, size):
        if data:
            yield data


def _gathered(source: Source, size: int) -> Iterator[tuple[bytes, bool]]:
    """Yield the source in pieces of just ``size``; the last, maybe empty, is marked.

    The source isn't read on after its end.
    """
    pieces: list[bytes] = []
    held = 0
    while block := source.read(min(BLOCK, size - held)):
        pieces.append(block)
        held += len(block)
        if held == size:
            yield b"".join(pieces), False
            pieces, held = [], 0
    yield b"".join(pieces), True
