"""What a boot reads of an image: recorded once, fetched ahead at the next boot elsewhere.

A trace is a line of text: ``1 65536 0+4 120+2`` is its version, the block's size in bytes,
and runs of blocks in the order in which they were first read. It comes from an image's
property, which anybody may have written, so it is only ever a hint.
"""

from __future__ import annotations

import re
import threading
import time

from novalite.bases.copying import BLOCK
from novalite.bases.journal import Run

#: The image's property.
PROPERTY = "novalite_boot_trace"
_VERSION = "1"
#: Longest text, and largest part of an image that is fetched because a trace says so.
LARGEST = 16 << 10
_LARGEST_PART = 0.25
_ALWAYS = (64 << 20) // BLOCK  # blocks that aren't too much of any image
_RUN = re.compile(r"(\d{1,12})\+(\d{1,12})")


class Recorder:
    """Takes down what is read for the first time; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: set[int] = set()
        self._runs: list[Run] = []
        self.began: float | None = None  # time.monotonic() of the first read
        self.last: float = 0.0  # and of the last that brought something new

    def add(self, offset: int, length: int) -> None:
        """Take a read down."""
        now = time.monotonic()
        with self._lock:
            if self.began is None:
                self.began = now
            for block in range(offset // BLOCK, -(-(offset + length) // BLOCK)):
                if block in self._seen:
                    continue
                self._seen.add(block)
                self.last = now
                if self._runs and sum(self._runs[-1]) == block:
                    self._runs[-1] = (self._runs[-1][0], self._runs[-1][1] + 1)
                else:
                    self._runs.append((block, 1))

    def text(self) -> str:
        """Return the trace; its end is left out where it would be too long."""
        with self._lock:
            words = [_VERSION, str(BLOCK), *(f"{first}+{count}" for first, count in self._runs)]
        told = " ".join(words)
        return told if len(told) <= LARGEST else told[:LARGEST].rpartition(" ")[0]


def runs(told: str, blocks: int) -> list[Run]:
    """Return the runs of a trace that lie in an image of so many blocks; none of a trace that is no trace."""
    version, _, rest = told[:LARGEST].partition(" ")
    size, _, rest = rest.partition(" ")
    if version != _VERSION or size != str(BLOCK):
        return []
    found: list[Run] = []
    left = max(int(blocks * _LARGEST_PART), _ALWAYS)
    for word in rest.split():
        match = _RUN.fullmatch(word)
        if match is None:
            return []
        first, count = int(match[1]), min(int(match[2]), left)
        if first + count > blocks:
            return []
        if count:
            found.append((first, count))
            left -= count
    return found
