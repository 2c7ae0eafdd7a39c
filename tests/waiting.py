"""Waiting for what another thread or process does.

No test says how long it may take: the seconds are those after which it
won't come any more, on the busiest machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 90.0


def wait_for(what: str, true: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until something is true, or fail and say what never was."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def until(true: Callable[[], object]) -> None:
    """Wait until something is true that the caller's line tells well enough."""
    wait_for("what is waited for", true)
