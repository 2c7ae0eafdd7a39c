"""Connections to registry servers: which to ask, for how long, and when again."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from glancelike.errors import ConfigError, OutcomeUnknown, RegistryError, RegistryUnavailable
from glancelike.outbound.sockets import pools, within
from glancelike.registry import wire
from glancelike.urlrules import FetchLimits

CONNECTIONS = 32  # kept open to each server
CONNECT_SECONDS = 3.0  # a host that doesn't take a connection for so long is away
AWAY_SECONDS = 10.0  # a server that was away is asked last for so long
SHOWN = 500  # bytes of what a stranger answers


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said; ``failed`` if it is a Failure, ``where`` names the server."""

    media_type: str
    body: bytes
    failed: bool
    where: str


class _NotDone(Exception):
    """The call certainly wasn't carried out."""


class _Unclear(Exception):
    """The call may have been carried out."""


@dataclass(slots=True)
class _Server:
    url: str
    pool: urllib3.HTTPConnectionPool
    away_until: float = field(default=0.0)

    def send(self, path: str, headers: dict[str, str], body: bytes, seconds: float) -> Answer:
        """Send once; raise _NotDone, _Unclear or RegistryError."""
        where = f"the registry server {self.url}"
        timeout = urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), read=seconds)
        try:
            with within(seconds):
                answer = self.pool.urlopen(
                    "POST",
                    urlsplit(self.url).path + wire.ROOT + path,
                    body,
                    headers,
                    retries=False,
                    redirect=False,
                    timeout=timeout,
                    preload_content=False,
                    decode_content=False,
                )
                said = _read(answer)
        except (ConnectTimeoutError, NewConnectionError) as error:
            raise _NotDone(f"{where} is away: {_told(error)}") from error
        except (HTTPError, OSError) as error:
            kind = _NotDone if _untrusted(error) else _Unclear
            raise kind(f"{where} doesn't answer: {_told(error)}") from error
        media_type = answer.headers.get("Content-Type", "").partition(";")[0]
        failed = wire.FAILED in answer.headers
        if failed or answer.status == 200:
            return Answer(media_type, said, failed, where)
        told = f"{where} answers {answer.status}: {said[:SHOWN].decode(errors='replace')}"
        if 400 <= answer.status < 500:
            raise _NotDone(told)
        if answer.status == 500:
            raise RegistryError(told)
        raise _Unclear(told)


class Link:
    """The way to servers that all serve the same registry; thread-safe once open.

    ``seconds`` bounds each call. Raises ConfigError for a bad endpoint.
    """

    def __init__(self, endpoints: Sequence[str], *, cafile: str | None, seconds: float) -> None:
        self._endpoints = [_checked(each) for each in endpoints]
        if not endpoints:
            raise ConfigError("registry_endpoints names no server")
        self._cafile = cafile
        self._seconds = seconds
        self._manager: urllib3.PoolManager | None = None
        self._servers: list[_Server] = []
        self._headers: dict[str, str] = {}

    @property
    def is_open(self) -> bool:
        return self._manager is not None

    def open(self, secret: str | None) -> None:
        """Get ready; nothing is connected yet. Raises ConfigError for the certificates."""
        self._manager = pools(FetchLimits(cafile=self._cafile), maxsize=CONNECTIONS)
        self._servers = [_Server(url, self._manager.connection_from_url(url)) for url in self._endpoints]
        self._headers = {wire.PROTOCOL_HEADER: str(wire.PROTOCOL), "Accept": wire.MSGPACK}
        if secret is not None:
            self._headers["Authorization"] = f"Bearer {secret}"

    def close(self) -> None:
        manager, self._manager, self._servers = self._manager, None, []
        if manager is not None:
            manager.clear()

    def send(self, path: str, media_type: str, body: bytes, *, repeat: bool) -> Answer:
        """Ask the servers in turn until one answers.

        ``repeat`` tells that being carried out twice does no harm. Raises
        RegistryUnavailable, RegistryError; OutcomeUnknown where it mustn't be
        repeated and may have been carried out.
        """
        headers = {**self._headers, "Content-Type": media_type}
        why: list[str] = []
        for server, seconds in self._turns(share=repeat):
            try:
                answer = server.send(path, headers, body, seconds)
            except (_NotDone, _Unclear) as error:
                server.away_until = time.monotonic() + AWAY_SECONDS
                why.append(str(error))
                if isinstance(error, _Unclear) and not repeat:
                    raise OutcomeUnknown("; ".join(why)) from error
            else:
                server.away_until = 0.0
                return answer
        raise RegistryUnavailable("; ".join(why))

    def _turns(self, *, share: bool) -> Iterator[tuple[_Server, float]]:
        """Yield the servers and the seconds that each has: a fair share, or all that is left."""
        now = time.monotonic()
        until = now + self._seconds
        servers = sorted(self._servers, key=lambda server: server.away_until > now)
        for number, server in enumerate(servers):
            left = until - time.monotonic()
            if left <= 0:
                return
            yield server, left / (len(servers) - number) if share else left


def _checked(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if "@" in parts.netloc:
        raise ConfigError("registry_endpoints: no credentials belong into a URL; see registry_secret_file")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"registry_endpoints: {endpoint!r} isn't like https://host:9191")
    return endpoint.rstrip("/")


def _read(answer: urllib3.BaseHTTPResponse) -> bytes:
    try:
        said = answer.read(wire.LARGEST_ANSWER + 1)
        if len(said) > wire.LARGEST_ANSWER:
            raise OSError(f"more than {wire.LARGEST_ANSWER} bytes")
    except BaseException:
        answer.close()
        raise
    answer.release_conn()
    return said


def _told(error: Exception) -> str:
    """Say what happened in the system's words, not in those of the layers above it."""
    return str(error.__cause__ if isinstance(error.__cause__, OSError) else error)


def _untrusted(error: BaseException | None) -> bool:
    """Tell whether the server's certificate was refused: then nothing was sent."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
