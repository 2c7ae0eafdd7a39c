"""The threads that work: each id alone, and nothing told is missed."""

from __future__ import annotations

import threading
import time

import pytest

from novalite.workers import Periodic, Workers
from tests.waiting import until


def test_workers_handle_each_id_in_one_thread_at_a_time() -> None:
    lock, now, most, done = threading.Lock(), set(), [], []
    two_at_once = threading.Event()

    def handle(key: str) -> None:
        with lock:
            assert key not in now
            now.add(key)
            most.append(len(now))
            if len(now) == 2:
                two_at_once.set()
        assert two_at_once.wait(60)
        time.sleep(0.002)
        with lock:
            now.discard(key)
            done.append(key)

    workers = Workers("test", 4, handle)
    workers.start()
    for number in range(100):
        workers.submit(f"k{number % 5}")
        time.sleep(0.0005)
    until(lambda: len(set(done)) == 5)
    assert workers.stop(60)
    assert two_at_once.is_set()
    assert max(most) <= 4


def test_workers_handle_once_more_what_is_told_meanwhile() -> None:
    entered, leave, runs = threading.Event(), threading.Event(), []

    def handle(key: str) -> None:
        runs.append(key)
        entered.set()
        leave.wait(60)

    workers = Workers("test", 2, handle)
    workers.start()
    workers.submit("a")
    assert entered.wait(60)
    for _ in range(3):
        workers.submit("a")
    time.sleep(0.02)
    assert runs == ["a"]
    leave.set()
    until(lambda: len(runs) == 2)
    time.sleep(0.02)
    assert runs == ["a", "a"]
    assert workers.stop(60)


def test_workers_hold_keeps_an_id_from_being_handled() -> None:
    runs: list[str] = []
    workers = Workers("test", 2, runs.append)
    workers.start()
    with workers.hold("a") as free, workers.hold("a") as again:
        assert (free, again) == (True, False)
        workers.submit("a")
        workers.submit("b")
        until(lambda: runs == ["b"])
    until(lambda: runs == ["b", "a"])
    assert workers.stop(60)


def test_workers_survive_what_work_raises(caplog: pytest.LogCaptureFixture) -> None:
    runs: list[str] = []

    def handle(key: str) -> None:
        runs.append(key)
        raise ZeroDivisionError(key)

    workers = Workers("test", 1, handle)
    workers.start()
    for key in "abc":
        workers.submit(key)
    until(lambda: runs == ["a", "b", "c"])
    assert workers.stop(60)
    assert "work on b broke off" in caplog.text


def test_workers_stop_says_when_work_goes_on() -> None:
    entered, leave = threading.Event(), threading.Event()

    def handle(_: str) -> None:
        entered.set()
        leave.wait(60)

    workers = Workers("test", 1, handle)
    workers.start()
    workers.submit("a")
    assert entered.wait(60)
    assert not workers.stop(0.05)
    leave.set()


def test_periodic_goes_on_after_errors_and_stops_at_once() -> None:
    runs: list[int] = []

    def action() -> None:
        runs.append(1)
        raise ZeroDivisionError

    periodic = Periodic("test", 0.01, action)
    periodic.start()
    until(lambda: len(runs) >= 3)
    periodic.stop(60)
    seen = len(runs)
    time.sleep(0.05)
    assert len(runs) == seen
    patient = Periodic("test", 1000, lambda: None)
    patient.start()
    patient.stop(60)
    assert "test" not in {thread.name for thread in threading.enumerate()}
