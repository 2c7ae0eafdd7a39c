"""A web server for tests whose answers are functions on the raw connection."""

from __future__ import annotations

import datetime
import ipaddress
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Request:
    """What came: names of headers in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


# Writes a whole answer; returns whether the connection may go on.
Answer = Callable[[Request, BinaryIO], bool | None]


@dataclass
class WebServer:
    """Answers by path, without the query; what came is in ``requests``."""

    port: int
    scheme: str
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def seen(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path.partition("?")[0] == path]


def reply(out: BinaryIO, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
    """Write an answer with just these headers."""
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers.items())]
    out.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


def serving(data: bytes, *, etag: str | None = '"1"', modified: str | None = None) -> Answer:
    """Serve data as RFC 9110 says: HEAD, one range, If-Range, 416."""
    known = {"ETag": etag, "Last-Modified": modified}
    told = {name: value for name, value in known.items() if value is not None}

    def answer(request: Request, out: BinaryIO) -> bool:
        wanted = request.headers.get("range", "")
        condition = request.headers.get("if-range")
        if not wanted or (condition is not None and condition not in told.values()):
            body = b"" if request.method == "HEAD" else data
            reply(out, 200, {**told, "Accept-Ranges": "bytes", "Content-Length": str(len(data))}, body)
            return True
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), min(len(data), int(last) + 1 if last else len(data))
        if start >= len(data):
            reply(out, 416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
            return True
        span = {
            "Content-Range": f"bytes {start}-{end - 1}/{len(data)}",
            "Content-Length": str(end - start),
        }
        reply(out, 206, {**told, **span}, data[start:end])
        return True

    return answer


def redirecting(location: str, status: int = 302) -> Answer:
    """Redirect everything."""

    def answer(_: Request, out: BinaryIO) -> bool:
        reply(out, status, {"Location": location, "Content-Length": "0"})
        return True

    return answer


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        state = self.server.state
        state.connections += 1
        try:
            while (request := self._request()) is not None:
                state.requests.append(request)
                answer = state.answers.get(request.path.partition("?")[0])
                if answer is None:
                    reply(self.wfile, 404, {"Content-Length": "0"})
                elif not answer(request, self.wfile):
                    return
        except (OSError, ValueError):
            return  # the client went away, which many tests want

    def _request(self) -> Request | None:
        first = self.rfile.readline().decode("latin-1").split()
        if len(first) != 3:
            return None
        headers = {}
        while (line := self.rfile.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return Request(first[0], first[1], headers)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64
    state: WebServer
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: object, client_address: object) -> None:
        if self.tls is None:
            super().finish_request(request, client_address)  # type: ignore[arg-type]
            return
        with suppress(OSError), self.tls.wrap_socket(request, server_side=True) as secured:  # type: ignore[arg-type]
            super().finish_request(secured, client_address)  # type: ignore[arg-type]

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that went away."""


@contextmanager
def web_server(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[WebServer]:
    """Run a server on a free port."""
    with _Server((host, 0), _Handler) as server:
        server.tls = tls
        server.state = WebServer(server.server_address[1], "https" if tls else "http")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.state
        finally:
            server.shutdown()
            thread.join()


def certificate(directory: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """Make a certificate for names and addresses; return a server's context and the file to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "glancelike tests")])
    now = datetime.datetime.now(datetime.UTC)
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(found), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, secret = directory / "cert.pem", directory / "key.pem"
    trusted.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, secret)
    return context, trusted
