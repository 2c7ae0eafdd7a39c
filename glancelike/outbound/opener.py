"""Open a URL under its rules, and read it to its end."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPException
from typing import Self
from urllib.parse import quote, urljoin

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError

from glancelike.errors import Forbidden, ForbiddenUrl, ImageTooLarge, InvalidRange, NotFound, Unreachable
from glancelike.outbound.answers import Broken, Facts, drop, facts_of, refusal_of, start_of, total_of
from glancelike.outbound.patience import Patience
from glancelike.outbound.sockets import pools, within
from glancelike.urlrules import FetchLimits, Resolver, Target, UrlRules

PULL = 256 << 10  # what a peer has ``read_seconds`` for
ADDRESSES = 4  # how many of a name's are tried
REDIRECTS = {301, 302, 303, 307, 308}
NO_HEAD = {400, 401, 403, 405, 501}  # of servers, or of signed URLs, that know GET only

_SAFE = "".join(map(chr, range(0x21, 0x7F)))


class Opener:
    """Opens URLs under one set of rules; thread-safe. Connections are kept for reuse.

    ``resolver`` is called as ``socket.getaddrinfo``. Raises ConfigError when
    ``limits.cafile`` can't be used.
    """

    def __init__(
        self,
        rules: UrlRules,
        limits: FetchLimits | None = None,
        *,
        resolver: Resolver = socket.getaddrinfo,
    ) -> None:
        self.rules = rules
        self.limits = limits or FetchLimits()
        self._resolver = resolver
        self._pools = pools(self.limits)

    def close(self) -> None:
        """Close the connections kept for reuse."""
        self._pools.clear()

    def open(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        offset: int = 0,
        length: int | None = None,
        cap: int | None = None,
    ) -> Fetch:
        """Start reading a URL, from ``offset`` on, ``length`` bytes or to its end.

        ``headers`` are sent to the URL's own origin alone. ``cap`` is the
        most bytes that may come. Raises ForbiddenUrl, NotFound, Forbidden,
        InvalidRange, ImageTooLarge and Unreachable; so does reading.
        """
        return Fetch(self, url, dict(headers or {}), offset, length, cap)

    def stat(self, url: str, *, headers: Mapping[str, str] | None = None) -> Facts:
        """Ask what is at a URL without reading it; raise as ``open`` does."""
        patience = Patience(self.limits)
        return patience.on(lambda: self._stat(url, dict(headers or {})), lambda: 0)

    def _stat(self, url: str, headers: dict[str, str]) -> Facts:
        answer, target, _ = self.follow("HEAD", url, headers, {})
        drop(answer)
        if answer.status == 200 and "Content-Length" in answer.headers:
            return facts_of(answer, target)
        if answer.status not in NO_HEAD | {200}:
            raise refusal_of(answer, target)
        answer, target, _ = self.follow("GET", url, headers, {"Range": "bytes=0-0"})
        drop(answer)
        if answer.status in (200, 206) or (answer.status == 416 and total_of(answer) == 0):
            return facts_of(answer, target)
        raise refusal_of(answer, target)

    def follow(
        self, method: str, url: str, own: dict[str, str], asked: Mapping[str, str]
    ) -> tuple[urllib3.BaseHTTPResponse, Target, dict[str, str]]:
        """Send a request and go where it is redirected, judging each hop.

        Returns the answer, unread, where it came from, and those of the
        caller's ``own`` headers that were still sent there.
        """
        target = self.rules.parse(url)
        for _ in range(self.limits.redirects + 1):
            answer = self._ask(method, target, {**own, **asked})
            location = answer.headers.get("Location")
            if answer.status not in REDIRECTS or not location:
                return answer, target, own
            drop(answer)
            onward = self._onward(target, location)
            own = own if onward.origin == target.origin else {}
            target = onward
        raise Unreachable(f"{target}: more than {self.limits.redirects} redirects")

    def _onward(self, target: Target, location: str) -> Target:
        # What http.client has decoded as Latin-1 goes back as the bytes that came.
        reference = quote(location, safe=_SAFE, encoding="latin-1")
        try:
            onward = self.rules.parse(urljoin(target.url, reference))
        except ValueError:
            raise ForbiddenUrl(f"{target} redirects to what isn't a URL") from None
        if (target.scheme, onward.scheme) == ("https", "http") and not self.rules.allow_insecure_redirects:
            raise ForbiddenUrl(f"{target} redirects from https to http")
        return onward

    def _ask(self, method: str, target: Target, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        sent = {
            "User-Agent": "glancelike",
            **headers,
            "Host": target.authority,
            "Accept-Encoding": "identity",
        }
        trouble: Exception | None = None
        for address in self._addresses(target)[:ADDRESSES]:
            # Server name and certificate are those of the name, whatever the address.
            named = {"server_hostname": target.host} if target.scheme == "https" else {}
            pool = self._pools.connection_from_host(address, target.port, target.scheme, named)
            try:
                with within(self.limits.connect_seconds + self.limits.read_seconds):
                    return pool.urlopen(
                        method,
                        target.path,
                        headers=sent,
                        retries=False,
                        redirect=False,
                        assert_same_host=False,
                        preload_content=False,
                        decode_content=False,
                    )
            except (NewConnectionError, ConnectTimeoutError) as error:
                trouble = error
            except SSLError as error:
                raise Unreachable(f"{target}: no safe connection: {error}") from error
            except (HTTPError, HTTPException, OSError) as error:
                raise Broken(f"{target} doesn't answer") from error
        raise Broken(f"{target}: no connection") from trouble

    def _addresses(self, target: Target) -> tuple[str, ...]:
        try:
            return self.rules.resolve(target, self._resolver)
        except Unreachable as error:
            raise Broken(str(error)) from error


class Fetch:
    """The data at a URL as a Source, and as an iterable of blocks.

    ``size`` is the number of bytes that will come, None if nobody knows.
    What breaks off is taken up again where it stopped, if the server can do
    that and the data is still the same. Close it when done.
    """

    def __init__(
        self,
        opener: Opener,
        url: str,
        headers: dict[str, str],
        offset: int,
        length: int | None,
        cap: int | None,
    ) -> None:
        self.url = url
        self.count = 0
        self.size: int | None = None
        self.facts: Facts | None = None
        self._opener = opener
        self._offset = offset
        self._length = length
        self._cap = cap
        # Where reading is taken up again: the last hop while that is good, so
        # that a chain of mirrors doesn't lead to another one in the middle.
        self._first = self._next = (url, headers)
        self._patience = Patience(opener.limits)
        self._answer: urllib3.BaseHTTPResponse | None = None
        self._ended = False
        self._patience.on(self._connect, lambda: self.count)
        if self.size == 0:
            self._finish()

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(PULL), b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the connection; reading on finds the end."""
        self._ended = True
        self._drop()

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, empty at the end only.

        Raises ImageTooLarge, and Unreachable when the data breaks off for
        good or has changed since the beginning.
        """
        block = b"" if self._ended else self._patience.on(lambda: self._pull(size), lambda: self.count)
        self.count += len(block)
        if self._cap is not None and self.count > self._cap:
            self._too_large()
        if not block or self.count == self._end:
            self._finish()
        return block

    @property
    def _end(self) -> int | None:
        """How many bytes to hand out at most."""
        return self._length if self.size is None else self.size

    def _pull(self, size: int) -> bytes:
        if self._answer is None:
            self._connect()
        assert self._answer is not None  # noqa: S101 - _connect has set it
        wanted = min(size, PULL) if self._end is None else min(size, PULL, self._end - self.count)
        try:
            with within(self._opener.limits.read_seconds):
                block = self._answer.read(wanted)
        except (HTTPError, HTTPException, OSError) as error:
            self._drop()
            raise Broken(f"{self._shown}: the data broke off after {self.count} bytes") from error
        except BaseException:
            self._drop()
            raise
        if not block and self.size is not None:
            self._drop()
            raise Broken(f"{self._shown}: the data ended after {self.count} of {self.size} bytes")
        return block

    def _connect(self) -> None:
        """Ask for the data, or for the rest of it."""
        at = self._offset + self.count
        asked = {}
        if at or self._length is not None:
            end = "" if self._length is None else self._offset + self._length - 1
            asked["Range"] = f"bytes={at}-{end}"
        if self.count:
            asked["If-Range"] = self._validator()
        url, headers = self._next
        answer, target, sent = self._opener.follow("GET", url, headers, asked)
        try:
            self._accept(answer, target, at)
            if answer.status == 200 and at:
                self._skip(answer, target, at)
        except (NotFound, Forbidden) as error:
            drop(answer)
            if self._next is self._first:
                raise
            self._next = self._first
            raise Broken(str(error)) from error
        except BaseException:
            drop(answer)
            raise
        self._answer = answer
        self._next = (target.url, sent)

    def _validator(self) -> str:
        found = self.facts.validator if self.facts is not None else None
        if found is None:
            raise Unreachable(
                f"{self._shown}: the data broke off after {self.count} bytes, and the server gives "
                f"neither ETag nor Last-Modified by which to go on"
            )
        return found

    def _accept(self, answer: urllib3.BaseHTTPResponse, target: Target, at: int) -> None:
        """Check that the answer is what was asked for; set ``size`` and ``facts``."""
        if answer.status == 416:
            if not at and total_of(answer) == 0:
                self._note(Facts(0))
                return
            if not self.count:
                raise InvalidRange(f"{target}: there are no bytes from {at} on")
        if answer.status not in (200, 206, 416):
            raise refusal_of(answer, target)
        facts = facts_of(answer, target)
        if self.facts is not None and (facts.contradicts(self.facts) or answer.status == 416):
            raise Unreachable(f"{target}: the data has changed after {self.count} bytes were read")
        if answer.status == 200 and at:
            if facts.size is not None and at >= facts.size:
                raise InvalidRange(f"{target}: there are no bytes from {at} on")
            self._check_skip(target, facts, at)
        if answer.status == 206 and start_of(answer) != at:
            raise Unreachable(f"{target}: other bytes came than those from {at} on")
        self._note(facts)

    def _check_skip(self, target: Target, facts: Facts, at: int) -> None:
        """See that what comes from byte 0 on may be read up to ``at``, and is the same data."""
        limit = self._opener.limits.skip_bytes
        if at > limit:
            raise Unreachable(
                f"{target}: the server has no ranges, so that it can't be read from byte {at} on "
                f"(up to {limit} are skipped)"
            )
        if self.count and facts.validator != self._validator():
            raise Unreachable(
                f"{target}: the server has no ranges, and doesn't tell that the data is the same"
            )

    def _skip(self, answer: urllib3.BaseHTTPResponse, target: Target, at: int) -> None:
        left = at
        while left:
            try:
                with within(self._opener.limits.read_seconds):
                    block = answer.read(min(left, PULL))
            except (HTTPError, HTTPException, OSError) as error:
                raise Broken(f"{target}: the data broke off before byte {at}") from error
            if not block:
                if self.count or self.size is not None:
                    raise Broken(f"{target}: the data ended before byte {at}")
                raise InvalidRange(f"{target}: there are no bytes from {at} on")
            left -= len(block)

    def _note(self, facts: Facts) -> None:
        # A resumed answer may tell less than the first.
        self.facts = self.facts or facts
        if facts.size is not None:
            left = max(0, facts.size - self._offset)
            self.size = left if self._length is None else min(left, self._length)
        if self._cap is not None and self.size is not None and self.size > self._cap:
            self._too_large()

    def _too_large(self) -> None:
        self.close()
        raise ImageTooLarge(f"{self._shown} has more than the {self._cap} bytes that may come")

    def _finish(self) -> None:
        """Keep the connection if it can be used again."""
        self._ended = True
        answer, self._answer = self._answer, None
        if answer is not None:
            if answer.length_remaining == 0:
                answer.release_conn()
            else:
                drop(answer)

    def _drop(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            drop(answer)

    @property
    def _shown(self) -> Target:
        return self._opener.rules.parse(self._next[0])


@contextmanager
def open_url(
    url: str,
    rules: UrlRules,
    limits: FetchLimits | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    cap: int | None = None,
    resolver: Resolver = socket.getaddrinfo,
) -> Iterator[Fetch]:
    """Read one URL: ``with open_url(url, rules) as source``; see ``Opener.open``."""
    with (
        closing(Opener(rules, limits, resolver=resolver)) as opener,
        opener.open(url, headers=headers, cap=cap) as fetch,
    ):
        yield fetch
