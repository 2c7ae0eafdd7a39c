"""Many processes on one registry and store, some of them killed or stopped: nothing is lost.

``tox -e soak`` runs it for minutes. SOAK_SECONDS, SOAK_PROCESSES and
SOAK_SEED say for how long, with how many, and from which seed; the same
seed makes the same steps, but not in the same order.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import re
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import sqlalchemy as sa

from glancelike.registry.sql import SqlRegistry
from tests.soak.checks import Checks, Watcher, limits_of, settle
from tests.soak.history import History
from tests.soak.worker import LEASE_SECONDS, Job, main, service_of

SECONDS = float(os.environ.get("SOAK_SECONDS") or 5)
PROCESSES = int(os.environ.get("SOAK_PROCESSES") or 6)
SEED = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1 << 32))
KILL_EVERY = 1.0  # seconds, about
PAUSED = 0.4  # of those that would be killed
END_SECONDS = 120.0
# It goes on until so much has come of it, however slow the machine.
AT_LEAST = ("create", "rename", "add tag", "add property", "upload", "download")
SHOWN = 5  # violations, each with the history of its image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 300)]


class Pack:
    """The processes of a race: from a server that has imported all, so that one starts at once."""

    def __init__(self, connection: str, path: Path, rng: random.Random) -> None:
        self.killed = self.paused = 0
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.soak.worker"])
        self._connection = connection
        self._path = path
        self._rng = rng
        self._started = 0
        self._alive: list[BaseProcess] = []
        self._paused: dict[BaseProcess, float] = {}  # until when
        warm = self._context.Process(target=int)
        warm.start()
        warm.join()
        self._stop = path / "stop"
        self._until = time.monotonic() + SECONDS

    def run(self) -> None:
        """Let them run, and kill or pause one now and then, until time is up."""
        try:
            deadline = self._until + END_SECONDS
            while (now := time.monotonic()) < self._until or (now < deadline and self._idle()):
                while len(self._alive) < PROCESSES:
                    self._start()
                time.sleep(KILL_EVERY * (0.5 + self._rng.random()))
                self._resume(time.monotonic())
                if now >= self._until:
                    continue  # on a slow machine they didn't live long enough for what is still missing
                if self._rng.random() < PAUSED and len(self._paused) < PROCESSES // 3:
                    self._pause()
                else:
                    self._kill()
                    self.killed += 1
            self._stop.touch()
            self._resume()
            for process in self._alive:
                process.join(END_SECONDS)
                assert process.exitcode == 0, f"{process.name} ended with {process.exitcode}"
        finally:
            while self._alive:
                self._kill()

    def _kill(self) -> None:
        victim = self._alive.pop(self._rng.randrange(len(self._alive)))
        self._paused.pop(victim, None)
        victim.kill()
        victim.join()

    def _pause(self) -> None:
        """Stop a process for longer than its leases last: it goes on when others have its work."""
        awake = [process for process in self._alive if process not in self._paused]
        process = self._rng.choice(awake)
        os.kill(process.pid or 0, signal.SIGSTOP)
        self._paused[process] = time.monotonic() + 1.5 * LEASE_SECONDS
        self.paused += 1

    def _resume(self, now: float = math.inf) -> None:
        for process in [each for each, until in self._paused.items() if until <= now]:
            del self._paused[process]
            os.kill(process.pid or 0, signal.SIGCONT)

    def _idle(self) -> bool:
        counts = History(self._path.glob("*.steps")).counts()
        return not all(counts.get(f"{what} done") for what in AT_LEAST)

    def _start(self) -> None:
        self._started += 1
        name = f"w{self._started:03}"
        job = Job(
            name,
            self._connection,
            self._path,
            self._path / f"{name}.steps",
            self._rng.randrange(1 << 32),
            self._stop,
        )
        process = self._context.Process(target=main, args=(job,), name=name)
        process.start()
        self._alive.append(process)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a database with tables."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/images.db"
        SqlRegistry({"connection": url}).upgrade()
        yield url
        return
    server = request.getfixturevalue("postgres_server" if request.param == "postgresql" else "maria_server")
    name = f"soak{uuid.uuid4().hex[:12]}"
    url = server.make_database(name)
    SqlRegistry({"connection": url}).upgrade()
    yield url
    server.drop_database(name)


def test_nothing_is_lost(connection: str, tmp_path: Path) -> None:
    for store in ("images", "staging"):
        (tmp_path / store).mkdir()
    pack = Pack(connection, tmp_path, random.Random(SEED))
    with service_of(connection, tmp_path) as service:
        registry = SqlRegistry({"connection": connection, "sqlite_busy_timeout": 20.0})
        registry.open()
        with closing(registry), Watcher(registry, limits_of(service)) as watcher:
            pack.run()
            stuck = list(settle(service))
        history = History(tmp_path.glob("*.steps"))
        engine = sa.create_engine(connection, poolclass=sa.NullPool)
        found = [*watcher.seen, *stuck, *Checks(history, service, engine).all()]
    print(f"seed {SEED}: {pack.killed} killed, {pack.paused} paused, {watcher.samples} looks at usage")
    print(history.counts())
    assert not found, report(found, history)
    assert pack.killed
    assert watcher.samples
    assert all(history.counts().get(f"{what} done") for what in AT_LEAST)


def report(found: list[str], history: History) -> str:
    """Return the violations, and what was done to the images that they are about."""
    images = {
        id_
        for each in found[:SHOWN]
        for id_ in re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", each)
    }
    told = [f"seed {SEED}: {len(found)} violations", *found[: 10 * SHOWN]]
    for image in sorted(images):
        told += [f"history of {image}:", *map(str, history.of(image))]
    return "\n".join(told)
