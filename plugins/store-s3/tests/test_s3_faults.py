"""Broken connections, slow and sulking endpoints: real ones, behind a proxy that makes the faults."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import settings
from glancelike_store_s3 import S3Store, publishing
from glancelike_store_s3.bucket import TOKEN
from s3_proxy import SLOW_DOWN, Fault, Proxy, Request, proxy_to

from glancelike.errors import (
    BlobExists,
    BlobNotFound,
    ConfigError,
    SizeMismatch,
    StoreError,
    StoreFault,
    StoreUnavailable,
)
from glancelike.stores.guard import Guard
from glancelike.testing.sources import EndlessSource, WatchedSource, payload
from glancelike.testing.store_child import Job
from tests.web_server import certificate

MIB = 1 << 20
PATIENCE = 60.0
LARGE = 12 * MIB + 5  # three parts


@contextmanager
def opened(url: str, **more: Any) -> Iterator[S3Store]:
    store = S3Store(settings(url, **more))
    store.open()
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def store(proxy: Proxy) -> Iterator[S3Store]:
    with opened(proxy.url) as store:
        store.write("warm", WatchedSource(b"up"), size=2)  # what is found out once is found out
        store.delete("warm")
        proxy.seen.clear()
        yield store
        proxy.rules.clear()
        for info in store.list():
            store.delete(info.key)


@pytest.fixture
def raw(moto: str) -> Any:
    """Give a client of the endpoint itself."""
    return boto3.client(
        "s3", endpoint_url=moto, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    )


def content(store: S3Store, key: str) -> bytes:
    return b"".join(store.read(key))


def test_slow_down_is_waited_for(store: S3Store, proxy: Proxy) -> None:
    proxy.once(lambda request: request.is_part, *[Fault(503, SLOW_DOWN)] * 2)
    data = payload(LARGE)
    assert store.write("a", WatchedSource(data), size=LARGE).size == LARGE
    assert content(store, "a") == data


def test_slow_down_for_good(store: S3Store, proxy: Proxy, raw: Any) -> None:
    proxy.rules.append(lambda request: Fault(503, SLOW_DOWN) if request.is_part else None)
    with pytest.raises(StoreUnavailable, match="SlowDown"):
        store.write("a", EndlessSource(LARGE), size=LARGE)
    assert "Uploads" not in raw.list_multipart_uploads(Bucket="images")
    with pytest.raises(BlobNotFound):
        store.stat("a")


@pytest.mark.parametrize("size", [10, LARGE], ids=["put", "complete"])
def test_lost_answer(store: S3Store, proxy: Proxy, size: int) -> None:
    """The object is there when the request is repeated, and it's the writer's own."""

    def publishes(request: Request) -> bool:
        return request.is_complete or (request.method == "PUT" and request.path == "/images/a")

    proxy.once(publishes, Fault(lose=True))
    data = payload(size)
    assert store.write("a", WatchedSource(data), size=size).size == size
    assert content(store, "a") == data


def test_lost_answer_of_another(store: S3Store, proxy: Proxy, raw: Any) -> None:
    """Between the look and the write somebody else was there: that isn't the writer's own."""

    def slip_in(request: Request) -> Fault | None:
        if request.method == "PUT" and request.path == "/images/a":
            raw.put_object(Bucket="images", Key="a", Body=b"theirs")
        return None

    proxy.rules.append(slip_in)
    with pytest.raises(BlobExists):
        store.write("a", WatchedSource(b"ours"), size=4)
    assert content(store, "a") == b"theirs"


def test_conflict_is_asked_again(store: S3Store, proxy: Proxy) -> None:
    """AWS answers so while another write to the key is being decided, which may fail yet."""
    conflict = b"<Error><Code>ConditionalRequestConflict</Code><Message>in conflict</Message></Error>"
    proxy.once(lambda request: request.path == "/images/a" and request.method == "PUT", Fault(409, conflict))
    store.write("a", WatchedSource(b"x"), size=1)
    assert content(store, "a") == b"x"


def test_conflict_that_another_won(store: S3Store, proxy: Proxy, raw: Any) -> None:
    def lose(request: Request) -> Fault | None:
        if request.is_complete:
            raw.put_object(Bucket="images", Key="a", Body=b"theirs")
            return Fault(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>")
        return None

    proxy.rules.append(lose)
    with pytest.raises(BlobExists):
        store.write("a", EndlessSource(LARGE), size=LARGE)
    assert "Uploads" not in raw.list_multipart_uploads(Bucket="images")


def is_get(request: Request) -> bool:
    return request.method == "GET" and request.path == "/images/a"


@pytest.mark.parametrize("span", [(0, None), (7, None), (MIB + 1, 5 * MIB)], ids=str)
def test_truncated_answers_are_resumed(store: S3Store, proxy: Proxy, span: tuple[int, int | None]) -> None:
    data = payload(8 * MIB)
    store.write("a", WatchedSource(data), size=len(data))
    # More faults than attempts: each brings some bytes.
    proxy.once(is_get, *[Fault(cut=700_000)] * 6)
    offset, length = span
    got = b"".join(store.read("a", offset=offset, length=length))
    assert got == data[offset : None if length is None else offset + length]
    gets = [request for request in proxy.seen if is_get(request)]
    assert len(gets) == 7
    etag = store.stat("a").etag
    assert all(request.headers["if-match"] == etag for request in gets[1:])


def test_read_without_progress_ends(store: S3Store, proxy: Proxy) -> None:
    store.write("a", WatchedSource(payload(3 * MIB)), size=3 * MIB)
    proxy.once(is_get, Fault(cut=MIB), *[Fault(cut=0)] * 20)
    blocks = store.read("a")
    with pytest.raises(StoreUnavailable, match=f"byte {MIB} didn't come"):
        list(blocks)
    blocks.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(blocks)


def test_replaced_while_read(store: S3Store, proxy: Proxy, raw: Any) -> None:
    store.write("a", WatchedSource(payload(3 * MIB)), size=3 * MIB)
    proxy.once(is_get, Fault(cut=MIB))
    blocks = store.read("a")
    raw.put_object(Bucket="images", Key="a", Body=payload(3 * MIB, seed=2))
    with pytest.raises(StoreFault, match="replaced"):
        list(blocks)


def test_source_waits_for_the_endpoint(store: S3Store, proxy: Proxy) -> None:
    """While nothing is taken, no more is read than five parts hold."""
    go_on = threading.Event()
    proxy.each_block = lambda _size: go_on.wait(PATIENCE)
    source = EndlessSource(100 * MIB)
    writer = threading.Thread(target=lambda: store.write("a", source, size=100 * MIB))
    writer.start()
    try:
        end = time.monotonic() + PATIENCE
        while source.at < 25 * MIB and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(1)  # for what it would read beyond
        assert source.at == 25 * MIB
    finally:
        go_on.set()
        writer.join(2 * PATIENCE)
    assert store.stat("a").size == 100 * MIB


def test_memory_is_flat_while_the_endpoint_is_slow(proxy: Proxy) -> None:
    proxy.each_block = lambda _size: time.sleep(0.002)
    size = 128 * MIB
    flat = settings(proxy.url, s3_store_large_object_size=8, s3_store_large_object_chunk_size=8)
    job = Job("flat", S3Store, flat, "flat", size)
    done = subprocess.run(
        [sys.executable, "-m", "glancelike.testing.store_child"],
        input=pickle.dumps(job),
        capture_output=True,
        timeout=5 * PATIENCE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr.decode()
    grown = json.loads(done.stdout)
    assert grown["count"] == size
    assert grown["written"] < 64 * MIB, f"{grown['written'] / MIB:.0f} MiB"
    print(f"grown while written: {grown['written'] / MIB:.0f} MiB, read: {grown['read'] / MIB:.0f} MiB")


def test_large_part_is_sent_once(store: S3Store, proxy: Proxy) -> None:
    """A part that isn't held in memory can't be repeated: the caller sends it again."""
    upload = store.begin("a")
    proxy.once(lambda request: request.is_part, Fault(503, SLOW_DOWN))
    with pytest.raises(StoreUnavailable):
        store.put_part("a", upload, 1, EndlessSource(6 * MIB), size=6 * MIB)
    assert store.parts("a", upload) == ()
    store.put_part("a", upload, 1, EndlessSource(6 * MIB), size=6 * MIB)
    assert store.complete("a", upload).size == 6 * MIB


def test_checksums(proxy: Proxy) -> None:
    data = payload(LARGE)
    with opened(proxy.url, s3_store_checksums="when_supported") as store:
        for key, size in (("small", 10), ("large", LARGE)):
            store.write(key, WatchedSource(data[:size]), size=size)
            proxy.once(lambda request: request.method == "GET", Fault(cut=5))
            assert content(store, key) == data[:size]
            store.delete(key)
    sent = [
        request for request in proxy.seen if request.method == "PUT" and ".glancelike" not in request.path
    ]
    assert all("x-amz-checksum-crc32" in request.headers for request in sent)
    with opened(proxy.url) as store:
        proxy.seen.clear()
        store.write("small", WatchedSource(b"x"), size=1)
        store.delete("small")
    assert not any("checksum" in name for request in proxy.seen for name in request.headers)


def test_small_part_in_the_middle(store: S3Store) -> None:
    upload = store.begin("a")
    for number in (1, 2):
        store.put_part("a", upload, number, WatchedSource(b"small"), size=5)
    with pytest.raises(SizeMismatch, match="5 MiB"):
        store.complete("a", upload)
    store.put_part("a", upload, 1, EndlessSource(5 * MIB), size=5 * MIB)
    assert store.complete("a", upload).size == 5 * MIB + 5


def test_endpoint_away(proxy: Proxy, store: S3Store) -> None:
    proxy.rules.append(lambda request: Fault(lose=True))
    with pytest.raises(StoreUnavailable):
        store.stat("a")
    with pytest.raises(StoreUnavailable):
        store.write("a", WatchedSource(b"x"), size=1)


def test_nobody_listens(tmp_path: Path) -> None:
    from tests.swift_server import free_ports

    with (
        pytest.raises(StoreUnavailable, match="Could not connect"),
        opened(f"http://127.0.0.1:{free_ports(1)[0]}"),
    ):
        pass


def test_endpoint_is_another_thing(proxy: Proxy) -> None:
    for status, page in ((404, b"<html>not here</html>"), (200, b"hello"), (405, b"")):
        fault = Fault(status, page)
        proxy.rules[:] = [lambda request, fault=fault: fault]
        with pytest.raises((ConfigError, StoreUnavailable)), opened(proxy.url):
            pass


def test_bucket_missing(moto: str, raw: Any) -> None:
    with (
        pytest.raises(ConfigError, match="s3_store_bucket 'nowhere'"),
        opened(moto, s3_store_bucket="nowhere", s3_store_create_bucket_on_put=False),
    ):
        pass
    with opened(moto, s3_store_bucket="vanishing") as store:
        raw.delete_bucket(Bucket="vanishing")
        calls: tuple[Callable[[], Any], ...] = (
            lambda: store.stat("a"),
            lambda: store.read("a"),
            lambda: store.delete("a"),
            lambda: list(store.list()),
        )
        for call in calls:
            # Not BlobNotFound, which would say that the data is gone.
            with pytest.raises(StoreUnavailable, match="bucket"):
                call()


def test_full(store: S3Store, proxy: Proxy) -> None:
    from glancelike.errors import StoreFull

    full = b"<Error><Code>QuotaExceeded</Code><Message>no more</Message></Error>"
    proxy.once(lambda request: request.method == "PUT", Fault(403, full))
    with pytest.raises(StoreFull, match="QuotaExceeded"):
        store.write("a", WatchedSource(b"x"), size=1)


def test_requests_of_a_write(proxy: Proxy) -> None:
    """The README's price of claims: five requests more. In parts: a look, begin, three parts, complete."""
    for conditional, small, large in (("auto", 1, 6), ("never", 6, 11)):
        with opened(proxy.url, s3_store_conditional_writes=conditional) as store:
            store.write("first", WatchedSource(b"x"), size=1)
            for size, expected in ((1, small), (LARGE, large)):
                proxy.seen.clear()
                store.write("second", EndlessSource(size), size=size)
                assert len(proxy.seen) == expected
                store.delete("second")
            store.delete("first")


def is_claim(request: Request) -> bool:
    return publishing.CLAIMS in request.path and request.method == "PUT"


def test_claim_is_made_while_parts_are_sent(proxy: Proxy, raw: Any) -> None:
    with opened(proxy.url, s3_store_conditional_writes="never") as store:
        claimed = threading.Event()

        def hold(request: Request) -> Fault | None:
            if is_claim(request):
                claimed.set()
            elif request.is_part:
                assert claimed.wait(PATIENCE)
            return None

        proxy.rules.append(hold)
        store.write("a", EndlessSource(LARGE), size=LARGE)
        claimed.clear()
        proxy.once(lambda request: request.is_part and claimed.wait(PATIENCE), Fault(400, b"<Error/>"))
        with pytest.raises(StoreError):
            store.write("b", EndlessSource(LARGE), size=LARGE)
        assert [item["Key"] for item in raw.list_objects_v2(Bucket="images")["Contents"]] == ["a"]
        store.delete("a")


def test_old_claim_is_renewed(proxy: Proxy, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others take a claim for a dead writer's some time after it was put."""
    monkeypatch.setattr(publishing, "FRESH_SECONDS", 0.0)
    with opened(proxy.url, s3_store_conditional_writes="never") as store:
        store.write("a", EndlessSource(LARGE), size=LARGE)
        first, second = [request.path for request in proxy.seen if is_claim(request)]
        assert first != second
        # Looked for after the second was there.
        sent = [(request.method, request.path) for request in proxy.seen]
        assert ("HEAD", "/images/a") in sent[sent.index(("PUT", second)) : sent.index(complete_of(proxy))]
        assert [item["Key"] for item in raw.list_objects_v2(Bucket="images")["Contents"]] == ["a"]
        store.delete("a")


def complete_of(proxy: Proxy) -> tuple[str, str]:
    return next((request.method, request.path) for request in proxy.seen if request.is_complete)


def test_claim_of_a_dead_writer(moto: str, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "CLAIM_SECONDS", 0.5)
    with opened(moto, s3_store_bucket="claimed", s3_store_conditional_writes="never") as store:
        store.write("a", WatchedSource(b"x"), size=1)
        store.delete("a")
        folder = f"{publishing.CLAIMS}{publishing.folder_of('a')}"
        raw.put_object(Bucket="claimed", Key=f"{folder}/dead", Body=b"")
        store.write("a", WatchedSource(b"y"), size=1)
        assert [item["Key"] for item in raw.list_objects_v2(Bucket="claimed")["Contents"]] == ["a"]


def test_large_copies(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from glancelike_store_s3 import copying

    monkeypatch.setattr(copying, "COPY_AT_ONCE", MIB)
    monkeypatch.setattr(copying, "COPY_PART", 5 * MIB)
    data = payload(LARGE)
    for conditional in ("auto", "never"):
        more = {"s3_store_conditional_writes": conditional, "s3_store_bucket": f"copies-{conditional}"}
        with opened(moto, **more) as store:
            store.write("a", WatchedSource(data), size=LARGE)
            info = store.copy("a", "b")
            assert info.size == LARGE
            assert info.etag is not None
            assert info.etag.strip('"').endswith("-3")
            assert content(store, "b") == data


def test_own_ca(moto: str, tmp_path: Path) -> None:
    context, trusted = certificate(tmp_path, "127.0.0.1")
    with proxy_to(moto, tls=context) as proxy:
        with pytest.raises(StoreUnavailable, match=r"(?i)certificate"), opened(proxy.url):
            pass
        with opened(proxy.url, s3_store_cacert=str(trusted)) as store:
            data = payload(LARGE)
            store.write("tls", WatchedSource(data), size=LARGE)
            assert content(store, "tls") == data
            upload = store.begin("part")
            store.put_part("part", upload, 1, EndlessSource(6 * MIB), size=6 * MIB)
            store.complete("part", upload)


def test_bucket_in_the_host(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No name server here knows the bucket's host, so boto reaches it by way of a proxy."""
    with proxy_to(moto) as proxy:
        proxy.rewrite = lambda request: request.path.replace("http://images.s3.test", "/images", 1)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        with opened("http://s3.test", s3_store_bucket_url_format="virtual") as store:
            store.write("host", WatchedSource(b"by host"), size=7)
            assert content(store, "host") == b"by host"
            assert store.presign("host", "GET", 60).startswith("http://images.s3.test/host?")
        assert {request.headers["host"] for request in proxy.seen} == {"images.s3.test"}


def test_keys_from_the_environment(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROMTHEENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    S3Store({**settings(proxy.url), "s3_store_bucket": "environment"})
    made = S3Store.settings_from_uri(f"s3://images?endpoint={proxy.url}&addressing=path")
    with opened(proxy.url):
        proxy.seen.clear()
    store = S3Store(made)
    store.open()
    store.close()
    assert "Credential=FROMTHEENVIRONMENT/" in proxy.seen[0].headers["authorization"]


def test_rotated_keys(moto: str) -> None:
    """A blob's key says nothing of credentials: other ones find it."""
    with opened(moto) as store:
        store.write("rotated", WatchedSource(b"x"), size=1)
    with opened(moto, s3_store_access_key="ANOTHER", s3_store_secret_key="other") as store:
        assert content(store, "rotated") == b"x"
        store.delete("rotated")


def test_probe_tells(moto: str) -> None:
    with opened(moto) as store:
        found = store.probe()
        assert not [info.key for info in store._bucket.list("") if info.key.startswith(".")]
    copy = found.pop("conditional copy")
    assert "ignored" in copy
    host = found.pop("bucket in the host")
    assert "in the path" in host
    assert set(found.values()) == {"ok"}


def test_two_stores_in_a_bucket(moto: str) -> None:
    one, two = {"s3_store_prefix": "one/"}, {"s3_store_prefix": "two/"}
    with opened(moto, s3_store_bucket="shared", **one) as first:
        with opened(moto, s3_store_bucket="shared", **two) as second:
            first.write("a", WatchedSource(b"1"), size=1)
            second.write("a", WatchedSource(b"2"), size=1)
            assert [info.key for info in first.list()] == ["a"]
            assert content(first, "a") == b"1"
            first.copy("a", "b", source=first)
            first.delete("a")
            assert content(second, "a") == b"2"
        assert first.usage().used == 1


def test_errors_hold_no_secret(proxy: Proxy) -> None:
    leaky = b"<Error><Code>AccessDenied</Code><Message>a+very/secret0value for EXAMPLEKEY</Message></Error>"
    with opened(proxy.url) as store:
        proxy.rules.append(lambda request: Fault(403, leaky))
        with pytest.raises(StoreError) as caught:
            Guard(store, store_id="s3").read("a")
    assert "***" in str(caught.value)
    assert "secret0" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_token_is_metadata(store: S3Store, raw: Any) -> None:
    for size in (3, LARGE):
        store.write(f"s{size}", EndlessSource(size), size=size)
        store.copy(f"s{size}", f"c{size}")
        tokens = {
            raw.head_object(Bucket="images", Key=key)["Metadata"][TOKEN] for key in (f"s{size}", f"c{size}")
        }
        assert len(tokens) == 2
    store.write("unknown", io.BytesIO(payload(LARGE)), size=None)
    assert content(store, "unknown") == payload(LARGE)
