"""A real HTTP proxy in front of an S3 endpoint, in which tests make faults; and moto as an endpoint."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.swift_server import free_ports

BLOCK = 64 << 10
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
Rule = Callable[["Request"], "Fault | None"]


@dataclass(frozen=True)
class Request:
    """What came to the proxy."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def is_part(self) -> bool:
        return self.method == "PUT" and "partNumber" in self.path

    @property
    def is_complete(self) -> bool:
        return self.method == "POST" and "uploadId" in self.path


@dataclass(frozen=True)
class Fault:
    """What to do instead: answer at once, or lose the answer, wholly or from a byte on."""

    status: int = 0
    body: bytes = b""
    lose: bool = False
    cut: int | None = None


@dataclass
class Proxy:
    """A running proxy.

    ``rules`` say what goes wrong, ``each_block`` is called for every 64 KiB
    that are sent, ``hidden`` headers of answers are left out, ``rewrite``
    gives the path to ask for.
    """

    url: str
    port: int
    upstream: tuple[str, int]
    rules: list[Rule] = field(default_factory=list)
    each_block: Callable[[int], object] = lambda _size: None
    seen: list[Request] = field(default_factory=list)
    hidden: tuple[str, ...] = ()
    rewrite: Callable[[Request], str] = lambda request: request.path

    def once(self, wanted: Callable[[Request], bool], *faults: Fault) -> None:
        """Make one fault after the other of the next requests that are wanted."""
        left = list(faults)

        def rule(request: Request) -> Fault | None:
            return left.pop(0) if left and wanted(request) else None

        self.rules.append(rule)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    proxy: Proxy

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        proxy = self.proxy
        request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        proxy.seen.append(request)
        fault = next((found for rule in proxy.rules if (found := rule(request))), None)
        body = self._body()
        if fault is not None and fault.status:
            for _ in body:
                pass
            self._answer(fault.status, {"Content-Length": str(len(fault.body))}, [fault.body])
            return
        upstream = http.client.HTTPConnection(*proxy.upstream, timeout=60)
        try:
            hop = ("expect", "connection", "proxy-connection")
            headers = {k: v for k, v in self.headers.items() if k.lower() not in hop}
            path = proxy.rewrite(request)
            if path != self.path:
                headers["Host"] = f"{proxy.upstream[0]}:{proxy.upstream[1]}"
            upstream.request(self.command, path, body=body, headers=headers)
            answer = upstream.getresponse()
            if fault is not None and fault.lose:
                answer.read()
                self.close_connection = True
                return
            self._relay(answer, fault.cut if fault is not None else None)
        except OSError:
            self.close_connection = True
        finally:
            upstream.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle

    def _body(self) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            self.proxy.each_block(min(left, BLOCK))
            block = self.rfile.read(min(left, BLOCK))
            if not block:
                raise ConnectionResetError
            left -= len(block)
            yield block

    def _relay(self, answer: http.client.HTTPResponse, cut: int | None) -> None:
        left_out = ("transfer-encoding", "connection", *self.proxy.hidden)
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in left_out}
        if "content-length" not in {name.lower() for name in headers}:
            whole = answer.read()
            self._answer(answer.status, {**headers, "Content-Length": str(len(whole))}, [whole])
            return
        self._answer(answer.status, headers, iter(lambda: answer.read(BLOCK), b""), cut)

    def _answer(self, status: int, headers: dict[str, str], blocks: Any, cut: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        for block in blocks:
            if cut is not None and len(block) > cut:
                self.wfile.write(block[:cut])
                self.wfile.flush()
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.wfile.write(block)
            cut = cut - len(block) if cut is not None else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing: broken connections are what these tests are about."""


@contextmanager
def proxy_to(url: str, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Run a proxy to the endpoint."""
    split = urlsplit(url)
    handler = type("Handler", (_Handler,), {})
    server = _Server(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    port = server.server_address[1]
    scheme = "http" if tls is None else "https"
    handler.proxy = proxy = Proxy(  # type: ignore[attr-defined]
        f"{scheme}://127.0.0.1:{port}", port, (str(split.hostname), int(split.port or 80))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def moto_server(directory: Path) -> Iterator[str]:
    """Run moto, which does what AWS does; give its URL."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (directory / "moto.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                said = (directory / "moto.log").read_text()
                assert process.poll() is None, said
                assert time.monotonic() < end, said
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()
