"""Keep Python's cyclic garbage collector out of a start, and out of the exit.

While a program is imported nothing of it is garbage. The collector looks for some all the same, a hundred
and fifty times, and twice more at the exit: a quarter of the CPU of a short command. It also writes to every
object it looks at, so that workers share less memory with the process that they were forked from.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Objects made until it looks again. A start makes some 300,000; what goes on for long is looked after.
STARTING = 100_000


@contextmanager
def held_back() -> Iterator[None]:
    """Run a program with a collector that seldom looks, and not at all at its end."""
    gc.set_threshold(STARTING)
    try:
        yield
    finally:
        gc.freeze()


def settle() -> None:
    """Say that the start is over: what is there is never looked at again, the rest as ever."""
    gc.freeze()
    gc.set_threshold(700, 10, 10)
