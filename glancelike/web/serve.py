"""Run a WSGI application under gunicorn's threads, and die properly.

The application is made in each worker after the fork, so no connection or
thread crosses it, and unmade when the worker ends. What stops the start is
told in one line and a status other than 0: a port in use, a broken
configuration, an outdated schema. Once the service has run, a worker that
can't start is tried again: a database that restarts must not end the rest.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import math
import mmap
import os
import select
import signal
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.errors import HaltServer  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from glancelike.ending import end
from glancelike.starting import settle
from glancelike.web import logs

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Factory = Callable[[], AbstractContextManager[WsgiApp]]
Keys = tuple[Path, Path | None]  # a certificate, and its key where that is in another file

log = logging.getLogger(__name__)
access_log = logging.getLogger("glancelike.access")

STALL_SECONDS = 60.0  # a peer that neither sends nor takes a byte for so long is gone
SENDFILE_MOST = 1 << 30  # bytes a call; the kernel takes no more than 2 GiB
HEAD_SECONDS = 10.0  # what a request's line and headers may take in all
GRACE_SECONDS = 30.0  # for requests that are under way when the end comes: they may move images
RESPAWN_SECONDS = 1.0
NEXT_MILLISECONDS = 2  # for which a thread waits for a connection's next request
PEERS_A_THREAD = 16  # requests under way that wait for their peers, for each that may be at work
PR_SET_PDEATHSIG = 1

# What gunicorn adds to a failed start that has been told already.
ECHO = ("Worker (pid:%s) exited with code %s.", "Shutting down: %s", "Reason: %s")


def run(
    factory: Factory,
    *,
    name: str,
    host: str,
    port: int,
    workers: int = 1,
    threads: int = 16,
    debug: bool = False,
    certfile: Path | None = None,
    keyfile: Path | None = None,
    grace: float = GRACE_SECONDS,
    limit: float = GRACE_SECONDS,
) -> NoReturn:
    """Serve until a signal ends it; exit with 0 then, else with an error.

    ``factory`` gives a context manager whose value is the application; it
    is entered in each worker and left when the worker ends. Port 0 takes
    any free one; the log tells which. With ``certfile`` it speaks TLS;
    workers read the files anew when SIGHUP renews them.

    Told to end, it lets requests under way go on for ``grace`` seconds and then leaves the
    context; it has ended after ``limit``, whoever doesn't answer it.
    """
    logs.configure(debug=debug)
    keys = None if certfile is None else (certfile, keyfile)
    try:
        if keys is not None:
            _tls(*keys)
    except ValueError as error:
        sys.exit(f"{name}: {error}")
    listener = _listen(name, host, port)
    address = listener.getsockname()
    log.info("%s listens on http%s://%s:%d", name, "s" if certfile else "", host, address[1])
    server = _Server(factory, name, listener.detach(), workers, threads, keys, (grace, limit))
    settle()  # before the fork: what is imported stays shared with the workers
    try:
        server.run()
    except HaltServer as halt:
        # A second worker failed while gunicorn was halting for the first. The
        # workers that are left die with us.
        sys.exit(halt.exit_status)
    sys.exit(0)


def _listen(name: str, host: str, port: int) -> socket.socket:
    """Bind here, not in gunicorn, which would try five times and trace back."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, proto, _, address = found[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        sys.exit(f"{name}: can't listen on {host}:{port}: {error.strerror or error}")
    return listener


def _tls(certfile: Path, keyfile: Path | None) -> ssl.SSLContext:
    """Read the certificate; raise ValueError, which names the files."""

    def password() -> str:
        raise ValueError(f"keyfile {keyfile or certfile} has a password")

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.sslsocket_class = _TlsSocket
    try:
        context.load_cert_chain(certfile, keyfile, password=password)
    except OSError as error:
        raise ValueError(f"certfile {certfile}, keyfile {keyfile}: {error.strerror or error}") from error
    return context


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(
        self,
        factory: Factory,
        name: str,
        listener: int,
        workers: int,
        threads: int,
        keys: Keys | None,
        patience: tuple[float, float],
    ) -> None:
        self._factory = factory
        self._name = name
        self._keys = keys
        self._grace = math.ceil(patience[0])
        self._context: ssl.SSLContext | None = None  # made in each worker, so that SIGHUP renews it
        self._options = {
            "bind": f"fd://{listener}",
            "workers": workers,
            "worker_class": _Worker,
            "threads": threads,
            "logger_class": _Logger,
            "proc_name": name,
            # The heartbeat comes from the worker's main thread, which never
            # serves: it stops only when the whole process hangs.
            "timeout": 60,
            "graceful_timeout": math.ceil(patience[1]),  # the master's; its workers have another
            "keepalive": 20,
            # "sendfile" isn't set: gunicorn takes any value given for "no".
            "control_socket_disable": True,
            "limit_request_line": 8190,
            "forwarder_headers": "",
            # Whom to believe is ProxyHeaders' business, and the operator's.
            "secure_scheme_headers": {},
            "post_fork": self._forked,
            "worker_exit": self._ended,
            **({} if keys is None else {"certfile": str(keys[0]), "ssl_context": self._tls}),
        }
        self._has_run = mmap.mmap(-1, 1)  # shared with all workers: whether one has ever started
        self._stack = ExitStack()
        self._told, teller = os.pipe()  # one byte: the right to tell why the start failed
        os.write(teller, b"!")
        os.close(teller)
        super().__init__()

    def load_config(self) -> None:
        for key, value in self._options.items():
            self.cfg.set(key, value)

    def _tls(self, _conf: Any, _default: Any) -> ssl.SSLContext | None:
        """Give gunicorn the worker's one context, not one for each connection."""
        return self._context

    def load(self) -> WsgiApp:
        """Make the application in a worker."""
        try:
            if self._keys is not None:
                self._context = _tls(*self._keys)
            app = self._stack.enter_context(self._factory())
            self._has_run[0] = 1
            return app
        except Exception as error:
            if self._has_run[0]:
                log.exception("%s: a worker can't start, trying again", self._name)
                time.sleep(RESPAWN_SECONDS)
                sys.exit(1)
            if os.read(self._told, 1):
                log.debug("%s can't start", self._name, exc_info=True)
                print(f"{self._name}: {error or type(error).__name__}", file=sys.stderr)  # noqa: T201
            sys.exit(Arbiter.APP_LOAD_ERROR)

    def _forked(self, arbiter: Any, worker: Any) -> None:
        """Die with the master, whatever kills it: nothing would restart us."""
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != worker.ppid:
            os._exit(1)
        worker.cfg.set("graceful_timeout", self._grace)

    def _ended(self, arbiter: Any, worker: Any) -> None:
        self._stack.close()
        leaving = sys.exc_info()[1]
        if isinstance(leaving, SystemExit) and not leaving.code:
            end(0)  # or the interpreter would wait for requests that there was no more time for


class _Worker(ThreadWorker):  # type: ignore[misc]
    """Threads that don't wait for ever for a silent peer, and whose number slow peers don't use up.

    There is a thread for each request under way, but only as many as
    ``threads`` says are at work: who waits for bytes of its peer, or until
    the peer takes some, lets another have its turn.
    """

    def get_thread_pool(self) -> ThreadPoolExecutor:
        self._turns: SimpleQueue[None] = SimpleQueue()
        for _ in range(self.cfg.threads):
            self._turns.put(None)
        return ThreadPoolExecutor(min(self.worker_connections, self.cfg.threads * PEERS_A_THREAD))

    def enqueue_req(self, conn: Any) -> None:
        plain = conn.sock
        if not isinstance(plain, _Patient):
            conn.sock = _Socket(plain.family, plain.type, plain.proto, fileno=plain.detach())
        super().enqueue_req(conn)

    def handle(self, conn: Any) -> Any:
        """Serve a connection's requests for as long as one closely follows the other.

        To give a connection back to the main thread, which watches the idle ones, and to be
        given it again costs as much as a small request.
        """
        while True:
            # In all: a byte now and then would hold a thread for ever.
            conn.sock.head_until = time.monotonic() + HEAD_SECONDS
            kept = super().handle(conn)
            if kept is not True or not self.alive or not _next_is_here(conn):
                return kept

    def handle_request(self, req: Any, conn: Any) -> Any:
        conn.sock.head_until = None
        conn.sock.setblocking(True)
        self._turns.get()
        conn.sock.turns = self._turns
        try:
            return super().handle_request(req, conn)
        finally:
            conn.sock.turns = None
            self._turns.put(None)


def _next_is_here(conn: Any) -> bool:
    """Wait a moment for a connection's next request."""
    if conn.parser.unreader.buf.getvalue() or (isinstance(conn.sock, ssl.SSLSocket) and conn.sock.pending()):
        return True
    watched = select.poll()
    watched.register(conn.sock, select.POLLIN)
    return bool(watched.poll(NEXT_MILLISECONDS))


class _Patient(socket.socket):
    """A socket whose blocking calls end when the peer stalls.

    gunicorn knows a reset connection as everyday news, so a stall becomes one.
    """

    head_until: float | None = None  # time.monotonic(), while a request's head is read
    turns: SimpleQueue[None] | None = None  # while a request is at work

    def setblocking(self, flag: bool, /) -> None:
        self.settimeout(STALL_SECONDS if flag else 0.0)

    def recv(self, *args: Any) -> bytes:
        if self.head_until is not None:
            self.settimeout(max(0.001, self.head_until - time.monotonic()))
        with _Wait(self):
            return super().recv(*args)

    def sendall(self, *args: Any) -> None:
        with _Wait(self):
            super().sendall(*args)

    def sendfile(self, *args: Any, **kwargs: Any) -> int:
        with _Wait(self):
            return super().sendfile(*args, **kwargs)


class _Socket(_Patient):
    """Without TLS."""

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send a file within the kernel, which also waits for room there.

        The library's own, of a socket with a timeout, is told each time that the buffer is full,
        and asks when it no longer is: a third more CPU time.
        """
        timeout = self.gettimeout()
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout or STALL_SECONDS))
        self.settimeout(None)
        at, end = offset, float("inf") if count is None else offset + count
        try:
            with _Wait(self):
                while at < end and (sent := self._send_some(file, at, end)):
                    at += sent
        finally:
            self.settimeout(timeout)
            file.seek(at)  # as the library's does: who gave the file learns how much went out
        return at - offset

    def _send_some(self, file: Any, at: int, end: float) -> int:
        try:
            return os.sendfile(self.fileno(), file.fileno(), at, int(min(SENDFILE_MOST, end - at)))
        except BlockingIOError as error:
            raise TimeoutError from error


def _timeval(seconds: float) -> bytes:
    """Pack a struct timeval."""
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))


class _TlsSocket(_Patient, ssl.SSLSocket):
    """With TLS, whose handshake has the time of a request's head."""

    def do_handshake(self, block: bool = False) -> None:
        self.settimeout(HEAD_SECONDS)
        with _Wait(self):
            super().do_handshake(block)


class _Wait:
    """Waiting for the peer: another has the turn meanwhile, and a stall is a reset.

    A class, since a generator would cost more than what it surrounds.
    """

    def __init__(self, sock: _Patient) -> None:
        self._turns = sock.turns

    def __enter__(self) -> None:
        if self._turns is not None:
            self._turns.put(None)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._turns is not None:
            self._turns.get()
        if isinstance(error, TimeoutError):
            raise ConnectionResetError(errno.ECONNRESET, "the peer stalled") from error


class _Logger(Logger):  # type: ignore[misc]
    """Send gunicorn's messages through the program's own logging."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)

    def error(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        self.error_log.log(logging.DEBUG if msg in ECHO else logging.ERROR, msg, *args, **kwargs)

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Write one line when the last byte is out."""
        if not access_log.isEnabledFor(logging.INFO):
            return
        sent = getattr(resp, "sent", 0)
        if not sent and environ.get("REQUEST_METHOD") != "HEAD":
            sent = getattr(resp, "response_length", 0) or 0  # sendfile doesn't count
        access_log.info(
            "method=%s path=%s status=%s bytes=%d ms=%.1f request_id=%s project=%s client=%s%s",
            environ.get("REQUEST_METHOD", "-"),
            (environ.get("RAW_URI") or "-").partition("?")[0],
            str(resp.status).partition(" ")[0],
            sent,
            request_time.total_seconds() * 1000,
            environ.get("app.request_id", "-"),
            environ.get("app.project") or "-",
            environ.get("REMOTE_ADDR", "-"),
            f" global_request_id={environ['app.global_request_id']}"
            if "app.global_request_id" in environ
            else "",
        )
