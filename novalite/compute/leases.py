"""Keeping the leases of work under way, and telling it when to stop."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from novalite.db import Database
from novalite.model import Server
from novalite.workers import Periodic, stop_all

LOG = logging.getLogger(__name__)


class Superseded(Exception):
    """The task was changed, or the lease lost: look at the server again."""


class Stopping(Exception):
    """This process is about to end: leave the work for the next one."""


class Work:
    """One server's task in this process. Call ``check`` between steps."""

    def __init__(self, server: Server, stopping: threading.Event) -> None:
        self.server = server
        self.told = server.task_args  # may be told more meanwhile
        self.superseded = threading.Event()
        self._stopping = stopping

    def check(self) -> None:
        """Raise Superseded or Stopping when there's no use in going on."""
        if self._stopping.is_set():
            raise Stopping
        if self.superseded.is_set():
            raise Superseded


class LeaseKeeper:
    """Renews the leases of all work under way, three times per lease."""

    def __init__(self, database: Database, *, holder: str, seconds: float) -> None:
        self._database = database
        self._holder = holder
        self._seconds = seconds
        self._lock = threading.Lock()
        self._works: dict[str, Work] = {}
        self._stopping = threading.Event()
        self._renewal = Periodic("compute-leases", seconds / 3, self._renew)
        # How soon a user's delete ends a build doesn't depend on the lease.
        self._watch = Periodic("compute-watch", min(1.0, seconds / 3), self._look)

    def open(self) -> None:
        """Start renewing."""
        self._stopping.clear()
        self._renewal.start()
        self._watch.start()

    def stop_work(self) -> None:
        """Have all work end at its next check; leases are kept until ``close``."""
        self._stopping.set()

    def close(self) -> None:
        """Stop renewing."""
        stop_all((self._renewal, self._watch), 0.5)

    @contextlib.contextmanager
    def work_on(self, server: Server) -> Iterator[Work]:
        """Keep the lease that ``begin`` gave while the block runs."""
        work = Work(server, self._stopping)
        with self._lock:
            self._works[server.id] = work
        try:
            yield work
        finally:
            with self._lock:
                self._works.pop(server.id, None)

    def _under_way(self) -> dict[str, Work]:
        with self._lock:
            return dict(self._works)

    def _renew(self) -> None:
        works = self._under_way()
        held = self._database.work.renew(works, holder=self._holder, seconds=self._seconds)
        for server_id, work in works.items():
            if server_id not in held:
                LOG.warning("server %s: the lease is lost", server_id)
                work.superseded.set()

    def _look(self) -> None:
        works = self._under_way()
        if not works:
            return
        for server_id, server in self._database.servers.find(works).items():
            if server.task_state != works[server_id].server.task_state:
                works[server_id].superseded.set()
            works[server_id].told = server.task_args
