"""A message transport within one process, for oslo.messaging by way of kombu.

kombu's own memory transport polls, and oslo.messaging has it poll without
a pause, which costs a third of a core in a process that does nothing. This
one is the same, but waits to be woken by whoever sends. It is named
``kombu+inprocess://`` in ``transport_url`` once this module is imported.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, memory

# One pass over the queues, without waiting: anything but zero, which is no limit.
AT_ONCE = 1e-9
# Consumers look every so often whether they are to stop, and know no other way.
LONGEST_WAIT = 0.25


class Arrivals:
    """Counts messages, and lets consumers wait for the next."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def add(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait(self, seen: int, seconds: float) -> bool:
        """Wait for more than ``seen``; False when the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count != seen, seconds)


# All channels of the process share their queues, and so this, too.
ARRIVALS = Arrivals()


class Channel(memory.Channel):  # type: ignore[misc]
    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        super()._put(queue, message, **kwargs)
        ARRIVALS.add()

    def _put_fanout(self, exchange: str, message: Any, routing_key: str | None = None, **kwargs: Any) -> None:
        super()._put_fanout(exchange, message, routing_key=routing_key, **kwargs)
        ARRIVALS.add()


class Transport(memory.Transport):  # type: ignore[misc]
    Channel = Channel
    polling_interval = None

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver a message; raise TimeoutError when none comes for a while.

        Consumers ask again, so the while may be shorter than ``timeout``.
        """
        until = monotonic() + min(timeout or LONGEST_WAIT, LONGEST_WAIT)
        while True:
            seen = ARRIVALS.count
            try:
                super().drain_events(connection, timeout=AT_ONCE)
                return
            except TimeoutError:
                if not ARRIVALS.wait(seen, max(0.0, until - monotonic())):
                    raise


URL = "kombu+inprocess:"
TRANSPORT_ALIASES["inprocess"] = f"{__name__}:Transport"
