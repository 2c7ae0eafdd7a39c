"""How often what failed is tried again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from glancelike.errors import Unreachable
from glancelike.outbound.answers import Broken
from glancelike.urlrules import FetchLimits

LOG = logging.getLogger(__name__)

# A connection that brought less counts as a failure: or a peer could have us
# connect for each byte, for ever.
PROGRESS = 1 << 20
T = TypeVar("T")


class Patience:
    """Counts the failures in a row, waits between them and gives up."""

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._failures = 0
        self._mark = 0

    def on(self, step: Callable[[], T], count: Callable[[], int]) -> T:
        """Repeat ``step`` until it works; ``count`` tells the bytes that came so far."""
        while True:
            try:
                return step()
            except Broken as broken:
                self._wait(broken, count())

    def _wait(self, broken: Broken, count: int) -> None:
        self._failures = 0 if count - self._mark >= PROGRESS else self._failures + 1
        self._mark = count
        if self._failures > self._limits.retries:
            raise Unreachable(str(broken)) from broken.__cause__
        LOG.warning("%s; trying again", broken)
        time.sleep(min(30.0, self._limits.backoff_seconds * 2**self._failures))
