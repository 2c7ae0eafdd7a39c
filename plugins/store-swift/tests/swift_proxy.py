"""A TCP proxy on loopback that breaks what passes through it, as told."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
)
CHUNK = 64 << 10


@dataclass
class Fault:
    """What happens to the next ``times`` requests whose first line matches.

    ``kind``: ``503`` answers for the server; ``cut-answer`` and
    ``cut-request`` break the connection after so many bytes of one
    direction, the request's head included.
    """

    pattern: str
    kind: str
    after: int = 0
    times: int = 1


class FlakyProxy:
    """Forwards to a server; ``url`` is where. ``rate`` limits requests, in bytes a second."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.faults: list[Fault] = []
        self.rate: float | None = None
        self.requests: list[str] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            _reset(client)
            return
        budget: dict[str, int | None] = {"answer": None, "request": None}
        back = threading.Thread(target=self._answers, args=(server, client, budget), daemon=True)
        back.start()
        with suppress(OSError):
            while data := client.recv(CHUNK):
                fault = self._fault(data)
                if fault is not None and fault.kind == "503":
                    client.sendall(UNAVAILABLE)
                    break
                if fault is not None:
                    budget[fault.kind.removeprefix("cut-")] = fault.after
                if self.rate:
                    time.sleep(len(data) / self.rate)
                if not _pass(data, server, budget, "request"):
                    break
        for each in (server, client):
            _reset(each)

    def _answers(self, server: socket.socket, client: socket.socket, budget: dict[str, Any]) -> None:
        with suppress(OSError):
            while data := server.recv(CHUNK):
                if not _pass(data, client, budget, "answer"):
                    break
        for each in (server, client):
            _reset(each)

    def _fault(self, data: bytes) -> Fault | None:
        first = re.match(rb"(GET|HEAD|PUT|POST|DELETE) [^\r]* HTTP/1.1\r\n", data)
        if first is None:
            return None
        line = first[0].decode()
        with self._lock:
            self.requests.append(line)
            for fault in self.faults:
                if fault.times and re.search(fault.pattern, line):
                    fault.times -= 1
                    return fault
        return None


def _pass(data: bytes, to: socket.socket, budget: dict[str, int | None], way: str) -> bool:
    """Forward within the budget; tell whether any is left."""
    left = budget[way]
    if left is None:
        to.sendall(data)
        return True
    to.sendall(data[:left])
    budget[way] = left - len(data)
    return left > len(data)


def _reset(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
