"""Connections that keep to the time of the call that reads from them."""

from __future__ import annotations

import io
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from glancelike.errors import ConfigError
from glancelike.urlrules import FetchLimits

# A socket's timeout starts anew with each byte, so a peer that sends one a
# minute is never too slow. These ones end with the call that reads.
_CALL = threading.local()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let this thread's reading from peers take so long at most."""
    before = getattr(_CALL, "until", 0.0)
    _CALL.until = time.monotonic() + seconds
    try:
        yield
    finally:
        _CALL.until = before


class _PacedFile(io.RawIOBase):
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        left = getattr(_CALL, "until", 0.0) - time.monotonic()
        if left <= 0:
            raise TimeoutError("the peer is too slow")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _PacedSocket:
    """A connected socket whose file keeps to the time of the call."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        """Open the file that http.client reads answers from."""
        return io.BufferedReader(_PacedFile(self._sock), 1 << 16)


class _Connection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.sock: Any = _PacedSocket(self.sock)


class _TlsConnection(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        self.sock: Any = _PacedSocket(self.sock)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def pools(limits: FetchLimits, *, maxsize: int = 8) -> urllib3.PoolManager:
    """Make the pools of connections, ``maxsize`` kept to each server.

    Raises ConfigError for ``limits.cafile``.
    """
    manager = urllib3.PoolManager(
        num_pools=32,
        maxsize=maxsize,
        timeout=urllib3.Timeout(connect=limits.connect_seconds, read=limits.read_seconds),
        ssl_context=_tls(limits),
        cert_reqs="CERT_REQUIRED" if limits.verify else "CERT_NONE",
    )
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return manager


def _tls(limits: FetchLimits) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=limits.cafile)
    except OSError as error:
        raise ConfigError(f"certificates {limits.cafile}: {error}") from error
    if not limits.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _WithoutQuery(logging.Filter):
    """Cuts queries, which may be credentials, out of what urllib3 logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
        return True


for _logger in ("urllib3.connection", "urllib3.connectionpool"):
    logging.getLogger(_logger).addFilter(_WithoutQuery())
