"""Conformance: capabilities, list, copy, usage, secrets and threads."""

from __future__ import annotations

import logging
import time
import traceback
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from glancelike.errors import (
    BlobExists,
    BlobNotFound,
    GlancelikeError,
    InvalidInput,
    Unsupported,
)
from glancelike.model import utcnow
from glancelike.stores.base import Cap, Store
from glancelike.stores.guard import Guard
from glancelike.testing.sources import WatchedSource, payload
from glancelike.testing.store_kit import MIB, AnyStore, StoreKit, Task, clause, refusal

NO_UPLOAD = "0" * 64

CALLS: dict[Cap, tuple[str, Callable[[AnyStore, str], Any]]] = {
    Cap.RANGE: ("read(offset=1)", lambda store, key: store.read(key, offset=1)),
    Cap.WRITE: ("write()", lambda store, key: store.write(key, WatchedSource(b"x"), size=1)),
    Cap.UNKNOWN_SIZE: (
        "write(size=None)",
        lambda store, key: store.write(key, WatchedSource(b"x"), size=None),
    ),
    Cap.DELETE: ("delete()", lambda store, key: store.delete(key)),
    Cap.LIST: ("list()", lambda store, key: list(store.list(key))),
    Cap.COPY: ("copy()", lambda store, key: store.copy(key, f"{key}-copy")),
    Cap.PRESIGN: ("presign()", lambda store, key: store.presign(key, "GET", 60)),
    Cap.LOCAL: ("local_path()", lambda store, key: store.local_path(key)),
    Cap.PARTS: ("begin()", lambda store, key: store.begin(key)),
    Cap.USAGE: ("usage()", lambda store, key: store.usage()),
    Cap.URLS: ("url_of()", lambda store, key: store.url_of(key)),
}
# What the calls above need besides, so that they get as far as the refusal.
BESIDES = {Cap.UNKNOWN_SIZE: Cap.WRITE}


class Looking(StoreKit):
    """Tests of the clauses 8, 9 and of the smaller capabilities."""

    def test_capabilities_are_sound(self, bare: Store) -> None:
        caps = bare.capabilities
        assert isinstance(caps, Cap), clause(8, f"capabilities is {caps!r}, not a Cap")
        for cap, base in ((Cap.UNKNOWN_SIZE, Cap.WRITE), (Cap.PARTS, Cap.WRITE)):
            assert cap not in caps or base in caps, clause(cap, f"means nothing without {base.name}")
        assert all(isinstance(scheme, str) for scheme in bare.schemes), clause(8, "schemes aren't strings")
        said = f"keys_by_owner is {bare.keys_by_owner!r}, neither True nor False"
        assert isinstance(bare.keys_by_owner, bool), clause(8, said)

    @pytest.mark.parametrize("cap", list(CALLS), ids=lambda cap: cap.name)
    def test_undeclared_is_refused(self, store: AnyStore, cap: Cap) -> None:
        if cap in self.driver.capabilities:
            return
        besides = BESIDES.get(cap)
        what, call = CALLS[cap]
        key = self.key()
        if cap in (Cap.RANGE, Cap.DELETE, Cap.COPY, Cap.PRESIGN, Cap.LOCAL):
            self.seed(key, b"some bytes")
        elif besides is not None:
            self.needs(besides)
        with refusal(cap, Unsupported, f"{what} of a driver that doesn't declare it"):
            call(store, key)

    def test_list(self, store: AnyStore) -> None:
        self.needs(Cap.LIST, Cap.WRITE)
        top = self.key("list")
        names = ["a", "ab", "b", "sub/a", "sub/deep/er", "subway"]
        for number, name in enumerate(names):
            self.seed(self.own(f"{top}/{name}"), b"x" * number)
        table: list[tuple[str, list[str]]] = [
            ("/", names),
            ("/a", ["a", "ab"]),
            ("/ab", ["ab"]),
            ("/sub", ["sub/a", "sub/deep/er", "subway"]),
            ("/sub/", ["sub/a", "sub/deep/er"]),
            ("/sub/deep/er", ["sub/deep/er"]),
            ("/none", []),
            ("/sub/deep/er/none", []),
        ]
        for prefix, expected in table:
            listed = sorted(store.list(top + prefix), key=lambda info: info.key)
            said = f"list({top + prefix!r}) gave {[info.key for info in listed]}"
            assert [info.key for info in listed] == [f"{top}/{name}" for name in expected], clause(
                Cap.LIST, said
            )
            for info in listed:
                assert info.size == store.stat(info.key).size, clause(Cap.LIST, f"{info} has a wrong size")
        everything = {info.key for info in store.list()}
        assert {f"{top}/{name}" for name in names} <= everything, clause(Cap.LIST, "list() isn't complete")

    def test_keys_by_owner(self, store: AnyStore) -> None:
        self.needs(Cap.WRITE)
        if not store.keys_by_owner:
            pytest.skip("keys don't name owners")
        name = f"kit-{uuid.uuid4().hex}"
        keys = [self.own(key) for key in (name, f"kit-one/{name}", f"kit-two/{name}")]
        for key in keys:
            self.seed(key, key.encode())
        said = "the blobs of two owners and of none aren't three, though named alike"
        for key in keys:
            self.check_content(store, key, key.encode(), 1, said)
        if Cap.LIST in self.driver.capabilities:
            listed = [info.key for info in store.list()]
            assert set(keys) <= set(listed), clause(Cap.LIST, "list() shows not all owners' blobs")
        if Cap.DELETE in self.driver.capabilities:
            store.delete(keys[1])
            self.check_absent(store, keys[1], 1, "after delete()")
            for key in (keys[0], keys[2]):
                self.check_content(store, key, key.encode(), 1, "another owner's blob went, too")

    def test_copy(self, store: AnyStore) -> None:
        self.needs(Cap.COPY)
        data = payload(MIB + 1)
        source, target = self.seeded(data, "from"), self.key("sub/to")
        info = store.copy(source, target)
        assert (info.key, info.size) == (target, len(data)), clause(Cap.COPY, f"copy() returned {info!r}")
        self.check_content(store, source, data, Cap.COPY, "the original changed")
        if Cap.DELETE in self.driver.capabilities:
            store.delete(source)
        self.check_content(store, target, data, Cap.COPY, "the copy isn't the original")

    def test_copy_keeps_existing(self, store: AnyStore) -> None:
        self.needs(Cap.COPY)
        source, target = self.seeded(b"new"), self.seeded(b"old")
        with refusal(3, BlobExists, "copy() to an existing key"):
            store.copy(source, target)
        with refusal(3, BlobExists, "copy() of a key to itself"):
            store.copy(source, source)
        self.check_content(store, target, b"old", 3, "copy() replaced the old bytes")

    def test_copy_from_a_peer(self, bare: Store) -> None:
        self.needs(Cap.COPY, Cap.DELETE)
        peer = self.make_peer()
        if peer is None:
            pytest.skip("there is no other store that it could copy from")
        data = payload(MIB + 2)
        peer.open()
        try:
            key, target = self.key("theirs"), self.key("sub/ours")
            peer.write(key, WatchedSource(data), size=len(data))
            try:
                for to, from_ in ((bare, peer), (Guard(bare, store_id="kit"), Guard(peer, store_id="peer"))):
                    info = to.copy(key, target, source=from_)  # type: ignore[arg-type]
                    said = f"copy(source=) returned {info!r}"
                    assert (info.key, info.size) == (target, len(data)), clause(Cap.COPY, said)
                    self.check_content(bare, target, data, Cap.COPY, "the copy isn't the original")
                    with refusal(3, BlobExists, "copy(source=) to an existing key"):
                        to.copy(key, target, source=from_)  # type: ignore[arg-type]
                    bare.delete(target)
                with refusal(7, BlobNotFound, "copy(source=) of a missing key"):
                    bare.copy(self.key("missing"), target, source=peer)
            finally:
                peer.delete(key)
        finally:
            peer.close()

    def test_copy_from_another_kind(self, guard: Guard) -> None:
        self.needs(Cap.COPY)

        class Other(Store):
            stat = read = Store.delete  # type: ignore[assignment]

        other = Guard(Other({}), store_id="other")
        with refusal(Cap.COPY, Unsupported, "copy() from a store of another kind"):
            guard.copy(self.key(), self.key("target"), source=other)

    def test_local_path(self, store: AnyStore) -> None:
        self.needs(Cap.LOCAL)
        data = payload(MIB + 1)
        path = store.local_path(self.seeded(data, "sub/file"))
        assert isinstance(path, Path), clause(Cap.LOCAL, f"local_path() returned {path!r}")
        assert path.is_absolute(), clause(Cap.LOCAL, f"{path} isn't absolute")
        assert path.read_bytes() == data, clause(Cap.LOCAL, f"{path} holds other bytes")

    def test_presign(self, store: AnyStore) -> None:
        self.needs(Cap.PRESIGN)
        data = payload(MIB + 1)
        url = store.presign(self.seeded(data), "GET", 60)
        with urllib.request.urlopen(url, timeout=self.patience) as answer:  # noqa: S310 - the driver's own URL
            assert answer.read() == data, clause(Cap.PRESIGN, "the URL gives other bytes")

    def test_presigned_put(self, store: AnyStore) -> None:
        self.needs(Cap.PRESIGN, Cap.WRITE)
        data, key = payload(MIB + 1), self.key()
        url = store.presign(key, "PUT", 60)
        headers = {"Content-Type": "application/octet-stream"}
        put = urllib.request.Request(url, data=data, method="PUT", headers=headers)  # noqa: S310
        with urllib.request.urlopen(put, timeout=self.patience) as answer:  # noqa: S310
            assert answer.status < 300, clause(Cap.PRESIGN, f"PUT was answered {answer.status}")
        self.check_content(store, key, data, Cap.PRESIGN, "what was PUT to the URL isn't there")

    def test_presigned_url_is_for_one_use(self, store: AnyStore) -> None:
        self.needs(Cap.PRESIGN)
        key = self.seeded(b"to be read")
        url = store.presign(key, "GET", 60)
        put = urllib.request.Request(url, data=b"x", method="PUT")  # noqa: S310
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(put, timeout=self.patience)  # noqa: S310
        url = store.presign(key, "GET", 1)
        time.sleep(2.5)
        try:
            urllib.request.urlopen(url, timeout=self.patience).close()  # noqa: S310
        except urllib.error.HTTPError:
            return
        pytest.fail(clause(Cap.PRESIGN, "a URL is good after it has expired"))

    def test_sweep(self, store: AnyStore) -> None:
        self.needs(Cap.WRITE)
        key = self.seeded(b"to stay")
        uploads = Cap.PARTS in self.driver.capabilities
        upload = self.begun(store, self.key("upload")) if uploads else ""
        assert isinstance(store.sweep(utcnow() - timedelta(days=1)), int), "sweep() must count"
        if uploads:
            assert store.parts(self._uploads[-1][0], upload) == (), "sweep() removed a young upload"
        store.sweep(utcnow() + timedelta(minutes=1))
        self.check_content(store, key, b"to stay", 1, "sweep() touched a complete blob")
        if uploads:
            with refusal(Cap.PARTS, BlobNotFound, "parts() of an upload that was swept"):
                store.parts(self._uploads[-1][0], upload)

    def test_probe(self, store: AnyStore) -> None:
        found = store.probe()
        assert all(isinstance(text, str) for pair in found.items() for text in pair), "probe() maps text"

    def test_usage(self, store: AnyStore) -> None:
        self.needs(Cap.USAGE, Cap.WRITE)
        before = store.usage()
        key = self.seeded(payload(3 * MIB))
        after = store.usage()
        said = f"{after.used - before.used} more used after writing {3 * MIB} bytes"
        assert after.used - before.used >= 3 * MIB, clause(Cap.USAGE, said)
        assert after.free is None or after.free >= 0, clause(Cap.USAGE, f"{after.free} bytes free")
        if before.logical is not None and after.logical is not None:
            said = f"{after.logical - before.logical} more bytes seen after writing {3 * MIB}"
            assert after.logical - before.logical == 3 * MIB, clause(Cap.USAGE, said)
        if Cap.DELETE in self.driver.capabilities:
            store.delete(key)
            freed = store.usage()
            assert freed.used < after.used, clause(Cap.USAGE, "delete() freed nothing")
            assert freed.logical == before.logical, clause(
                Cap.USAGE, "delete() left the blob's bytes counted"
            )

    def test_urls(self, store: AnyStore) -> None:
        self.needs(Cap.URLS)
        key = self.key("by-url")  # of no blob: both methods only translate
        url = store.url_of(key)
        scheme = url.partition("://")[0]
        assert scheme in self.driver.schemes, clause(Cap.URLS, f"{url!r} has none of the driver's schemes")
        assert store.key_of(url) == key, clause(Cap.URLS, f"{url!r} isn't the URL of {key!r} alone")
        for foreign in (
            "",
            key.rpartition("://")[2],
            "nobody://has/this",
            "file:///etc/passwd",
            f"{scheme}:",
        ):
            with refusal(Cap.URLS, InvalidInput, f"key_of({foreign!r})"):
                store.key_of(foreign)

    def test_undeclared_urls(self, store: AnyStore) -> None:
        if Cap.URLS in self.driver.capabilities:
            return
        with refusal(Cap.URLS, Unsupported, "key_of() of a driver that doesn't declare it"):
            store.key_of("http://host/image")

    def test_foreign_locations(self, store: AnyStore) -> None:
        """Of a Glance that is taken over, a store must claim none that lies elsewhere."""
        for foreign in (
            "",
            "nobody://has/this",
            "cinder://volume",
            "file:///etc/passwd",
            "rbd://cluster/pool-of-nobody/image/snap",
            "s3+https://key:secret@host/bucket-of-nobody/image",
            "swift+https://user:secret@host/v1/container-of-nobody/image",
            "swift+config://reference/container-of-nobody/image",
        ):
            assert store.key_of_location(foreign) is None, clause(9, f"it takes {foreign!r} for its own")

    def test_secrets_stay_secret(self, bare: Store, caplog: pytest.LogCaptureFixture) -> None:
        for opt in bare.options:
            telling = any(word in opt.name.lower() for word in ("password", "secret", "token"))
            assert opt.secret or not telling, clause(9, f"the option {opt.name} isn't declared secret=True")
        secrets = [
            str(bare.settings[opt.dest]) for opt in bare.options if opt.secret and bare.settings[opt.dest]
        ]
        said = [repr(bare), str(bare), repr(bare.capabilities)]
        with caplog.at_level(logging.DEBUG):
            key = self.seeded(b"0123456789")
            said += [repr(bare.stat(key)), repr(self.content(bare, key))]
            for call in (
                lambda: bare.stat(self.key("missing")),
                lambda: bare.read(self.key("missing")),
                lambda: bare.read(key, offset=99),
                lambda: bare.write(key, WatchedSource(b"x"), size=1),
                lambda: bare.delete(self.key("missing")),
                lambda: bare.copy(key, key),
                lambda: bare.parts(key, NO_UPLOAD),
                # The URL itself may say whose key it's signed with, and is a secret anyway.
                lambda: bare.presign(self.key("missing"), "GET", 60) and None,
                lambda: bare.url_of(key),
            ):
                said.append(_outcome(call))
        for secret in secrets:
            for text in [*said, caplog.text]:
                # The text itself isn't shown: it would put the secret into the report.
                assert secret not in text, clause(
                    9, "the value of a secret option is in an error, a log or repr()"
                )

    def test_eight_threads(self, store: AnyStore) -> None:
        self.needs(Cap.WRITE)
        data = payload(MIB // 2)
        shared = self.seeded(data, "shared")
        tasks = [Task(partial(self._mixture, store, number, shared, data)) for number in range(8)]
        for task in tasks:
            try:
                task.result(self.patience)
            except (GlancelikeError, AssertionError, TimeoutError, OSError) as error:
                pytest.fail(clause(8, f"one of eight threads got {error!r}"))

    def _mixture(self, store: AnyStore, number: int, shared: str, data: bytes) -> None:
        for turn in range(4):
            own = payload(1000 * number + turn, seed=number)
            key = self.key(f"thread/{number}-{turn}")
            store.write(key, WatchedSource(own, steps=[333, 77]), size=len(own))
            assert self.content(store, key) == own, "other bytes than it wrote"
            assert self.content(store, shared) == data, "other bytes of a blob all read"
            if Cap.LIST in self.driver.capabilities:
                assert key in [info.key for info in store.list(key[:-1])], "its blob isn't listed"
            if Cap.DELETE in self.driver.capabilities:
                store.delete(key)
                with pytest.raises(BlobNotFound):
                    store.stat(key)


def _outcome(call: Callable[[], Any]) -> str:
    """Return all that a call tells: its result, or its error as a log would show it."""
    try:
        return repr(call())
    except Exception as error:
        return "".join([*traceback.format_exception(error), str(error), repr(error), repr(vars(error))])
