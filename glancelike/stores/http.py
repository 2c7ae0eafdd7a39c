"""A read-only store of what lies on web servers: a blob's key is its URL.

Nothing is written or deleted; such a blob becomes an image's data when its
URL is named as a location. Every URL, and every redirect, passes the store's
own rules, since callers name them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import quote, urlsplit

from glancelike.errors import (
    BlobNotFound,
    ConfigError,
    Forbidden,
    ForbiddenUrl,
    NotFound,
    StoreDenied,
    StoreUnavailable,
    Unreachable,
)
from glancelike.outbound.opener import Fetch, Opener
from glancelike.outbound.options import limit_options, limits_of, rule_options, rules_of
from glancelike.stores.base import BlobInfo, Cap, Store

PREFIX = "http_store_"
BLOCK = 1 << 20
PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class HttpStore(Store):
    """Read blobs by HTTP and HTTPS."""

    schemes = ("http", "https")
    capabilities = Cap.RANGE | Cap.URLS
    options = (*rule_options(PREFIX), *limit_options(PREFIX))

    def __init__(self, settings: dict[str, Any] | None = None) -> None:
        super().__init__(settings or {})
        self._rules = rules_of(self.settings, PREFIX)
        self._opener: Opener | None = None

    @classmethod
    def settings_from_uri(cls, uri: str) -> dict[str, Any]:
        """Accept ``http://``, and ``https://host``, which then is the only host."""
        split = urlsplit(uri)
        if split.netloc != (split.hostname or "") or split.path or split.query or split.fragment:
            raise ConfigError(f"{uri!r}: an HTTP store is written http:// or https://the.only.host")
        return {f"{PREFIX}allowed_hosts": [split.hostname]} if split.hostname else {}

    def open(self) -> None:
        self._opener = Opener(self._rules, limits_of(self.settings, PREFIX))

    def close(self) -> None:
        if self._opener is not None:
            self._opener.close()

    def key_of(self, url: str) -> str:
        normal = self._rules.parse(url).url
        # Never sent, but it tells two locations of the same data apart.
        fragment = quote(url.partition("#")[2], safe=PRINTABLE, errors="surrogatepass")
        return f"{normal}#{fragment}" if fragment else normal

    def url_of(self, key: str) -> str:
        return self.key_of(key)

    def key_of_location(self, url: str) -> str | None:
        return self.key_of(url) if urlsplit(url).scheme in self.schemes else None

    def stat(self, key: str) -> BlobInfo:
        with _store_errors():
            facts = self._opened.stat(_url(key))
        if facts.size is None:
            raise StoreUnavailable("the server doesn't tell the size of the data")
        return BlobInfo(key, facts.size, modified=facts.modified, etag=facts.etag)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        with _store_errors():
            return _Blocks(self._opened.open(_url(key), offset=offset, length=length))

    @property
    def _opened(self) -> Opener:
        if self._opener is None:
            raise StoreUnavailable("the store isn't open")
        return self._opener


class _Blocks:
    """The iterator over a blob, whose errors are a store's."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        with _store_errors():
            block = self._fetch.read(BLOCK)
        if not block:
            raise StopIteration
        return block

    def close(self) -> None:
        """Release the connection."""
        self._fetch.close()


def _url(key: str) -> str:
    if "://" not in key:
        raise BlobNotFound("no blob has a key that isn't a URL")
    return key


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise BlobNotFound(str(error)) from error
    except (Forbidden, ForbiddenUrl) as error:
        raise StoreDenied(str(error)) from error
    except Unreachable as error:
        raise StoreUnavailable(str(error)) from error
