"""Opening URLs on real sockets: peers that redirect, break off, dawdle and lie."""

from __future__ import annotations

import gzip
import hashlib
import logging
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest

from glancelike.errors import (
    ConfigError,
    Forbidden,
    ForbiddenUrl,
    ImageTooLarge,
    InvalidRange,
    NotFound,
    Unreachable,
)
from glancelike.outbound import sockets
from glancelike.outbound.opener import Fetch, Opener, open_url
from glancelike.urlrules import FetchLimits, UrlRules
from tests.waiting import wait_for
from tests.web_server import Answer, Request, WebServer, certificate, redirecting, reply, serving, web_server

DATA = random.Random(11).randbytes(3 * (1 << 20) + 7)
RULES = UrlRules.of(allowed_ports=[], allowed_networks=["127.0.0.1/32"])
LIMITS = FetchLimits(connect_seconds=60, read_seconds=60, retries=3, backoff_seconds=0.01)
DATE = "Tue, 01 Sep 2026 10:00:00 GMT"


@pytest.fixture(name="web")
def web_fixture() -> Iterator[WebServer]:
    with web_server() as web:
        yield web


@pytest.fixture(name="opener")
def opener_fixture() -> Iterator[Opener]:
    opener = Opener(RULES, LIMITS)
    yield opener
    opener.close()


def everything(fetch: Fetch, size: int = 1 << 20) -> bytes:
    """Read to the end and close."""
    with fetch:
        return b"".join(iter(lambda: fetch.read(size), b""))


def breaking(data: bytes, at: list[int], *, etags: list[str | None] | None = None, **told: Any) -> Answer:
    """Serve data, but drop the n-th connection after so many more bytes."""
    left = list(at)
    marks = list(etags or [])

    def answer(request: Request, out: BinaryIO) -> bool:
        etag = marks.pop(0) if marks else told.get("etag", '"1"')
        whole = serving(data, etag=etag, modified=told.get("modified"))
        if not left:
            return bool(whole(request, out))
        cut = left.pop(0)

        class Cutting:
            def write(self, block: bytes) -> None:
                head, _, body = block.partition(b"\r\n\r\n")
                out.write(head + b"\r\n\r\n" + body[:cut])

        whole(request, Cutting())  # type: ignore[arg-type]
        return False

    return answer


# What is there, and what isn't


def test_the_whole(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = serving(DATA, modified=DATE)
    fetch = opener.open(web.url("/image?token=1"))
    assert fetch.size == len(DATA)
    assert everything(fetch) == DATA
    assert fetch.read(10) == b""
    sent = web.requests[0].headers
    assert sent["host"] == f"127.0.0.1:{web.port}"
    assert sent["accept-encoding"] == "identity"
    assert "range" not in sent
    assert "cookie" not in sent


def test_small_and_empty_bodies(opener: Opener, web: WebServer) -> None:
    for size in (0, 1):
        web.answers["/image"] = serving(DATA[:size])
        assert everything(opener.open(web.url("/image"))) == DATA[:size]


@pytest.mark.parametrize("size", [1, 1000, 1 << 20, 1 << 26])
def test_no_read_gives_more_than_asked_for(opener: Opener, web: WebServer, size: int) -> None:
    web.answers["/image"] = serving(DATA[:5000])
    with opener.open(web.url("/image")) as fetch:
        while block := fetch.read(size):
            assert len(block) <= size


def test_chunked(opener: Opener, web: WebServer) -> None:
    def answer(_: Request, out: BinaryIO) -> bool:
        reply(out, 200, {"Transfer-Encoding": "chunked", "Content-Length": "1"})
        for at in range(0, len(DATA), 99_999):
            block = DATA[at : at + 99_999]
            out.write(b"%x;extension=1\r\n%s\r\n" % (len(block), block))
        out.write(b"0\r\nTrailer: x\r\n\r\n")
        return True

    web.answers["/image"] = answer
    fetch = opener.open(web.url("/image"))
    assert fetch.size is None
    assert everything(fetch) == DATA


def test_until_the_connection_ends(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = lambda _, out: reply(out, 200, {}, DATA)
    fetch = opener.open(web.url("/image"))
    assert fetch.size is None
    assert everything(fetch) == DATA


@pytest.mark.parametrize("keep", [True, False])
def test_ranges(opener: Opener, web: WebServer, keep: bool) -> None:
    web.answers["/image"] = serving(DATA)
    with opener.open(web.url("/image"), offset=5, length=10) as fetch:
        assert fetch.size == 10
        assert fetch.read(4 if keep else 100) == DATA[5 : 9 if keep else 15]
    assert everything(opener.open(web.url("/image"), offset=len(DATA) - 3, length=100)) == DATA[-3:]
    assert everything(opener.open(web.url("/image"), offset=len(DATA) - 3)) == DATA[-3:]
    assert everything(opener.open(web.url("/image"), length=7)) == DATA[:7]
    with pytest.raises(InvalidRange):
        opener.open(web.url("/image"), offset=len(DATA))


def without_ranges(data: bytes, cuts: list[int], *marks: str) -> Answer:
    """Serve the whole whatever is asked, cut off after so many bytes each time, then no more."""
    left, etags = list(cuts), list(marks)

    def answer(_: Request, out: BinaryIO) -> bool:
        told = {"ETag": etags.pop(0) if len(etags) > 1 else etags[0]} if etags else {}
        cut = left.pop(0) if left else len(data)
        reply(out, 200, {**told, "Content-Length": str(len(data))}, data[:cut])
        return cut == len(data)

    return answer


def test_a_server_without_ranges(opener: Opener, web: WebServer) -> None:
    """What comes before is thrown away, up to a limit."""
    web.answers["/image"] = without_ranges(DATA, [])
    assert everything(opener.open(web.url("/image"), length=9)) == DATA[:9]
    for offset, length in ((1, None), (2_000_000, 9), (len(DATA) - 1, 5)):
        fetch = opener.open(web.url("/image"), offset=offset, length=length)
        end = len(DATA) if length is None else offset + length
        assert everything(fetch) == DATA[offset:end]
    with pytest.raises(InvalidRange):
        opener.open(web.url("/image"), offset=len(DATA))
    sparing = Opener(RULES, replace(LIMITS, skip_bytes=1_000_000))
    assert everything(sparing.open(web.url("/image"), offset=1_000_000, length=5)) == DATA[1_000_000:][:5]
    with pytest.raises(Unreachable, match="no ranges.*up to 1000000 are skipped"):
        sparing.open(web.url("/image"), offset=1_000_001)
    sparing.close()


def test_a_server_with_neither_ranges_nor_sizes(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = lambda _, out: reply(out, 200, {"Connection": "close"}, DATA)
    assert everything(opener.open(web.url("/image"), offset=7, length=9)) == DATA[7:16]
    with pytest.raises(InvalidRange):
        opener.open(web.url("/image"), offset=len(DATA) + 1)


def test_a_server_without_ranges_that_breaks_off(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = without_ranges(DATA, [500, 2_000_000, 1000], '"1"')
    assert everything(opener.open(web.url("/image"), offset=1000)) == DATA[1000:]
    assert len(web.requests) == 4


def test_a_server_without_ranges_whose_data_changes(opener: Opener, web: WebServer) -> None:
    for marks in (['"1"', '"2"'], []):
        web.answers["/image"] = without_ranges(DATA, [2_000_000], *marks)
        with pytest.raises(Unreachable, match="changed|neither ETag nor"):
            everything(opener.open(web.url("/image"), offset=1000))


def test_a_range_that_is_another(opener: Opener, web: WebServer) -> None:
    def answer(_: Request, out: BinaryIO) -> None:
        reply(out, 206, {"Content-Range": "bytes 0-9/100", "Content-Length": "10"}, DATA[:10])

    web.answers["/image"] = answer
    with pytest.raises(Unreachable, match="other bytes"):
        opener.open(web.url("/image"), offset=5, length=10)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, NotFound),
        (410, NotFound),
        (401, Forbidden),
        (403, Forbidden),
        (418, Unreachable),
        (304, Unreachable),
    ],
)
def test_statuses(opener: Opener, web: WebServer, status: int, error: type[Exception]) -> None:
    web.answers["/image"] = lambda _, out: reply(out, status, {"Content-Length": "0"})
    with pytest.raises(error, match=str(status)) as caught:
        opener.open(web.url("/image?key=s3cret"))
    assert "s3cret" not in str(caught.value)
    assert len(web.requests) == 1


def test_what_may_pass_is_tried_again(opener: Opener, web: WebServer) -> None:
    statuses = [503, 429, 500]

    def answer(request: Request, out: BinaryIO) -> bool:
        if statuses:
            reply(out, statuses.pop(), {"Content-Length": "0"})
            return True
        return bool(serving(DATA)(request, out))

    web.answers["/image"] = answer
    assert everything(opener.open(web.url("/image"))) == DATA


def test_retries_end(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = lambda _, out: reply(out, 503, {"Content-Length": "0"})
    with pytest.raises(Unreachable, match="503"):
        opener.open(web.url("/image"))
    assert len(web.requests) == 1 + LIMITS.retries


def test_nobody_listens(opener: Opener) -> None:
    with web_server() as gone:
        url = gone.url("/image?key=s3cret")
    with pytest.raises(Unreachable) as caught:
        opener.open(url)
    assert "s3cret" not in str(caught.value)


def test_stat(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = serving(DATA, modified=DATE)
    facts = opener.stat(web.url("/image"))
    assert (facts.size, facts.etag) == (len(DATA), '"1"')
    assert facts.modified is not None
    assert facts.modified.isoformat() == "2026-09-01T10:00:00+00:00"
    with pytest.raises(NotFound):
        opener.stat(web.url("/other"))


@pytest.mark.parametrize("data", [DATA, b""])
def test_stat_where_head_is_not_known(opener: Opener, web: WebServer, data: bytes) -> None:
    def answer(request: Request, out: BinaryIO) -> bool:
        if request.method == "HEAD":
            reply(out, 405, {})
            return True
        return bool(serving(data)(request, out))

    web.answers["/image"] = answer
    assert opener.stat(web.url("/image")).size == len(data)


# Going on where it stopped


@pytest.mark.parametrize(
    "told", [{"etag": '"a"'}, {"etag": None, "modified": DATE}, {"etag": 'W/"a"', "modified": DATE}]
)
def test_a_dropped_connection_is_taken_up(opener: Opener, web: WebServer, told: dict[str, Any]) -> None:
    web.answers["/image"] = breaking(DATA, [0, 1, 1_000_000, 2_000_000], **told)
    fetch = opener.open(web.url("/image"))
    assert hashlib.sha256(everything(fetch)).digest() == hashlib.sha256(DATA).digest()
    resumed = [request.headers for request in web.requests if "range" in request.headers]
    assert [headers["range"] for headers in resumed] == ["bytes=1-", "bytes=1000001-", "bytes=3000001-"]
    strong = told["etag"] if told["etag"] == '"a"' else DATE
    assert {headers["if-range"] for headers in resumed} == {strong}


def test_a_range_is_taken_up(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = breaking(DATA, [1000, 5000])
    assert everything(opener.open(web.url("/image"), offset=100, length=50_000)) == DATA[100:50_100]
    assert web.requests[-1].headers["range"] == "bytes=6100-50099"


def test_changed_data_is_not_mixed(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = breaking(DATA, [1_000_000], etags=['"1"', '"2"'])
    with pytest.raises(Unreachable, match="changed"):
        everything(opener.open(web.url("/image")))


def test_a_server_that_ignores_if_range(opener: Opener, web: WebServer) -> None:
    def answer(request: Request, out: BinaryIO) -> bool:
        headers = dict(request.headers)
        if "if-range" in headers:
            headers["if-range"] = '"2"'
            return bool(serving(DATA, etag='"2"')(replace(request, headers=headers), out))
        return bool(breaking(DATA, [1000])(request, out))

    web.answers["/image"] = answer
    with pytest.raises(Unreachable, match="changed"):
        everything(opener.open(web.url("/image")))


def test_nothing_to_go_on_by(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = breaking(DATA, [1_000_000], etag=None)
    with pytest.raises(Unreachable, match="neither ETag nor Last-Modified"):
        everything(opener.open(web.url("/image")))


def test_no_ranges_to_go_on_by(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = without_ranges(DATA, [1000, 500], '"1"')
    assert everything(opener.open(web.url("/image"))) == DATA
    assert [request.headers.get("range") for request in web.requests] == [None, "bytes=1000-", "bytes=1000-"]
    web.answers["/image"] = without_ranges(DATA, [1000] * 100, '"1"')
    with pytest.raises(Unreachable, match="ended|broke off"):
        everything(opener.open(web.url("/image")))


def test_no_ranges_and_the_validator_is_gone(opener: Opener, web: WebServer) -> None:
    """The data may be another, though nothing says so."""

    def answer(request: Request, out: BinaryIO) -> bool:
        told = {} if "range" in request.headers else {"ETag": '"1"'}
        reply(out, 200, {**told, "Content-Length": str(len(DATA))}, DATA[: len(DATA) if not told else 1000])
        return False

    web.answers["/image"] = answer
    with pytest.raises(Unreachable, match="doesn't tell that the data is the same"):
        everything(opener.open(web.url("/image")))


def test_a_content_length_that_is_too_large(opener: Opener, web: WebServer) -> None:
    def answer(request: Request, out: BinaryIO) -> bool:
        if "range" in request.headers:
            return bool(serving(DATA)(request, out))
        reply(out, 200, {"ETag": '"1"', "Content-Length": str(len(DATA) + 1)}, DATA)
        return False

    web.answers["/image"] = answer
    with pytest.raises(Unreachable, match="changed"):
        everything(opener.open(web.url("/image")))


def test_a_content_length_that_is_too_small_cuts(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = lambda _, out: reply(out, 200, {"Content-Length": "10"}, DATA[:20])
    assert everything(opener.open(web.url("/image"))) == DATA[:10]


@pytest.mark.parametrize("length", ["-1", "ten", "٣", "9" * 5000])
def test_a_content_length_that_is_no_number(opener: Opener, web: WebServer, length: str) -> None:
    sent = length.encode().decode("latin-1")
    web.answers["/image"] = lambda _, out: reply(out, 200, {"Content-Length": sent}, DATA)
    fetch = opener.open(web.url("/image"))
    assert fetch.size is None
    assert everything(fetch) == DATA


def test_two_content_lengths(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = lambda _, out: reply(out, 200, {"Content-Length": "1, 2"}, DATA[:2])
    with pytest.raises(Unreachable):
        opener.open(web.url("/image"))


def test_a_chunked_body_that_breaks_off(opener: Opener, web: WebServer) -> None:
    def answer(request: Request, out: BinaryIO) -> bool:
        if "range" in request.headers:
            return bool(serving(DATA)(request, out))
        reply(out, 200, {"ETag": '"1"', "Transfer-Encoding": "chunked"})
        out.write(b"%x\r\n" % len(DATA) + DATA[:500_000])
        return False

    web.answers["/image"] = answer
    assert everything(opener.open(web.url("/image"))) == DATA


def test_a_drip_of_connections_ends(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = breaking(DATA, [100] * 1000)
    with pytest.raises(Unreachable, match="ended after|broke off"):
        everything(opener.open(web.url("/image")))
    assert len(web.requests) == 1 + LIMITS.retries


def test_encoded_data_is_refused(opener: Opener, web: WebServer) -> None:
    body = gzip.compress(b"\0" * (1 << 20))
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(body))}
    web.answers["/image"] = lambda _, out: reply(out, 200, headers, body)
    with pytest.raises(Unreachable, match="gzip"):
        opener.open(web.url("/image"))


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect(opener: Opener, web: WebServer, status: int) -> None:
    web.answers["/a/old"] = redirecting("../new?x=\xfc y", status)
    web.answers["/new"] = serving(DATA)
    assert everything(opener.open(web.url("/a/old"))) == DATA
    assert web.seen("/new")[0].path == "/new?x=%FC%20y"


def test_ten_redirects_but_not_eleven(opener: Opener, web: WebServer) -> None:
    for hop in range(11):
        web.answers[f"/{hop}"] = redirecting(f"/{hop + 1}")
    web.answers["/11"] = serving(DATA)
    assert everything(opener.open(web.url("/1"))) == DATA
    with pytest.raises(Unreachable, match="redirects"):
        opener.open(web.url("/0"))
    web.answers["/circle"] = redirecting("/circle")
    with pytest.raises(Unreachable, match="redirects"):
        opener.stat(web.url("/circle"))
    assert len(web.seen("/circle")) == 1 + LIMITS.redirects


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://2130706433/",
        "http://0x7f000002/",
        "http://127.0.0.2/",
        "//127.0.0.2/",
        "http://good.example@127.0.0.2/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://[::1",
    ],
)
def test_cve_2026_34881_redirects_are_judged(opener: Opener, web: WebServer, location: str) -> None:
    web.answers["/1"] = redirecting("/2")
    web.answers["/2"] = redirecting(location)
    for use in (opener.open, opener.stat):
        with pytest.raises(ForbiddenUrl):
            use(web.url("/1"))
    assert {request.headers["host"] for request in web.requests} == {f"127.0.0.1:{web.port}"}


def test_cve_2026_34881_redirects_of_a_range_and_of_the_rest_are_judged(
    opener: Opener, web: WebServer
) -> None:
    web.answers["/range"] = redirecting("http://127.0.0.2/")
    with pytest.raises(ForbiddenUrl):
        opener.open(web.url("/range"), offset=5, length=5)
    web.answers["/rest"] = breaking(DATA, [1_500_000])
    fetch = opener.open(web.url("/rest"))
    assert fetch.read(1 << 20)
    web.answers["/rest"] = redirecting("http://127.0.0.2/")
    with pytest.raises(ForbiddenUrl):
        everything(fetch)
    assert {request.headers["host"] for request in web.requests} == {f"127.0.0.1:{web.port}"}


def test_cve_2026_34881_a_redirect_to_a_refused_port(web: WebServer) -> None:
    with web_server() as other:
        rules = replace(RULES, allowed_ports=(web.port,))
        resolver = names(other=["127.0.0.1"])
        other.answers["/image"] = serving(DATA)
        for host in ("127.0.0.1", "other.example"):
            web.answers["/image"] = redirecting(other.url("/image", host))
            with (
                pytest.raises(ForbiddenUrl),
                open_url(web.url("/image"), rules, LIMITS, resolver=resolver),
            ):
                pass
        assert other.connections == 0


def test_own_headers_stay_with_their_origin(opener: Opener, web: WebServer) -> None:
    token = {"X-Auth-Token": "s3cret"}
    with web_server() as other:
        web.answers["/image"] = redirecting("/here")
        web.answers["/here"] = redirecting(other.url("/there"))
        other.answers["/there"] = redirecting(web.url("/back"))
        web.answers["/back"] = serving(DATA)
        assert everything(opener.open(web.url("/image"), headers=token)) == DATA
        sent = [request.headers.get("x-auth-token") for request in (*web.requests, *other.requests)]
    assert sent == ["s3cret", "s3cret", None, None]


def test_own_headers_stay_with_their_origin_when_taken_up(opener: Opener, web: WebServer) -> None:
    with web_server() as other:
        web.answers["/image"] = redirecting(other.url("/image"))
        other.answers["/image"] = breaking(DATA, [1_000_000])
        with opener.open(web.url("/image"), headers={"X-Auth-Token": "s3cret"}) as fetch:
            assert everything(fetch) == DATA
        assert [request.headers.get("x-auth-token") for request in other.requests] == [None, None]
        assert len(web.requests) == 1  # the same mirror is asked on


def test_a_signed_redirect_that_has_expired_is_asked_for_again(opener: Opener, web: WebServer) -> None:
    signatures = iter("ab")

    def sign(_: Request, out: BinaryIO) -> bool:
        return bool(redirecting(f"/signed?{next(signatures)}")(_, out))

    first = breaking(DATA, [1_000_000])

    def signed(request: Request, out: BinaryIO) -> bool:
        if request.path == "/signed?a" and len(web.seen("/signed")) > 1:
            reply(out, 403, {"Content-Length": "0"})
            return True
        return bool(first(request, out))

    web.answers.update({"/image": sign, "/signed": signed})
    assert everything(opener.open(web.url("/image"))) == DATA
    assert [request.path for request in web.seen("/signed")] == ["/signed?a", "/signed?a", "/signed?b"]


# Names


def names(**known: list[str]) -> Callable[..., list[tuple[Any, ...]]]:
    """Resolve names, each time to the next address of a list, the last for ever."""

    def resolver(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        addresses = known[host.partition(".")[0]]
        address = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in address.split()]

    return resolver


def test_cve_2026_34881_dns_rebinding(web: WebServer) -> None:
    """The connection goes to the address that was judged, however the name resolves next."""
    web.answers["/image"] = breaking(DATA, [1_000_000])
    asked: list[str] = []
    inner = names(rebound=["127.0.0.1", "127.0.0.2"])

    def resolver(host: str, port: int, **kwargs: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        return inner(host, port, **kwargs)

    url = f"http://rebound.example:{web.port}/image"
    with open_url(url, RULES, LIMITS, resolver=resolver) as fetch:
        assert asked == ["rebound.example"]
        with pytest.raises(ForbiddenUrl):
            everything(fetch)
    assert web.requests[0].headers["host"] == f"rebound.example:{web.port}"
    assert web.connections == 1


def test_ossn_0078_no_port_scan(web: WebServer) -> None:
    """An address that isn't public answers alike, whether somebody listens or not."""
    with web_server() as gone:
        closed = gone.url("/")
    rules = UrlRules(allowed_ports=())
    said = []
    for url in (web.url("/"), closed):
        with pytest.raises(ForbiddenUrl) as caught, open_url(url, rules, LIMITS):
            pass
        said.append(str(caught.value).replace(str(gone.port), str(web.port)))
    assert said[0] == said[1]
    assert web.connections == 0


def test_one_forbidden_address_among_others_is_enough(web: WebServer) -> None:
    resolver = names(mixed=["127.0.0.1 10.0.0.1"])
    with (
        pytest.raises(ForbiddenUrl),
        open_url(web.url("/", "mixed.example"), RULES, LIMITS, resolver=resolver),
    ):
        pass
    assert web.connections == 0


def test_the_next_address_is_tried(web: WebServer) -> None:
    rules = UrlRules.of(allowed_ports=[], allowed_networks=["127.0.0.0/8"])
    web.answers["/image"] = serving(DATA)
    resolver = names(two=["127.0.0.9 127.0.0.1"])
    with open_url(web.url("/image", "two.example"), rules, LIMITS, resolver=resolver) as fetch:
        assert everything(fetch) == DATA


def test_the_proxies_of_the_environment_are_not_used(
    opener: Opener, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.answers["/image"] = serving(DATA)
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert everything(opener.open(web.url("/image"))) == DATA


# TLS


def test_a_certificate_is_the_names_not_the_addresses(tmp_path: Path) -> None:
    context, trusted = certificate(tmp_path, "secure.example")
    shown: list[str | None] = []
    context.sni_callback = lambda _sock, name, _context: shown.append(name)
    limits = replace(LIMITS, cafile=str(trusted))
    resolver = names(secure=["127.0.0.1"], other=["127.0.0.1"])
    with web_server(context) as web:
        web.answers["/image"] = serving(DATA)
        with open_url(web.url("/image", "secure.example"), RULES, limits, resolver=resolver) as fetch:
            assert everything(fetch) == DATA
        assert shown == ["secure.example"]
        for url in (web.url("/image", "other.example"), web.url("/image")):
            with (
                pytest.raises(Unreachable, match="no safe connection"),
                open_url(url, RULES, limits, resolver=resolver),
            ):
                pass
        assert len(web.requests) == 1


def test_cve_2013_4111_certificates_are_verified(tmp_path: Path) -> None:
    context, _ = certificate(tmp_path, "127.0.0.1")
    with web_server(context) as web:
        web.answers["/image"] = serving(DATA)
        with (
            pytest.raises(Unreachable, match="no safe connection"),
            open_url(web.url("/image"), RULES, LIMITS),
        ):
            pass
        with (
            pytest.warns(match="Unverified"),
            open_url(web.url("/image"), RULES, replace(LIMITS, verify=False)) as fetch,
        ):
            assert everything(fetch) == DATA


def test_a_certificate_for_an_address(tmp_path: Path) -> None:
    context, trusted = certificate(tmp_path, "127.0.0.1")
    with web_server(context) as web:
        web.answers["/image"] = breaking(DATA, [1_000_000])
        with open_url(web.url("/image"), RULES, replace(LIMITS, cafile=str(trusted))) as fetch:
            assert everything(fetch) == DATA


def test_https_does_not_lead_to_http(tmp_path: Path, web: WebServer) -> None:
    context, trusted = certificate(tmp_path, "127.0.0.1")
    limits = replace(LIMITS, cafile=str(trusted))
    web.answers["/image"] = serving(DATA)
    with web_server(context) as secure:
        secure.answers["/image"] = redirecting(web.url("/image"))
        with (
            pytest.raises(ForbiddenUrl, match="https to http"),
            open_url(secure.url("/image"), RULES, limits),
        ):
            pass
        allowing = replace(RULES, allow_insecure_redirects=True)
        with open_url(secure.url("/image"), allowing, limits) as fetch:
            assert everything(fetch) == DATA


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pem", tmp_path / "empty.pem"):
        if path.stem == "empty":
            path.write_text("")
        with pytest.raises(ConfigError, match=path.name):
            Opener(RULES, replace(LIMITS, cafile=str(path)))


# Slow and endless peers

TRICKLING = 60.0  # seconds after which a peer gives up itself


def trickling(first: bytes, drop: bytes, every: float = 0.1) -> Answer:
    """Send a beginning, then a little for ever."""

    def answer(_: Request, out: BinaryIO) -> None:
        out.write(first)
        deadline = time.monotonic() + TRICKLING
        while time.monotonic() < deadline:
            out.write(drop)
            time.sleep(every)

    return answer


HEAD = b'HTTP/1.1 200 OK\r\nETag: "1"\r\n'


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"", b""),
        (b"", b"H"),
        (HEAD, b"X"),
        (HEAD, b"X-Header: y\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 3, b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["silence", "status", "header", "headers", "continue"],
)
def test_slow_headers_end(web: WebServer, first: bytes, drop: bytes) -> None:
    web.answers["/image"] = trickling(first, drop)
    limits = replace(LIMITS, connect_seconds=0.3, read_seconds=0.3, retries=1)
    started = time.monotonic()
    with pytest.raises(Unreachable), open_url(web.url("/image"), RULES, limits):
        pass
    assert time.monotonic() - started < TRICKLING
    wait_for("both have been heard", lambda: len(web.requests) == 2)


@pytest.mark.parametrize(
    ("first", "drop", "every"),
    [
        (HEAD + b"Content-Length: 1000000\r\n\r\n", b"", 0.1),
        (HEAD + b"Content-Length: 1000000\r\n\r\n", b"x", 0.1),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.1),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x", 0.1),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"Trailer: x\r\n" * 1000, 0.0),
    ],
    ids=["silence", "loris", "chunks", "extension", "trailers"],
)
def test_a_slow_body_ends(web: WebServer, first: bytes, drop: bytes, every: float) -> None:
    web.answers["/image"] = trickling(first, drop, every)
    limits = replace(LIMITS, read_seconds=0.4, retries=0)
    started = time.monotonic()
    with pytest.raises(Unreachable), open_url(web.url("/image"), RULES, limits) as fetch:
        everything(fetch)
    assert time.monotonic() - started < TRICKLING


def test_the_reader_may_take_its_time(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    web.answers["/image"] = serving(DATA)
    moved: list[float] = []
    monkeypatch.setattr(sockets, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + sum(moved)))
    with open_url(web.url("/image"), RULES, replace(LIMITS, retries=0)) as fetch:
        got = fetch.read(1000)
        moved.append(3600.0)
        assert got + everything(fetch) == DATA


@pytest.mark.parametrize("chunked", [True, False])
def test_an_endless_body_meets_the_cap(opener: Opener, web: WebServer, chunked: bool) -> None:
    headers = HEAD + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n")
    block = b"10000\r\n" + b"x" * 0x10000 + b"\r\n" if chunked else b"x" * 0x10000
    web.answers["/image"] = trickling(headers, block, 0.0)
    with opener.open(web.url("/image"), cap=1 << 20) as fetch:
        with pytest.raises(ImageTooLarge):
            everything(fetch)
        assert fetch.count <= (1 << 20) + (1 << 18)


def test_a_size_above_the_cap_is_refused_at_once(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = serving(DATA)
    with pytest.raises(ImageTooLarge):
        opener.open(web.url("/image"), cap=len(DATA) - 1)
    assert everything(opener.open(web.url("/image"), cap=len(DATA))) == DATA


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000,
    ],
    ids=["nothing", "blank", "ssh", "status", "headers"],
)
def test_what_is_not_http(opener: Opener, web: WebServer, answer: bytes) -> None:
    web.answers["/image"] = lambda _, out: bool(out.write(answer)) and False
    with pytest.raises(Unreachable):
        opener.open(web.url("/image"))


# Secrets, memory, threads


def test_no_secret_in_the_logs(opener: Opener, web: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    web.answers["/image"] = redirecting("/signed?signature=s3cret")
    web.answers["/signed"] = breaking(DATA, [10, 10])
    with caplog.at_level(logging.DEBUG):
        url = web.url("/image?key=s3cret")
        assert everything(opener.open(url, headers={"X-Auth-Token": "s3cret"})) == DATA
    assert "s3cret" not in caplog.text
    assert "/signed" in caplog.text


def test_threads_share_an_opener(opener: Opener, web: WebServer) -> None:
    web.answers["/image"] = serving(DATA)
    right: list[bool] = []

    def read() -> None:
        for _ in range(3):
            right.append(everything(opener.open(web.url("/image"))) == DATA)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 18


CHILD = """
import sys, zlib
from glancelike.outbound.opener import open_url
from glancelike.testing.store_child import memory
from glancelike.urlrules import UrlRules

def read(url):
    rules = UrlRules.of(allowed_ports=[], allowed_networks=["127.0.0.1/32"])
    size, crc = 0, 0
    with open_url(url, rules) as source:
        while block := source.read(1 << 20):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return size

read(sys.argv[1])
before = memory("VmHWM")
print(read(sys.argv[2]), memory("VmHWM") - before)
"""


@pytest.mark.slow
def test_memory_is_flat(web: WebServer) -> None:
    size = 256 << 20

    def answer(_: Request, out: BinaryIO) -> None:
        reply(out, 200, {"Content-Length": str(size)})
        block = DATA[: 1 << 20]
        for _turn in range(256):
            out.write(block)

    web.answers.update({"/warm": serving(DATA), "/large": answer})
    done = subprocess.run(
        [sys.executable, "-c", CHILD, web.url("/warm"), web.url("/large")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    count, grown = map(int, done.stdout.split())
    assert count == size
    assert grown < 16 << 20
