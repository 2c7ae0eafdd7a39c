"""What a boot has read, as text: short, and only ever a hint."""

from __future__ import annotations

import pytest

from novalite.bases import trace
from novalite.bases.copying import BLOCK
from novalite.bases.trace import Recorder


def test_a_trace_is_what_was_read_for_the_first_time_in_its_order() -> None:
    recorder = Recorder()
    for offset, length in ((0, 10), (BLOCK, 2 * BLOCK), (0, BLOCK), (9 * BLOCK - 1, 2), (4 * BLOCK, 1)):
        recorder.add(offset, length)
    assert recorder.text() == f"1 {BLOCK} 0+3 8+2 4+1"
    assert trace.runs(recorder.text(), 100) == [(0, 3), (8, 2), (4, 1)]


def test_a_trace_stays_short() -> None:
    recorder = Recorder()
    for block in range(0, 100_000, 2):
        recorder.add(block * BLOCK, 1)
    assert len(recorder.text()) <= trace.LARGEST
    found = trace.runs(recorder.text(), 100_000)
    assert found[:2] == [(0, 1), (2, 1)]
    assert len(found) > 1000


def test_a_trace_makes_nobody_fetch_a_large_image() -> None:
    blocks = (100 << 30) // BLOCK
    assert sum(count for _, count in trace.runs(f"1 {BLOCK} 0+{blocks}", blocks)) <= blocks // 4


@pytest.mark.parametrize(
    "told",
    [
        "",
        "nonsense",
        "2 65536 0+1",
        "1 4096 0+1",
        "1 65536 0+x",
        "1 65536 99+2",
        "1 65536 -1+1",
        "1 65536 0+1;x",
    ],
)
def test_what_is_no_trace_says_nothing(told: str) -> None:
    assert trace.runs(told, 100) == []
