"""A unix socket in front of a server's, behind which suddenly nobody answers any more."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class SilentSocket:
    """Passes on what clients and server say to each other, at ``path``, until ``fall_silent``."""

    def __init__(self, path: Path, target: str) -> None:
        self._target = target
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._silent = False
        self._open: list[socket.socket] = []
        #: Set when a client has come that is never answered.
        self.unanswered = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> None:
        """Hang up on all clients, and take new ones without a word."""
        self._silent = True
        self._hang_up()

    def close(self) -> None:
        """End all connections."""
        self._listener.close()
        self._hang_up()
        for each in self._open:
            each.close()

    def _hang_up(self) -> None:
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                if self._silent:
                    self.unanswered.set()
                    continue
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                self._open.append(server)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=ends, daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def before(path: Path, target: str) -> Iterator[SilentSocket]:
    """Have such a socket for a while."""
    made = SilentSocket(path, target)
    try:
        yield made
    finally:
        made.close()
        path.unlink()
