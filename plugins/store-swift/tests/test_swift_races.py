"""Who wins a key: what Swift alone guarantees, and what the claims add."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from glancelike_store_swift import SwiftStore, publishing
from glancelike_store_swift.client import Answer
from glancelike_store_swift.layout import new_id
from swift_servers import SmallSwift, inside, settings

from glancelike.errors import BlobExists
from glancelike.testing.sources import WatchedSource
from glancelike.testing.store_kit import Task

HALF = b"first half, "


@pytest.fixture
def store(swift: SmallSwift) -> Iterator[SwiftStore]:
    store = SwiftStore(settings(swift.auth_url, "races"))
    store.open()
    with closing(store):
        yield store
        for info in store.list():
            store.delete(info.key)


class SlowPut:
    """A PUT that Swift has let in, and that ends when it is told to."""

    def __init__(self, store: SwiftStore, key: str, headers: dict[str, str], last: bytes) -> None:
        access = store._client.auth.access()
        parts = urlsplit(access.url)
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        self._last = last
        self._connection.putrequest("PUT", f"{parts.path}/races/{key}")
        sent = {**headers, "X-Auth-Token": access.token, "Content-Length": str(len(HALF + last))}
        for name, value in sent.items():
            self._connection.putheader(name, value)
        # Swift says "continue" only when the object server has let the request in.
        self._connection.putheader("Expect", "100-continue")
        self._connection.endheaders()
        assert b" 100 " in self._connection.sock.recv(200)
        self._connection.send(HALF)

    def end(self) -> int:
        self._connection.send(self._last)
        answer = self._connection.getresponse()
        answer.read()
        self._connection.close()
        return answer.status


def test_if_none_match_alone_lets_two_writers_win(store: SwiftStore) -> None:
    """Why there are claims: were this to fail one day, they could go."""
    once = {"If-None-Match": "*"}
    slow = [SlowPut(store, "both", once, last) for last in (b"one", b"two")]
    assert [put.end() for put in slow] == [201, 201]


def test_the_later_of_two_overlapping_writers_wins_alone(store: SwiftStore) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def put(headers: dict[str, str]) -> Answer:
        slow = SlowPut(store, "overlap", headers, b"slow")
        begun.set()
        go_on.wait(30)
        return Answer(slow.end(), {}, b"", 1)

    first = Task(lambda: store._own._publisher.publish("overlap", new_id(), put))
    assert begun.wait(30)
    second = Task(lambda: store.write("overlap", WatchedSource(b"quick"), size=5))
    while not any(name.endswith(".done") for name in inside(store)):
        assert second.error is None
    # The second has stored its object, sees the first's claim, and waits.
    go_on.set()
    second.result(60)
    with pytest.raises(BlobExists):
        first.result(60)
    assert b"".join(store.read("overlap")) == b"quick"
    assert inside(store) == []


def test_a_dead_writers_claim_holds_nobody_up_for_ever(
    store: SwiftStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "CLAIM_SECONDS", 1.0)
    store._objects.put("races", f".claims/orphan/{new_id()}")
    store.write("orphan", WatchedSource(b"goes on"), size=7)
    assert b"".join(store.read("orphan")) == b"goes on"
