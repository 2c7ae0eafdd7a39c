"""What was found out a moment ago, so that it isn't asked again."""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memory(Generic[K, V]):
    """A bounded map whose entries expire; thread-safe, and no reader waits.

    When it is full, what came first goes first. Its methods are those that
    clients of memcached have.
    """

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._lock = threading.Lock()
        self._found: dict[K, tuple[float, V]] = {}

    def get(self, key: K) -> V | None:
        """Return the value, None when there is none or its time is over."""
        until, value = self._found.get(key, (0.0, None))
        return value if until > _now() else None

    def set(self, key: K, value: V, time: float) -> None:
        """Keep a value for ``time`` seconds; not at all unless that is above 0."""
        with self._lock:
            self._found.pop(key, None)
            if time <= 0:
                return
            while len(self._found) >= self._entries:
                del self._found[next(iter(self._found))]
            self._found[key] = (_now() + time, value)


def _now() -> float:
    return time.monotonic()
