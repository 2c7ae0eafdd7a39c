"""The HTTP store against the store contract, on a real web server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pytest

from glancelike.errors import (
    BlobNotFound,
    ConfigError,
    ForbiddenUrl,
    InvalidKey,
    StoreDenied,
    StoreUnavailable,
    Unsupported,
)
from glancelike.stores.guard import Guard
from glancelike.stores.http import HttpStore
from glancelike.testing import StoreConformance
from tests.web_server import Request, WebServer, redirecting, reply, serving, web_server

LOCAL = {
    "http_store_allowed_networks": ["127.0.0.0/8"],
    "http_store_allowed_ports": [],
    "http_store_retries": 0,
}


@pytest.fixture(name="web")
def web_fixture() -> Iterator[WebServer]:
    with web_server() as web:
        yield web


@pytest.fixture(name="guard")
def guard_fixture() -> Iterator[Guard]:
    guard = Guard(HttpStore(LOCAL), store_id="web")
    guard.open()
    yield guard
    guard.close()


class TestHttpStore(StoreConformance):
    variants = ("bare",)
    web: WebServer

    @pytest.fixture(autouse=True)
    def _web(self, web: WebServer) -> None:
        self.web = web

    def backend(self) -> str:
        return "Python's http.server"

    def make_store(self) -> HttpStore:
        return HttpStore(LOCAL)

    def name_key(self, name: str) -> str:
        return self.web.url(f"/{name}")

    def seed(self, key: str, data: bytes) -> None:
        self.web.answers[key.removeprefix(self.web.url(""))] = serving(data)


def test_uri() -> None:
    assert HttpStore.settings_from_uri("http://") == {}
    only = HttpStore.settings_from_uri("https://mirror.example")
    assert only == {"http_store_allowed_hosts": ["mirror.example"]}
    for uri in ("http://user:secret@host", "http://host/path", "http://host:81"):
        with pytest.raises(ConfigError, match="the.only.host"):
            HttpStore.settings_from_uri(uri)


def test_keys_are_urls_in_their_normal_form(guard: Guard) -> None:
    assert guard.key_of("HTTP://Example.COM.:80/a b".replace(" ", "%20")) == "http://example.com/a%20b"
    assert guard.url_of("http://example.com/a%20b") == "http://example.com/a%20b"
    # What is never sent tells two locations of the same data apart.
    assert (
        guard.key_of("http://example.com#2")
        == guard.key_of("http://example.com/#2")
        == "http://example.com/#2"
    )
    assert guard.key_of("http://example.com/#") == "http://example.com/"
    for key in ("http://Example.com/", "http://example.com:80/", "http://example.com/#", "ftp://x/y"):
        with pytest.raises(InvalidKey):
            guard.stat(key)
    with pytest.raises(BlobNotFound):
        guard.stat("flat-key")


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://169.254.169.254/", "http://127.1/"])
def test_cve_2026_34881_a_location_is_judged_too(guard: Guard, url: str) -> None:
    with pytest.raises(ForbiddenUrl):
        guard.key_of(url)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "filesystem:///etc/passwd", "filesystem://x/etc/passwd"]
)
def test_cve_2014_9493_cve_2015_1195_no_location_is_a_file(guard: Guard, url: str) -> None:
    with pytest.raises(ForbiddenUrl):
        guard.key_of(url)
    with pytest.raises(InvalidKey):
        guard.read(url)


def test_cve_2013_1840_no_location_holds_a_password(guard: Guard) -> None:
    url = "http://user:s3cret@example.com/"
    with pytest.raises(ForbiddenUrl) as caught:
        guard.key_of(url)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(InvalidKey) as refused:
        guard.stat(url)
    assert "s3cret" not in str(refused.value)


class TestHttpStoreOfServersWithoutRanges(TestHttpStore):
    """The whole comes, whatever is asked for."""

    def seed(self, key: str, data: bytes) -> None:
        def answer(request: Request, out: BinaryIO) -> bool:
            body = b"" if request.method == "HEAD" else data
            reply(out, 200, {"ETag": '"1"', "Content-Length": str(len(data))}, body)
            return True

        self.web.answers[key.removeprefix(self.web.url(""))] = answer


def test_a_file_that_changes_between_and_within_reads(guard: Guard, web: WebServer) -> None:
    """Bytes of two versions never come from one read."""
    old, new = b"old" * 1_000_000, b"new" * 1_000_000

    def broken(_: Request, out: BinaryIO) -> bool:
        reply(out, 200, {"ETag": '"old"', "Content-Length": str(len(old))}, old[:2_000_000])
        web.answers["/image"] = serving(new, etag='"new"')
        return False

    web.answers["/image"] = broken
    patient = Guard(HttpStore({**LOCAL, "http_store_retries": 3}), store_id="web")
    patient.open()
    blocks = patient.read(web.url("/image"))
    come: list[bytes] = []
    with pytest.raises(StoreUnavailable, match="changed"):
        come.extend(blocks)
    assert b"new" not in b"".join(come)
    assert b"".join(patient.read(web.url("/image"), offset=3, length=6)) == b"newnew"
    patient.close()


def test_a_redirect_to_a_forbidden_address_is_denied(guard: Guard, web: WebServer) -> None:
    web.answers["/image"] = redirecting("http://169.254.169.254/latest/meta-data")
    with pytest.raises(StoreDenied):
        guard.read(web.url("/image"), offset=1, length=1)
    with pytest.raises(StoreDenied):
        guard.stat(web.url("/image"))
    with pytest.raises(StoreDenied):
        guard.read(web.url("/image"))


def test_a_query_is_in_no_error(guard: Guard, web: WebServer) -> None:
    with pytest.raises(BlobNotFound) as caught:
        guard.stat(web.url("/image?signature=s3cret"))
    assert "s3cret" not in str(caught.value)
    assert "/image" in str(caught.value)


def test_data_of_unknown_size_has_no_stat(guard: Guard, web: WebServer) -> None:
    web.answers["/endless"] = lambda _, out: reply(out, 200, {"Connection": "close"})
    with pytest.raises(StoreUnavailable, match="size"):
        guard.stat(web.url("/endless"))


def test_a_server_that_is_away(guard: Guard) -> None:
    with web_server() as gone:
        url = gone.url("/image")
    with pytest.raises(StoreUnavailable):
        guard.read(url)


def test_nothing_is_written_or_deleted(guard: Guard, web: WebServer) -> None:
    web.answers["/image"] = serving(b"data")
    with pytest.raises(Unsupported):
        guard.delete(web.url("/image"))
    assert b"".join(guard.read(web.url("/image"))) == b"data"


def test_connections_are_kept_for_reuse(guard: Guard, web: WebServer) -> None:
    web.answers["/image"] = serving(b"0123456789")
    for offset in range(8):
        assert b"".join(guard.read(web.url("/image"), offset=offset, length=2)) == b"%d%d" % (
            offset,
            offset + 1,
        )
    assert web.connections == 1
