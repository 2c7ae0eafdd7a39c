"""The HTTP client of the measurements, which costs as little as a client can.

It shares two cores with what it measures. So bodies are sent by sendfile
from memory, and received without ever being copied out of the kernel.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

BLOCK = 1 << 20
CHUNK = 64 << 10  # of chunked bodies: what clients of Glance send, and what uWSGI takes
PATIENCE = 300.0
OCTETS = "application/octet-stream"
IMAGE = {"disk_format": "raw", "container_format": "bare"}


class Server(Protocol):
    """A running server: who it is, where, and the first of its processes."""

    @property
    def name(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]:
        """What every request needs."""


class Refused(Exception):
    """The server didn't do what was asked."""


class Gone(Refused):
    """The server has ended a connection that was to be used again."""


def connect(server: Server) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def head(server: Server, method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """Return a request's line and headers."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}"]
    lines += [f"{name}: {value}" for name, value in {**server.headers, **headers}.items()]
    return "\r\n".join([*lines, "", ""]).encode()


@contextmanager
def asked(
    server: Server,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """Ask once, on a connection of its own; raise Refused."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
        connection.request(method, path, body, {**server.headers, **(headers or {})})
        response = connection.getresponse()
        if response.status >= 300:
            raise Refused(f"{server.name}: {method} {path}: {response.status} {response.read()[:500]!r}")
        yield response


def create(server: Server, **values: Any) -> str:
    """Make an image's record; return its id."""
    body = json.dumps({**IMAGE, **values}).encode()
    with asked(server, "POST", "/v2/images", body, {"Content-Type": "application/json"}) as response:
        return str(json.load(response)["id"])


def delete(server: Server, image: str) -> None:
    with asked(server, "DELETE", f"/v2/images/{image}"):
        pass


def data_path(image: str) -> str:
    return f"/v2/images/{image}/file"


def upload(server: Server, path: str, source: Path, *, chunked: bool = False) -> None:
    """PUT a file; raise Refused."""
    size = source.stat().st_size
    framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(size)}
    headers = {**framing, "Content-Type": OCTETS, "Connection": "close"}
    with connect(server) as connection, source.open("rb") as file:
        try:
            connection.sendall(head(server, "PUT", path, headers))
            step = CHUNK if chunked else BLOCK
            for at in range(0, size, step):
                length = min(step, size - at)
                if chunked:
                    before = "\r\n" if at else ""
                    connection.send(f"{before}{length:x}\r\n".encode(), socket.MSG_MORE)
                _send(connection, file.fileno(), at, length)
            if chunked:
                connection.sendall(b"\r\n0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the answer tells why
        connection.settimeout(PATIENCE)
        answer = connection.recv(4096)
    if answer.split(b" ", 2)[1:2] not in ([b"200"], [b"201"], [b"204"]):
        raise Refused(f"{server.name}: PUT {path}: {answer!r}")


def _send(connection: socket.socket, file: int, at: int, length: int) -> None:
    # socket.sendfile() polls, since the timeout makes the socket non-blocking: blocking costs less.
    connection.setblocking(True)
    while length:
        sent = os.sendfile(connection.fileno(), file, at, length)
        at, length = at + sent, length - sent


def download(server: Server, path: str, *, size: int) -> None:
    """GET a body of a known size and throw it away; raise Refused."""
    with connect(server) as connection:
        left, found = begin(server, connection, path)
        if found != size:
            raise Refused(f"{server.name}: GET {path}: {found} bytes instead of {size}")
        drain(connection, left)


def begin(
    server: Server, connection: socket.socket, path: str, span: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Ask for a body; return how much of it is still to come, and its size."""
    ranged = {} if span is None else {"Range": f"bytes={span[0]}-{sum(span) - 1}"}
    connection.sendall(head(server, "GET", path, ranged))
    return answered(server, connection, path, 200 if span is None else 206)


def answered(server: Server, connection: socket.socket, path: str, status: int) -> tuple[int, int]:
    """Read an answer's head; return how much of the body is still to come, and its size."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        more = connection.recv(4096)
        if not more and not seen:
            raise Gone(f"{server.name} has closed the connection")
        if not more:
            raise Refused(f"{server.name}: GET {path}: {seen!r}")
        seen += more
    said, _, rest = seen.partition(b"\r\n\r\n")
    lines = said.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if lines[0].split()[1] != str(status) or "content-length" not in fields:
        raise Refused(f"{server.name}: GET {path}: {said!r}")
    size = int(fields["content-length"])
    return size - len(rest), size


def drain(connection: socket.socket, left: int) -> int:
    """Take ``left`` bytes and throw them away; return how many."""
    buffer = bytearray(BLOCK)
    taken = 0
    while taken < left:
        # The kernel drops them where they are: see tcp(7).
        got = connection.recv_into(buffer, min(BLOCK, left - taken), socket.MSG_TRUNC)
        if not got:
            raise Refused(f"the body broke off after {taken} of {left} bytes")
        taken += got
    return taken
