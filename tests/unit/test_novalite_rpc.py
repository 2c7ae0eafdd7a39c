"""Messages: delivered within a process, refused clearly, never in the way."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from functools import partial

import pytest

from novalite.errors import ConfigError, InstanceNotFound, QueueDown
from novalite.rpc import Bus
from tests.waiting import until


@pytest.fixture
def bus() -> Iterator[Bus]:
    bus = Bus(f"kombu+inprocess:///{uuid.uuid4().hex}", response_timeout=60)
    bus.open()
    yield bus
    bus.close()


def test_rpc_casts_and_calls_reach_their_host(bus: Bus) -> None:
    seen: list[tuple[str, str]] = []
    told = threading.Event()

    def note(what: str, server_id: str) -> None:
        seen.append((what, server_id))
        if len(seen) == 3:
            told.set()

    bus.serve_scheduler("one", lambda server_id: note("schedule", server_id))
    for host in ("one", "two"):
        bus.serve_compute(
            *(host, partial(note, host), lambda *asked, host=host: f"{host} {asked}"),
            *(lambda server_id, host=host: {"id": server_id, "host": host}, print),
        )
    bus.schedule("a")
    bus.drive("one", "b")
    bus.drive("two", "c")
    assert told.wait(60)
    assert sorted(seen) == [("one", "b"), ("schedule", "a"), ("two", "c")]
    assert bus.console_output("two", "x", 10) == "two ('x', 10)"
    assert bus.diagnostics("one", "x") == {"id": "x", "host": "one"}


def test_rpc_an_error_arrives_as_what_it_was(bus: Bus) -> None:
    def refuse(server_id: str, _: int) -> str:
        raise InstanceNotFound(f"no {server_id} here")

    bus.serve_compute("one", lambda _: None, refuse, lambda _: {}, print)
    with pytest.raises(InstanceNotFound, match="no x here"):
        bus.console_output("one", "x", 10)


def test_rpc_a_foreign_error_is_the_queues(bus: Bus) -> None:
    def crash(server_id: str, _: int) -> str:
        raise ZeroDivisionError("oops")

    bus.serve_compute("one", lambda _: None, crash, lambda _: {}, print)
    with pytest.raises(QueueDown, match="oops"):
        bus.console_output("one", "x", 10)


def test_rpc_nobody_there() -> None:
    bus = Bus(f"kombu+inprocess:///{uuid.uuid4().hex}", response_timeout=0.3)
    with pytest.raises(QueueDown, match="isn't open"):
        bus.schedule("a")
    bus.open()
    bus.drive("nowhere", "a")  # a message may be lost
    with pytest.raises(QueueDown, match=r"nowhere didn't answer within 0\.3 s"):
        bus.console_output("nowhere", "x", 10)
    bus.close()


def test_rpc_clouds_in_one_process_are_apart() -> None:
    buses = [Bus(f"kombu+inprocess:///{uuid.uuid4().hex}") for _ in range(2)]
    seen: list[str] = []
    for number, bus in enumerate(buses):
        bus.open()
        console = partial("bus {}".format, number)
        bus.serve_compute("one", seen.append, lambda *_, told=console: told(), lambda _: {}, print)
    assert [bus.console_output("one", "x", 1) for bus in buses] == ["bus 0", "bus 1"]
    for bus in buses:
        bus.close()


@pytest.mark.parametrize("url", ["carrier-pigeon://", "rabbit://host:notaport/", "kombu"])
def test_rpc_a_bad_url_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match="transport_url"):
        Bus(url).open()


def test_rpc_nobody_waits_for_a_broker_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus("rabbit://guest:guest@127.0.0.1:1//", response_timeout=1)
    bus.open()
    served: list[str] = []
    bus.serve_scheduler("one", served.append)
    for _ in range(2000):  # more than may wait
        bus.schedule("a")
    with pytest.raises(QueueDown, match="host h didn't answer within 1 s"):
        bus.console_output("h", "a", 1)
    until(lambda: "messages were not sent" in caplog.text)
    bus.close()
    assert served == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"oslo_messaging_rabit": {"ssl": "true"}}, r"nothing reads the section \[oslo_messaging_rabit\]"),
        ({"oslo_messaging_rabbit": {"sll": "true"}}, r"unknown option sll in \[oslo_messaging_rabbit\]"),
        ({"oslo_messaging_rabbit": {"ssl": "perhaps"}}, r"\[oslo_messaging_rabbit\] ssl: "),
    ],
)
def test_rpc_wrong_options_of_the_library_stop_the_start(
    options: dict[str, dict[str, str]], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        Bus("rabbit://127.0.0.1/", options).open()
