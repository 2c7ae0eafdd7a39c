"""Requests to Swift: pooled connections, renewed tokens, repeats, mapped errors.

Only this module and ``auth`` know how swiftclient's connections work. They
aren't thread-safe, so each request has one for itself while it lasts.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import requests
import urllib3
from swiftclient.client import HTTPConnection

from glancelike.errors import StoreError, StoreUnavailable
from glancelike_store_swift.auth import Access, Auth
from glancelike_store_swift.failures import failure, passing

MOST_IDLE = 8
LONGEST_PAUSE = 5.0
BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
Query = Mapping[str, str | int]


def pause(attempt: int) -> None:
    """Wait before a request is repeated: 0.1 s, then twice as long each time."""
    time.sleep(min(0.1 * 2**attempt, LONGEST_PAUSE))


class Answer:
    """An answer with its whole body; ``tries`` tells how often it was asked for."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes, tries: int) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.tries = tries

    @property
    def ok(self) -> bool:
        return self.status < 300

    def json(self) -> Any:
        return json.loads(self.body or b"null")


class Stream:
    """An answer whose body is still to come; holds its connection until closed."""

    def __init__(
        self, connections: Connections, connection: HTTPConnection, response: requests.Response
    ) -> None:
        self._connections = connections
        self._connection: HTTPConnection | None = connection
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, empty at the end; raise StoreUnavailable when it breaks."""
        try:
            block: bytes = self._response.raw.read(size)
        except BROKEN as error:
            raise StoreUnavailable(f"the connection broke: {type(error).__name__}") from None
        return block

    def close(self, *, whole: bool = False) -> None:
        """Give the connection back if the ``whole`` body was read, else drop it."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # Not left to the connection: it takes a response with an error's status for none.
        self._response.close()
        if whole:
            self._connections.give(connection)
        else:
            connection.close()


class SizedBody:
    """A body of known length for requests: blocks, and their sum in advance."""

    def __init__(self, blocks: Iterator[bytes], length: int) -> None:
        self._blocks = blocks
        self._length = length

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def __len__(self) -> int:
        return self._length


class Connections:
    """Connections to a cluster that wait for their next request; safe to share between threads."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._how = {
            "cacert": settings["swift_store_cacert"],
            "insecure": settings["swift_store_auth_insecure"],
        }
        self._idle: list[HTTPConnection] = []
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def give(self, connection: HTTPConnection) -> None:
        """Take a connection back that may be used again."""
        with self._lock:
            if not self._closed and len(self._idle) < MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def take(self, server: str) -> HTTPConnection:
        """Return a connection to a server, given as the URL without its path."""
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if connection.url == server:
                    return connection
                connection.close()
        connection = HTTPConnection(server, **self._how)
        # A token doesn't follow redirections.
        connection.requests_args["allow_redirects"] = False
        return connection


class Client:
    """Ask one account of one cluster, by default the user's own; safe to share between threads."""

    def __init__(self, auth: Auth, settings: Mapping[str, Any]) -> None:
        self.auth = auth
        self.retries: int = settings["swift_store_retry_get_count"]
        self._timeout: float = settings["swift_store_timeout"]
        self._connections = Connections(settings)
        self._account: str | None = None

    def at(self, account: str) -> Client:
        """Return a client for another account, with the same login and connections."""
        other = copy.copy(self)
        other._account = account
        return other

    @property
    def url(self) -> str:
        """Return the storage URL, account included."""
        return self._access(self.auth.access()).url

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they come back."""
        self._connections.close()

    def _access(self, login: Access) -> Access:
        return login if self._account is None else login.to(self._account)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        expect: Collection[int] = (),
        patience: float = 1,
    ) -> Answer:
        """Ask, again if need be, and return the answer with its body.

        ``path`` is below the account. Statuses of ``expect`` are returned
        as successes are, others raised. ``patience`` multiplies the timeout.
        """
        for tries in range(self.retries // 2 + 1):
            last = tries == self.retries // 2
            try:
                stream = self._open(method, path, query, headers, body, patience)
                content = stream.read(64 << 20)
            except StoreUnavailable:
                if last:
                    raise
            else:
                stream.close(whole=True)
                if stream.status < 300 or stream.status in expect:
                    return Answer(stream.status, stream.headers, content, tries + 1)
                if last or not passing(stream.status):
                    raise failure(stream.status, f"{method} of {path or 'the account'}")
            pause(tries)
        raise AssertionError("the last try returns or raises")

    def stream(self, path: str, *, headers: Mapping[str, str], expect: Collection[int] = ()) -> Stream:
        """Start a download; the status is a success or in ``expect``, others are raised."""
        stream = self._open("GET", path, None, headers, b"", 1)
        if stream.status < 300 or stream.status in expect:
            return stream
        status = stream.status
        stream.close()
        raise failure(status, f"GET of {path}")

    def send(self, path: str, blocks: Iterator[bytes], length: int | None) -> Answer:
        """Upload blocks that can't be had twice, so once; None means a length still unknown."""
        body = blocks if length is None else SizedBody(blocks, length)
        headers = {"Content-Type": "application/octet-stream"}
        stream = self._once("PUT", path, None, headers, body, 1, self._access(self.auth.access()))
        content = stream.read(1 << 20)
        stream.close(whole=True)
        if stream.status >= 300:
            raise failure(stream.status, f"PUT of {path}")
        return Answer(stream.status, stream.headers, content, 1)

    def info(self) -> Any:
        """Return what the cluster tells of itself to everybody; None if it doesn't."""
        parts = urlsplit(self.auth.access().url)
        with suppress(StoreError, ValueError):
            stream = self._raw("GET", f"{parts.scheme}://{parts.netloc}", "/info", {}, b"", 1)
            content = stream.read(1 << 20)
            stream.close(whole=True)
            return json.loads(content) if stream.status == 200 else None
        return None

    def _open(
        self,
        method: str,
        path: str,
        query: Query | None,
        headers: Mapping[str, str] | None,
        body: bytes,
        patience: float,
    ) -> Stream:
        """Ask once; once more with a new token when the old one is refused."""
        access = self.auth.access()
        stream = self._once(method, path, query, headers, body, patience, self._access(access))
        if stream.status != 401:
            return stream
        stream.close()
        self.auth.renew(access)
        return self._once(method, path, query, headers, body, patience, self._access(self.auth.access()))

    def _once(
        self,
        method: str,
        path: str,
        query: Query | None,
        headers: Mapping[str, str] | None,
        body: Any,
        patience: float,
        access: Access,
    ) -> Stream:
        parts = urlsplit(access.url)
        full = f"{parts.path}/{quote(path)}" if path else parts.path
        if query:
            full += f"?{urlencode(query)}"
        sent = {**(headers or {}), "X-Auth-Token": access.token}
        return self._raw(method, f"{parts.scheme}://{parts.netloc}", full, sent, body, patience)

    def _raw(
        self, method: str, server: str, path: str, headers: Mapping[str, str], body: Any, patience: float
    ) -> Stream:
        connection = self._connections.take(server)
        connection.requests_args["timeout"] = self._timeout * patience
        try:
            response = connection.request(method, path, data=body, headers=headers)
            if "Date" not in response.headers:
                # Every server sends one, and Swift sends it last. http.client takes headers
                # that a broken connection has cut off for whole.
                raise ConnectionError("the answer's headers were cut off")
            return Stream(self._connections, connection, response)
        except BaseException as error:
            if connection.resp is not None:
                connection.resp.close()
            connection.close()
            if isinstance(error, BROKEN):
                # Neither text nor cause: both may hold the URL and the headers.
                raise StoreUnavailable(f"{method}: no answer: {type(error).__name__}") from None
            raise
