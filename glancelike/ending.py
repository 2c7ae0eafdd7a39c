"""How a program learns that it is to end, without ever missing it.

A handler runs on the main thread, at its next step in Python. The kernel may
give the signal to another thread, and then a main thread that waits for a
lock takes no such step. A handler that takes a lock itself, as one that sets
a ``threading.Event`` does, may find it taken by the step it interrupts. So
the handler takes none, and the main thread only ever sleeps.
"""

from __future__ import annotations

import signal
import time

LOOK_SECONDS = 0.2


class Ending:
    """Whether SIGTERM or SIGINT has come; to be made and waited for by the main thread."""

    def __init__(self) -> None:
        self._told = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._tell)

    def _tell(self, *_: object) -> None:
        self._told = True

    def wait(self, seconds: float = float("inf")) -> bool:
        """Wait until a signal has come, or for so long; tell whether one has."""
        until = time.monotonic() + seconds
        while not self._told and (left := until - time.monotonic()) > 0:
            time.sleep(min(LOOK_SECONDS, left))
        return self._told
