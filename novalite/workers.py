"""Threads for work that is named by an id, and for what happens at intervals."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator

LOG = logging.getLogger(__name__)


class Workers:
    """Handles ids on a few threads, each id in one thread at a time.

    An id submitted while it is handled is handled once more afterwards, so
    nothing that was told meanwhile is missed; one that waits already is not
    queued again.
    """

    def __init__(self, name: str, count: int, handle: Callable[[str], None]) -> None:
        self._name = name
        self._count = count
        self._handle = handle
        self._change = threading.Condition()
        self._waiting: dict[str, None] = {}  # in order of arrival
        self._busy: set[str] = set()
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads."""
        self._stopping = False
        for number in range(self._count):
            thread = threading.Thread(target=self._run, name=f"{self._name}-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, seconds: float) -> bool:
        """Take no more work; tell whether all threads ended within the time."""
        with self._change:
            self._stopping = True
            self._change.notify_all()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return not self._threads

    def submit(self, key: str) -> None:
        """Have an id handled soon."""
        with self._change:
            self._waiting[key] = None
            self._change.notify_all()

    @contextlib.contextmanager
    def hold(self, key: str) -> Iterator[bool]:
        """Keep an id from being handled; yields False when it is handled now."""
        with self._change:
            if free := key not in self._busy:
                self._busy.add(key)
        try:
            yield free
        finally:
            if free:
                self._free(key)

    def _run(self) -> None:
        while (key := self._take()) is not None:
            try:
                self._handle(key)
            except Exception:
                LOG.exception("%s: work on %s broke off", self._name, key)
            finally:
                self._free(key)

    def _take(self) -> str | None:
        with self._change:
            while not self._stopping:
                for key in self._waiting:
                    if key not in self._busy:
                        del self._waiting[key]
                        self._busy.add(key)
                        return key
                self._change.wait()
            return None

    def _free(self, key: str) -> None:
        with self._change:
            self._busy.discard(key)
            self._change.notify_all()


class Periodic:
    """Does something at intervals on a thread of its own.

    What it raises is logged, and the next time comes all the same.
    """

    def __init__(self, name: str, interval: float, action: Callable[[], object]) -> None:
        self._name = name
        self._interval = interval
        self._action = action
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start; the first time is now."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End it, waiting for a run under way no longer than ``seconds``."""
        stop_all((self,), seconds)

    def tell_to_stop(self) -> threading.Thread | None:
        """Have no run begin any more; return the thread of one that may be under way."""
        self._stop.set()
        thread, self._thread = self._thread, None
        return thread

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._action()
            except Exception as error:
                # Without the trace when it's the database or the hypervisor being away.
                expected = getattr(error, "retryable", False)
                LOG.warning("%s: %s", self._name, error, exc_info=not expected)
            self._stop.wait(self._interval)


def stop_all(periodics: Iterable[Periodic], seconds: float) -> None:
    """End some, waiting for runs under way no longer than ``seconds`` in all."""
    threads = [thread for periodic in periodics if (thread := periodic.tell_to_stop()) is not None]
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
