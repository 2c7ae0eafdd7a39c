"""A TCP proxy before a database that loses a connection when it matters most."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

COMMIT = re.compile(rb"COMMIT(?!TED)")  # not an isolation level


class CuttingProxy:
    """Pass on what clients and server say to each other, at ``port``.

    After ``cut(after, answered)`` the next COMMIT behind the text ``after``
    loses its connection: with ``answered`` when the server has done it, else
    before the server hears of it. ``commits`` counts those that passed.
    """

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self._target = port
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]
        self.commits = 0
        self.cuts = 0
        self._after: bytes | None = None
        self._answered = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, after: bytes, *, answered: bool) -> None:
        """Lose the next connection that commits behind ``after``."""
        with self._lock:
            self._after, self._answered = after, answered

    def close(self) -> None:
        """End all connections."""
        self._listener.close()
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                doomed = threading.Event()
                for run in (self._to_server, self._to_client):
                    threading.Thread(target=run, args=(client, server, doomed), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
        armed = False
        with suppress(OSError):
            while data := client.recv(65536):
                with self._lock:
                    armed = armed or (self._after is not None and self._after in data)
                    if COMMIT.search(data):
                        if armed and not self._answered:
                            self._spent()
                            break
                        self.commits += 1
                        if armed:
                            self._spent()
                            doomed.set()
                server.sendall(data)
        _shut(client, server)

    def _to_client(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if doomed.is_set():
                    break
                client.sendall(data)
        _shut(client, server)

    def _spent(self) -> None:
        self._after = None
        self.cuts += 1


def _shut(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting(port: int, address: str = "127.0.0.1") -> Iterator[CuttingProxy]:
    """Run a proxy, at an address of this host, before the server at ``port`` on loopback."""
    proxy = CuttingProxy(port, address)
    try:
        yield proxy
    finally:
        proxy.close()
