"""Several sources as one."""

from __future__ import annotations

from collections.abc import Iterable

from glancelike.model import Source


class Joined:
    """Several sources, one behind the other; each is closed when it ends."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = list(sources)

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, empty at the end of the last."""
        while self._sources:
            block = self._sources[0].read(size)
            if block:
                return block
            _close(self._sources.pop(0))
        return b""

    def close(self) -> None:
        """Release what the sources hold."""
        while self._sources:
            _close(self._sources.pop())


def _close(source: Source) -> None:
    release = getattr(source, "close", None)
    if release is not None:
        release()
