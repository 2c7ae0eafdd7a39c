"""The compute worker's side of the process: it is started, and started again.

The process has a session of its own and no parent that it ends with: guests read
from it also while there is no compute worker. A connection that is kept tells
it that there is one, and tells us when it's gone.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from novalite.bases import orders
from novalite.bases.settings import BasesSettings
from novalite.errors import Unavailable

LOG = logging.getLogger(__name__)

_START_SECONDS = 30.0
_CLOSE_SECONDS = 1.0


class Keeper:
    """Sees to it that the process of a cache runs; thread-safe."""

    def __init__(self, settings: BasesSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None

    def keep(self) -> None:
        """Return when the process answers, started where it wasn't; raise Unavailable when it doesn't."""
        with self._lock:
            if self._connection is not None and not _hung_up(self._connection):
                return
            self._release()
            self._connection = connect(self._settings.directory) or self._start()

    def close(self) -> None:
        """Leave the process alone; it ends when it has nothing to do.

        One that is being started isn't waited for.
        """
        if self._lock.acquire(timeout=_CLOSE_SECONDS):
            self._release()
            self._lock.release()

    def _release(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _start(self) -> socket.socket:
        directory = self._settings.directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        with (directory / orders.LOG).open("ab") as log:
            # It leaves a process of its own behind, and ends.
            started = subprocess.run(
                [sys.executable, "-m", "novalite.bases", "--told"],
                input=self._settings.to_json().encode(),
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                timeout=_START_SECONDS,
                check=False,
            )
        deadline = time.monotonic() + _START_SECONDS
        while started.returncode == 0 and time.monotonic() < deadline:
            if (connection := connect(directory)) is not None:
                return connection
            time.sleep(0.02)
        raise Unavailable(f"the process of {directory} doesn't come up; see {directory / orders.LOG}")


def connect(directory: Path) -> socket.socket | None:
    """Return a connection to the process of a cache; None when it doesn't answer."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5.0)
    try:
        connection.connect(str(directory / orders.SOCKET))
        if connection.recv(8, socket.MSG_WAITALL) == b"NBDMAGIC":
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _hung_up(connection: socket.socket) -> bool:
    """Tell whether the other side is gone: beyond its greeting it never says anything."""
    try:
        connection.setblocking(False)
        while data := connection.recv(64):
            del data
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True
