"""Broken connections, dead servers, full quotas, old tokens: nothing lost, nothing half, nothing left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from glancelike_store_swift import SwiftStore
from glancelike_store_swift.auth import V1Auth
from glancelike_store_swift.failures import Undecided
from swift_proxy import Fault, FlakyProxy
from swift_servers import KEY, MIB, SmallSwift, inside, settings

from glancelike.errors import (
    BlobNotFound,
    ConfigError,
    StoreDenied,
    StoreFault,
    StoreFull,
    StoreUnavailable,
)
from glancelike.model import utcnow
from glancelike.testing.sources import EndlessSource, WatchedSource, payload

DATA = payload(7 * MIB + 5)
SEGMENT_PUT = r"^PUT \S*/\.segments/"


@pytest.fixture
def flaky(swift: SmallSwift) -> Iterator[FlakyProxy]:
    with FlakyProxy(swift.url) as proxy:
        yield proxy


@contextmanager
def opened(auth_url: str, container: str = "faults", **more: Any) -> Iterator[SwiftStore]:
    small = {"swift_store_large_object_chunk_size": 2}  # four segments of what is written
    store = SwiftStore(settings(auth_url, container, **{**small, **more}))
    store.open()
    with closing(store):
        yield store


@pytest.fixture
def store(flaky: FlakyProxy) -> Iterator[SwiftStore]:
    """Give a store whose every byte passes the proxy; nothing may be left in it at the end."""
    with opened(f"{flaky.url}/auth/v1.0") as store:
        yield store
        flaky.faults.clear()
        for info in store.list():
            store.delete(info.key)
        store.sweep(utcnow() + timedelta(minutes=1))
        assert inside(store) == [], "the sweep has left something"


def fill(store: SwiftStore, key: str, data: bytes = DATA, **how: Any) -> None:
    store.write(key, WatchedSource(data, **how), size=len(data))


def absent(store: SwiftStore, key: str) -> None:
    with pytest.raises(BlobNotFound):
        store.stat(key)
    assert key not in [info.key for info in store.list()]


@pytest.mark.parametrize("after", [10, 300, 3 * MIB])
def test_a_download_goes_on_where_it_broke_off(store: SwiftStore, flaky: FlakyProxy, after: int) -> None:
    fill(store, "broken")
    flaky.faults.append(Fault("^GET .*/broken ", "cut-answer", after, times=2))
    assert b"".join(store.read("broken")) == DATA
    flaky.faults.append(Fault("^GET .*/broken ", "cut-answer", after, times=2))
    assert b"".join(store.read("broken", offset=99, length=5 * MIB)) == DATA[99 : 99 + 5 * MIB]
    asked = len([line for line in flaky.requests if line.startswith("GET") and "/broken " in line])
    assert asked >= 5, "nothing was broken"


def test_a_download_that_gets_nowhere_ends(store: SwiftStore, flaky: FlakyProxy) -> None:
    with opened(f"{flaky.url}/auth/v1.0", swift_store_retry_get_count=2) as hasty:
        fill(hasty, "stuck")
        blocks = hasty.read("stuck")
        next(blocks)
        flaky.faults.append(Fault("^GET .*/stuck ", "503", times=99))
        blocks._stream.close()
        with pytest.raises(StoreUnavailable):
            list(blocks)
        assert len([line for line in flaky.requests if "GET" in line and "/stuck" in line]) == 3
        blocks.close()


def test_a_download_never_goes_on_with_another_blob(store: SwiftStore, flaky: FlakyProxy) -> None:
    fill(store, "changing")
    flaky.faults.append(Fault("^GET .*/changing ", "cut-answer", 2 * MIB))
    blocks = store.read("changing")
    got = next(blocks)
    store.delete("changing")
    fill(store, "changing", payload(len(DATA), seed=8))
    with pytest.raises(StoreFault, match="replaced"):
        got += b"".join(blocks)
    assert got == DATA[: len(got)]


def test_unavailable_is_tried_again(store: SwiftStore, flaky: FlakyProxy) -> None:
    flaky.faults.append(Fault("", "503", times=3))
    fill(store, "patient", b"some")
    for pattern in ("^HEAD", "^GET", "^PUT .*claims", "^PUT .*/patience ", "^DELETE"):
        flaky.faults.append(Fault(pattern, "503", times=2))
    fill(store, "patience", b"more")
    assert b"".join(store.read("patience")) == b"more"
    store.delete("patience")
    absent(store, "patience")
    flaky.faults.append(Fault("^HEAD", "503", times=99))
    with pytest.raises(StoreUnavailable, match="503"):
        store.stat("patient")


@pytest.mark.parametrize("known", [True, False], ids=["sized", "unsized"])
@pytest.mark.parametrize("after", [0, MIB])
def test_a_broken_upload_leaves_nothing(
    store: SwiftStore, flaky: FlakyProxy, after: int, known: bool
) -> None:
    flaky.faults += [Fault("nothing", "503"), Fault(rf"{SEGMENT_PUT}\S*000002 ", "cut-request", after)]
    source = WatchedSource(DATA)
    with pytest.raises(StoreUnavailable):
        store.write("dropped", source, size=len(DATA) if known else None)
    absent(store, "dropped")
    assert [name for name in inside(store) if "/000002" not in name] == []
    fill(store, "dropped")
    assert b"".join(store.read("dropped")) == DATA


def test_a_manifest_whose_answer_is_lost_counts(store: SwiftStore, flaky: FlakyProxy) -> None:
    for data in (DATA, b"small"):
        key = f"lost-{len(data)}"
        flaky.faults.append(Fault(f"^PUT .*/faults/{key}[ ?]", "cut-answer", 0))
        fill(store, key, data)
        assert b"".join(store.read(key)) == data


def test_a_manifest_whose_fate_is_unknown_keeps_its_segments(store: SwiftStore, flaky: FlakyProxy) -> None:
    flaky.faults += [
        Fault("^PUT .*/faults/fate[ ?]", "cut-answer", 0, times=99),
        Fault("^HEAD .*/faults/fate ", "503", times=0),
    ]
    swapped = threading.Event()

    def away(at: int) -> None:
        if at >= len(DATA) and not swapped.is_set():
            swapped.set()
            flaky.faults[1].times = 99

    with pytest.raises(StoreUnavailable):
        store.write("fate", WatchedSource(DATA + b"x", hook=away, steps=[MIB]), size=None)
    flaky.faults.clear()
    assert b"".join(store.read("fate")) == DATA + b"x", "the manifest is there, its segments aren't"
    store.sweep(utcnow() + timedelta(minutes=1))
    assert b"".join(store.read("fate")) == DATA + b"x", "the sweep took a blob's segments"


@pytest.mark.slow
def test_a_killed_server_comes_back(tmp_path: Any) -> None:
    server = SmallSwift(tmp_path)
    try:
        with opened(server.auth_url, swift_store_retry_get_count=14) as store:
            fill(store, "survivor")
            blocks = store.read("survivor")
            got = next(blocks)
            server.kill("proxy")
            threading.Timer(1, server.start).start()
            got += b"".join(blocks)
            assert got == DATA

            def kill(at: int) -> None:
                if at >= 5 * MIB:
                    server.kill("object")

            with pytest.raises(StoreUnavailable):
                store.write("victim", WatchedSource(DATA, hook=kill, steps=[MIB]), size=len(DATA))
            server.kill("proxy")  # it would leave out the object server for a minute
            server.start()
            absent(store, "victim")
            store.sweep(utcnow() + timedelta(minutes=1))
            assert len(inside(store)) == 4, "the sweep left a dead write, or took a live one's segments"
            fill(store, "victim")
            assert b"".join(store.read("victim")) == b"".join(store.read("survivor")) == DATA
    finally:
        server.stop()


@pytest.mark.parametrize("known", [True, False], ids=["sized", "unsized"])
def test_a_quota_is_a_full_store(swift: SmallSwift, known: bool) -> None:
    with opened(swift.auth_url, f"quota-{known}") as store:
        fill(store, "first", b"f" * 1000)
        assert store.usage().free is None
        store._objects.post_container(f"quota-{known}", {"X-Container-Meta-Quota-Bytes": str(5 * MIB)})
        free = store.usage().free
        assert free is not None
        assert 4 * MIB < free < 5 * MIB
        with pytest.raises(StoreFull):
            store.write("large", EndlessSource(30 * MIB), size=30 * MIB if known else None)
        absent(store, "large")
        assert inside(store) == []
        fill(store, "small", b"fits")


def test_an_accounts_quota_is_a_full_store(swift: SmallSwift) -> None:
    # The usage of accounts is counted by a daemon that doesn't run here: a segment alone must be too much.
    boss = settings(swift.auth_url, swift_store_user="boss:boss", swift_store_key="bossing")
    boss["swift_store_endpoint"] = f"{swift.url}/v1/AUTH_other"
    reseller = SwiftStore(boss)
    with opened(swift.auth_url, "account-quota") as store, closing(reseller):
        reseller._client.call("POST", "", headers={"X-Account-Meta-Quota-Bytes": str(MIB)})
        try:
            assert store.usage().free == MIB
            with pytest.raises(StoreFull):
                fill(store, "large")
            absent(store, "large")
            assert inside(store) == []
        finally:
            reseller._client.call("POST", "", headers={"X-Account-Meta-Quota-Bytes": ""})


def test_a_refused_token_is_renewed(tmp_path: Any) -> None:
    server = SmallSwift(tmp_path)
    try:
        with opened(server.auth_url) as store:

            def forget(at: int = 4 * MIB) -> None:
                if at == 4 * MIB:  # between two of the four segments
                    server.forget(store._client.auth.access().token)

            fill(store, "aging")
            forget()
            assert store.stat("aging").size == len(DATA)
            forget()
            assert b"".join(store.read("aging")) == DATA
            fill(store, "slow", hook=forget)
            assert b"".join(store.read("slow")) == DATA
            forget()
            store.delete("slow")
    finally:
        server.stop()


class Counter(V1Auth):
    """Logins of a cluster that gives the same token until its end, as TempAuth does."""

    def __init__(self, life: float | None) -> None:
        super().__init__({"swift_store_endpoint": None})
        self.now, self.life, self.born, self.logins = 1000.0, life, 1000.0, 0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def _ask(self) -> tuple[str, str, float | None]:
        self.logins += 1
        if self.life is None:
            return "http://127.0.0.1/v1/AUTH_test", "for ever", None
        if self.now >= self.born + self.life:
            self.born = self.now
        return (
            "http://127.0.0.1/v1/AUTH_test",
            f"of {self.born}",
            float(int(self.born + self.life - self.now)),
        )


@pytest.mark.parametrize(("life", "most"), [(86400.0, 8), (60.0, 8), (4.0, 4)])
def test_a_token_is_never_used_at_its_end(monkeypatch: pytest.MonkeyPatch, life: float, most: int) -> None:
    auth = Counter(life)
    monkeypatch.setattr("glancelike_store_swift.auth.time", auth)
    tokens = set()
    for _ in range(400):
        tokens.add(auth.access().token)
        assert auth.born + auth.life - auth.now >= 1, "an upload may start just when the token ends"
        auth.now += life / 100
    assert 3 <= len(tokens) <= 8
    assert auth.logins <= most * len(tokens)


def test_a_token_without_an_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = Counter(None)
    monkeypatch.setattr("glancelike_store_swift.auth.time", auth)
    first = auth.access()
    auth.now += 1e9
    assert auth.access() is first
    auth.renew(first)
    assert auth.access() is not first


def test_what_stops_the_start(swift: SmallSwift, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    wrong = "not the key at all"
    table: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (StoreDenied, "swift_store_key", {"swift_store_key": wrong}),
        (StoreUnavailable, "auth_address", {"swift_store_auth_address": "http://127.0.0.1:9/auth/v1.0"}),
        (ConfigError, "auth_address", {"swift_store_auth_address": None}),
        (ConfigError, "swift_store_key", {"swift_store_key": None}),
        (StoreDenied, "multi_tenant", {"swift_store_multi_tenant": True}),
        (
            ConfigError,
            "create_container_on_put",
            {"swift_store_container": "gone", "swift_store_create_container_on_put": False},
        ),
        (ConfigError, "temp_url_key", {"swift_store_temp_url_key": wrong}),
        (ConfigError, "project:user", {"swift_store_auth_version": "3", "swift_store_user": "alone"}),
    ]
    with opened(swift.auth_url, "keyed"):
        pass
    for kind, named, change in table:
        with pytest.raises(kind, match=named) as caught:
            SwiftStore({**settings(swift.auth_url, "keyed"), **change}).open()
        assert wrong not in str(caught.value)
        assert KEY not in str(caught.value)
    assert wrong not in caplog.text
    assert KEY not in caplog.text


def test_undecided_is_a_store_that_is_away() -> None:
    assert issubclass(Undecided, StoreUnavailable)
    assert Undecided.retryable
