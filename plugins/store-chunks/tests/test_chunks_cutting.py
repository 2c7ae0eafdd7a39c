"""Cutting: the same chunks, however the bytes come and however many windows they fill."""

from __future__ import annotations

import pytest
from glancelike_store_chunks.cutting import Cutter
from pyfastcdc import FastCDC

from glancelike.testing.sources import WatchedSource, payload

LEAST, AVERAGE, MOST = 4 << 10, 16 << 10, 64 << 10
DATA = payload(1 << 20) + bytes(300_000) + payload(300_001, seed=2)


class Dripping(WatchedSource):
    """A source that gives little at a time."""

    def read(self, size: int = -1, /) -> bytes:
        return super().read(min(size, 1000))


@pytest.mark.parametrize("kind", [WatchedSource, Dripping])
@pytest.mark.parametrize("size", [0, 1, MOST, 2 * MOST, 2 * MOST + 1, len(DATA)])
def test_chunks_are_those_of_the_whole(size: int, kind: type[WatchedSource]) -> None:
    cdc = FastCDC(AVERAGE, min_size=LEAST, max_size=MOST)
    whole = [DATA[at.offset : at.offset + at.length] for at in cdc.cut_buf(DATA[:size])] if size else []
    cut = Cutter("cdc", LEAST, AVERAGE, MOST).cut
    assert [bytes(piece) for piece in cut(kind(DATA[:size]))] == whole
    fixed = [DATA[at : min(size, at + AVERAGE)] for at in range(0, size, AVERAGE)]
    assert [bytes(piece) for piece in Cutter("fixed", LEAST, AVERAGE, MOST).cut(kind(DATA[:size]))] == fixed
