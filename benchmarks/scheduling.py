"""How many servers a scheduler places a second, and whether that lasts as servers grow.

    python -m benchmarks.scheduling [postgresql|mariadb|sqlite] [--hosts 1000] [--servers 10000] [--profile]

One scheduler with one thread places servers, one after the other, on hosts that are rows
only, as nothing is asked of a host before it has a server: in an empty cloud, and in one that
has a quarter, a half, and all of the servers already. In the full one it's done by eight
threads of two schedulers at once, too, which race for the hosts. Each host has some images, and
a tenth of them the one that is booted. CPU is the scheduler's own, without the database's.
"""

from __future__ import annotations

import argparse
import cProfile
import logging
import pstats
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rich.console import Console

from benchmarks.report import Goal, Row, table
from novalite.config import load
from novalite.db import Database
from novalite.db.tables import allocations, hosts
from novalite.model import ComputeHost, Flavor, ImageInfo, Server, Usage, VmState
from novalite.rpc import Bus
from novalite.scheduler.manager import SchedulerManager
from tests.database_servers import SERVERS

DRIVERS = ("simple", "chance", "zone")
UNLIMITED = Usage(-1, -1, -1)
FLAVOR = Flavor("f", "flavor", vcpus=1, memory_mb=512, disk_gb=5)
HOST = ComputeHost("", "", "fake", "1", "fake", "x86_64", vcpus=32, memory_mb=65536, disk_gb=1000)
ZONES = 4
BATCH = 500
IMAGE = str(uuid.UUID(int=1))
RACERS, THREADS = 2, 4
#: How much slower a decision may be in a full cloud than in an empty one.
FLAT = 1.25
PARTS = (0, 0.25, 0.5, 1)


@dataclass(frozen=True)
class Cloud:
    """Hosts and servers in a database, and schedulers to place them."""

    url: str
    database: Database
    schedulers: Sequence[SchedulerManager]

    def order(self, count: int) -> list[str]:
        """Order servers that wait for a host; return their ids."""
        return [server.id for server in self._add(count)]

    def fill(self, count: int) -> None:
        """Have servers that are placed already, evenly."""
        if not count:
            return
        names = [host.name for host in self.database.hosts.list()]
        size = {name: getattr(FLAVOR, name) for name in ("vcpus", "memory_mb", "disk_gb")}
        made = self._add(count, names, vm_state=VmState.ACTIVE, task_state=None)
        engine = sa.create_engine(self.url)
        with engine.begin() as connection:
            claims = [{"server_id": each.id, "host": each.host, **size} for each in made]
            connection.execute(sa.insert(allocations), claims)
            connection.execute(sa.update(hosts).values(generation=hosts.c.generation + 1))
        engine.dispose()

    def _add(self, count: int, names: Sequence[str | None] = (None,), **values: Any) -> list[Server]:
        made: list[Server] = []
        while len(made) < count:
            numbers = range(len(made), min(len(made) + BATCH, count))
            batch = [self._server(n, host=names[n % len(names)], **values) for n in numbers]
            self.database.servers.insert(batch, quota=UNLIMITED, minimum=len(batch))
            made += batch
        return made

    @staticmethod
    def _server(number: int, **values: Any) -> Server:
        return Server(
            id=str(uuid.uuid4()),
            name=f"vm-{number}",
            project=f"p{number % 50}",
            user="u",
            flavor=FLAVOR,
            image=ImageInfo(IMAGE, properties={"hw_architecture": "x86_64"}),
            zone=f"zone{number % ZONES}",
            **values,
        )

    def placed(self) -> int:
        return sum(len(host.server_ids) for host in self.database.hosts.list())


@contextmanager
def cloud(folder: Path, url: str, driver: str, count: int, images: int) -> Iterator[Cloud]:
    """Make the database and the schedulers."""
    with ExitStack() as stack:
        settings = load(
            [],
            config_files=[],
            overrides={
                ("DEFAULT", "state_path"): str(folder),
                ("DEFAULT", "compute_driver"): "fake",
                ("DEFAULT", "service_down_time"): 86400,
                ("DEFAULT", "lease_seconds"): 600,
                ("database", "connection"): url,
                ("scheduler", "driver"): driver,
            },
        )
        database = Database(url, settings.database.options, down_after=settings.service_down_time)
        database.open(upgrade=True)
        stack.callback(database.close)
        for number in range(count):
            has = [IMAGE, *(str(uuid.uuid4()) for _ in range(images))][number % 10 != 0 :]
            database.hosts.register(replace(HOST, name=f"host{number:04}", zone=f"zone{number % ZONES}"), has)
        schedulers = []
        for _ in range(RACERS):
            bus = Bus(f"kombu+inprocess:///{uuid.uuid4().hex}")
            bus.open()
            stack.callback(bus.close)
            schedulers.append(SchedulerManager(settings, database, bus))
        yield Cloud(url, database, schedulers)


def alone(made: Cloud, count: int) -> tuple[float, float]:
    """Place servers one after the other; return a decision's milliseconds, and those of CPU here."""
    waiting = made.order(count)
    made.schedulers[0]._place(waiting[0])  # which finds what has changed meanwhile
    began, used = time.perf_counter(), time.process_time()
    for server_id in waiting[1:]:
        made.schedulers[0]._place(server_id)
    each = 1000 / (count - 1)
    return each * (time.perf_counter() - began), each * (time.process_time() - used)


def racing(made: Cloud, waiting: Sequence[str]) -> float:
    """Place all by several threads of several schedulers; return decisions a second."""
    began = time.perf_counter()
    with ThreadPoolExecutor(RACERS * THREADS) as pool:
        for number, server_id in enumerate(waiting):
            pool.submit(made.schedulers[number % RACERS]._place, server_id)
    return len(waiting) / (time.perf_counter() - began)


class Statements:
    """Counts what is asked of the database, and the rows that come."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_: object) -> None:
        self.count += 1

    @contextmanager
    def counting(self) -> Iterator[None]:
        sa.event.listen(sa.Engine, "before_cursor_execute", self)
        try:
            yield
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", self)


def measured(made: Cloud, driver: str, count: int, decisions: int) -> Iterator[Row]:
    """Measure one strategy."""
    name, there = f"{driver}: a server placed", 0
    took: list[tuple[float, float]] = []
    for part in PARTS:
        made.fill(round(count * part) - there)
        there = round(count * part)
        took.append(alone(made, decisions))
        if part:
            full = f"{there:,} there"
            yield Row(name, f"ms, {full}", took[-1][0], "none there", took[0][0])
            yield Row(name, f"ms of CPU, {full}", took[-1][1], "none there", took[0][1], Goal(most=FLAT))
    yield Row(name, "decisions/s", 1000 / took[-1][0])
    statements = Statements()
    few = made.order(20)
    with statements.counting():
        for server_id in few:
            made.schedulers[0]._place(server_id)
    assert made.placed() == there + len(few) + decisions * len(PARTS), "all are placed"
    yield Row(name, "statements", statements.count / len(few))
    yield Row(name, f"decisions/s, {RACERS} x {THREADS} racing", racing(made, made.order(decisions)))


def profiled(made: Cloud, count: int) -> None:
    """Show where a decision in a full cloud goes."""
    made.fill(count)
    alone(made, 10)
    profile = cProfile.Profile()
    waiting = made.order(200)
    profile.enable()
    for server_id in waiting:
        made.schedulers[0]._place(server_id)
    profile.disable()
    pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


@contextmanager
def database_url(kind: str, folder: Path, name: str) -> Iterator[str]:
    """Make an empty database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / name}.db"
        return
    (server_class,) = (each for each in SERVERS if each.name == kind)
    server = server_class(folder / f"{kind}-{name}")
    try:
        yield server.make_database(name)
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "database", nargs="?", default="postgresql", choices=["postgresql", "mariadb", "sqlite"]
    )
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--servers", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=100, help="that each host has")
    parser.add_argument("--decisions", type=int, default=300, help="servers placed for each figure")
    parser.add_argument("--driver", action="append", choices=DRIVERS, help="all by default")
    parser.add_argument("--profile", action="store_true", help="show where the time goes instead")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="sched-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the database may run as somebody else
        rows: list[Row] = []
        for driver in arguments.driver or DRIVERS:
            with ExitStack() as stack:
                url = stack.enter_context(database_url(arguments.database, folder, driver))
                made = stack.enter_context(cloud(folder, url, driver, arguments.hosts, arguments.images))
                if arguments.profile:
                    profiled(made, arguments.servers)
                else:
                    rows += measured(made, driver, arguments.servers, arguments.decisions)
        if rows:
            Console(width=130).print(table(rows))


if __name__ == "__main__":
    main()
