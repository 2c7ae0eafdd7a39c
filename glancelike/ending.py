"""How a program learns that it is to end, without ever missing it.

A handler runs on the main thread, at its next step in Python. The kernel may
give the signal to another thread, and then a main thread that waits for a
lock takes no such step. A handler that takes a lock itself, as one that sets
a ``threading.Event`` does, may find it taken by the step it interrupts. So
the handler takes none, and the main thread only ever sleeps.

Once told, it ends: not when the last thread has heard of it, which may wait
for a peer that never answers, and not at a library's leisure.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

LOG = logging.getLogger(__name__)
LOOK_SECONDS = 0.2
_FLUSH_SECONDS = 1.0


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


def end(status: int) -> NoReturn:
    """End this process here: what it has said is out, and no thread is waited for.

    Without it the interpreter joins threads, and so do libraries when it ends (futurist's, of
    oslo.messaging; those of a pool that serves requests).
    """
    _briefly(_flush)
    os._exit(status)


def end_within(seconds: float) -> None:
    """End this process with 0 in so many seconds at the latest, whatever its main thread waits for then."""
    threading.Thread(target=_end_later, args=(seconds,), name="end-within", daemon=True).start()


def _end_later(seconds: float) -> None:
    time.sleep(seconds)
    _briefly(lambda: LOG.warning("what is being closed doesn't answer: ending without, after %g s", seconds))
    end(0)


def _flush() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _briefly(act: Callable[[], None]) -> None:
    """Do something that waits for ever where nobody reads the log."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(_FLUSH_SECONDS)
