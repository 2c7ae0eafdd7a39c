"""A mounted store: a guard that goes on when its backend is away.

A store that can't be reached at the start doesn't keep the others from
their work: it is down, with its reason, and opened when it is used and the
last attempt is some seconds ago. A store that was seen away a moment ago is
told apart, so that what can be read elsewhere is read there first.
"""

from __future__ import annotations

import logging
import threading
import time

from glancelike.errors import ConfigError, StoreDenied, StoreError, StoreUnavailable
from glancelike.stores.base import Store
from glancelike.stores.guard import Guard

LOG = logging.getLogger(__name__)

# Between attempts to open a store that is down.
REOPEN_SECONDS = 5.0
# For so long a store that was seen away is read last.
AVOIDED_SECONDS = 10.0


class MountedStore(Guard):
    """The guard of a store that may be down for a while."""

    def __init__(self, driver: Store, *, store_id: str) -> None:
        super().__init__(driver, store_id=store_id)
        self._lock = threading.Lock()
        self._down: str | None = None  # why it isn't open
        self._next_attempt = 0.0
        self._away: tuple[float, str] | None = None  # until when it is avoided, and why

    def open(self) -> None:
        """Open the driver, or be down where its backend can't be reached.

        Raises ConfigError and StoreDenied: those don't go away by waiting.
        """
        try:
            super().open()
        except StoreDenied:
            raise
        except StoreError as error:
            self._down = _said(error)
            self._next_attempt = time.monotonic() + REOPEN_SECONDS
            LOG.warning("store %r is down, and tried again when it is used: %s", self.id, self._down)
        else:
            self._down = None

    def close(self) -> None:
        """Close the driver, unless it never opened."""
        if self._down is None:
            super().close()

    @property
    def reason(self) -> str | None:
        """Say why the store is down, or was seen to be a moment ago; None when it works."""
        if self._down is not None:
            return self._down
        away = self._away
        return away[1] if away is not None and time.monotonic() < away[0] else None

    @property
    def avoided(self) -> bool:
        """Tell whether another store should be tried before this one."""
        return self.reason is not None

    def stamped(self, error: Exception, key: str | None) -> StoreError:
        own = super().stamped(error, key)
        if isinstance(own, StoreUnavailable):
            self._away = time.monotonic() + AVOIDED_SECONDS, _said(own)
        return own

    def _live(self) -> Store:
        if self._down is not None:
            self._open_again()
        return self.driver

    def _open_again(self) -> None:
        """Open the driver if it is time to; raise StoreUnavailable while it is down."""
        # One caller waits for the backend; the others are told at once.
        if time.monotonic() >= self._next_attempt and self._lock.acquire(blocking=False):
            try:
                if self._down is not None and time.monotonic() >= self._next_attempt:
                    self._attempt()
            finally:
                self._lock.release()
        if self._down is not None:
            raise StoreUnavailable(f"the store is down: {self._down}", store=self.id)

    def _attempt(self) -> None:
        try:
            super().open()
        except (StoreError, ConfigError) as error:
            self._down = _said(error)
            self._next_attempt = time.monotonic() + REOPEN_SECONDS
        else:
            self._down = None
            self._away = None
            LOG.warning("store %r is back", self.id)


def _said(error: Exception) -> str:
    """Return an error's message without the store and key that are stamped on it."""
    return str(error.args[0]) if error.args and error.args[0] else str(error)
