"""kill -9 at any point, and a restart: all ends well, and nothing is left over.

The service under test here and the workers in the children are in
different processes without a common queue, so every message is lost, too.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from novalite.compose import Node, build_all
from novalite.db import Database
from novalite.errors import ServerNotFound
from novalite.model import Caller, NewServer, Server, ServerQuery, Status
from tests import warm
from tests.functional.novalite_child import IMAGE, FileDriver, Images, settings_of
from tests.leases import go_silent, run_out_of
from tests.waiting import SECONDS

CHILD = Path(__file__).with_name("novalite_child.py")
ADMIN = Caller.administrator("project")
BUILD_POINTS = [
    "work-end",
    "claim-end",
    "fetch-middle",
    "spawn-begin",
    "spawn-middle",
    "spawn-end",
    "built-end",
]
DELETE_POINTS = ["destroy-middle", "destroy-end", "deleted-end"]


class Child:
    """A node in a process of its own that runs until its input ends."""

    def __init__(self, directory: Path, *words: str) -> None:
        theirs, ours = os.pipe()
        self.stdin = os.fdopen(ours, "w")
        ours, said = os.pipe()
        self.stdout = os.fdopen(ours)
        with (directory / "stderr.log").open("ab") as log:
            command = [CHILD, directory, *words]
            self.process = warm.start(command, stdin=theirs, stdout=said, stderr=log)
        os.close(theirs)
        os.close(said)

    def end(self) -> None:
        """Kill it if it runs, and leave nothing open."""
        self.process.kill()
        self.process.wait(SECONDS)
        self.stdin.close()
        self.stdout.close()


class Site:
    """A directory with a cloud whose workers are child processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"sqlite:///{directory / 'novalite.sqlite'}"
        self.node: Node = build_all(settings_of(directory, "api"), roles=frozenset(), images=Images())
        self.children: list[Child] = []

    def start(self, point: str = "never", *, host: str = "host1", times: int = 1) -> Child:
        child = Child(self.directory, host, point, str(times))
        self.children.append(child)
        return child

    def ready(self, child: Child) -> None:
        line = child.stdout.readline()
        assert line == "ready\n", (line, self.log())

    def killed(self, child: Child) -> None:
        assert child.process.wait(SECONDS) == -signal.SIGKILL, self.log()
        run_out_of(self.url, child.process.pid)

    def kill(self, child: Child) -> None:
        child.process.kill()
        self.killed(child)

    def stop(self, child: Child) -> int:
        """Have it end; return its exit status."""
        child.stdin.close()
        return child.process.wait(SECONDS)

    def order(self, count: int = 1, host: str | None = None) -> tuple[Server, ...]:
        wanted = NewServer("vm", IMAGE.id, "42", host=host, min_count=count, max_count=count)
        return self.node.service.servers.create(ADMIN, wanted)

    def show(self, server: Server) -> Server | None:
        try:
            return self.node.service.servers.show(ADMIN, server.id)
        except ServerNotFound:
            return None

    def settle(self, *servers: Server) -> list[Server | None]:
        """Wait until no server has a task, and all leftovers are gone."""

        def done() -> bool:
            records = [self.show(server) for server in servers]
            return all(record is None or record.task_state is None for record in records)

        until(done, self.log)
        return [self.show(server) for server in servers]

    def states(self, host: str = "host1") -> dict[str, str]:
        driver = FileDriver({"instances_path": str(self.directory / host / "instances")})
        driver.open()
        return {key: str(value) for key, value in driver.list_states().items()}

    def folders(self, host: str = "host1") -> set[str]:
        folder = self.directory / host / "instances"
        return {path.name for path in folder.iterdir() if path.name != "_base"} if folder.exists() else set()

    def agree(self, *hosts: str) -> None:
        """Check that hypervisors, records and allocations tell the same."""
        for host in hosts or ("host1",):
            query = ServerQuery(all_projects=True, host=host)
            placed = {server.id: server for server in self.node.service.servers.list(ADMIN, query).items}
            until(
                lambda host=host, placed=placed: (  # type: ignore[misc]
                    self.folders(host) == set(placed) == set(self.states(host))
                ),
                lambda host=host: f"{self.folders(host)} {self.states(host)} {self.log()}",  # type: ignore[misc]
            )
            assert self.node.service.hosts.show(ADMIN, host).server_ids == set(placed)
            for server in placed.values():
                assert server.lease_holder is None
                assert self.states(host)[server.id] == server.power_state

    def log(self) -> str:
        return "\n".join(path.read_text()[-4000:] for path in self.directory.glob("*.log"))


def until(done: Callable[[], bool], tell: Callable[[], str], seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, tell()
        time.sleep(0.02)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.node.open()
    yield site
    for child in site.children:
        child.end()
    site.node.close()


@pytest.mark.parametrize("point", BUILD_POINTS)
def test_recovery_killed_while_building(site: Site, point: str) -> None:
    servers = site.order(2)
    site.killed(site.start(point))
    again = site.start()
    site.ready(again)
    for record in site.settle(*servers):
        assert record is not None
        assert record.status == Status.ACTIVE, (record.fault, site.log())
    site.agree()
    assert site.stop(again) == 0


def test_recovery_killed_by_every_build_ends_in_error_with_the_reason(site: Site) -> None:
    (server,) = site.order()
    for _ in range(3):
        site.killed(site.start("spawn-middle"))
    last = site.start("spawn-middle")
    site.ready(last)
    (record,) = site.settle(server)
    assert record is not None
    assert record.status == Status.ERROR
    assert record.fault is not None
    assert record.fault.message == "spawning was begun 3 times on host host1 and never ended"
    site.agree()
    assert site.folders() == set()


@pytest.mark.parametrize("point", DELETE_POINTS)
def test_recovery_killed_while_deleting(site: Site, point: str) -> None:
    servers = site.order(2)
    first = site.start()
    site.ready(first)
    site.settle(*servers)
    site.stop(first)
    site.node.service.servers.delete(ADMIN, servers[0].id)
    site.killed(site.start(point))
    again = site.start()
    site.ready(again)
    _, kept = site.settle(*servers)
    until(lambda: site.show(servers[0]) is None, site.log)
    assert kept is not None
    assert kept.status == Status.ACTIVE
    site.agree()


@pytest.mark.parametrize("point", ["power-begin", "power-end"])
def test_recovery_killed_while_stopping(site: Site, point: str) -> None:
    (server,) = site.order()
    first = site.start()
    site.ready(first)
    site.settle(server)
    site.stop(first)
    site.node.service.servers.stop(ADMIN, server.id)
    site.killed(site.start(point))
    again = site.start()
    site.ready(again)
    (record,) = site.settle(server)
    assert record is not None
    assert (record.status, record.power_state) == (Status.SHUTOFF, "shutdown")
    site.agree()


def test_recovery_deleted_while_its_host_was_dead(site: Site) -> None:
    servers = site.order(2)
    site.killed(site.start("spawn-middle", times=2))
    go_silent(site.url, "host1")
    assert not site.node.service.hosts.show(ADMIN, "host1").up
    for server in servers:
        site.node.service.servers.delete(ADMIN, server.id)
        assert site.show(server) is None
    assert len(site.folders()) == 2
    again = site.start()
    site.ready(again)
    until(lambda: site.folders() == set(), site.log)
    site.agree()


def test_recovery_two_hosts_one_dies_again_and_again(site: Site) -> None:
    steady, shaky = site.start(host="steady"), site.start(host="shaky")
    site.ready(steady)
    site.ready(shaky)
    site.kill(shaky)
    servers = ()
    for point in ("spawn-middle", "built-begin"):
        servers += (*site.order(2, host="shaky"), *site.order(2))
        site.killed(site.start(point, host="shaky"))
    shaky = site.start(host="shaky")
    site.ready(shaky)
    records = site.settle(*servers)
    assert {record.status for record in records if record is not None} == {Status.ACTIVE}
    assert {record.host for record in records[:2] if record is not None} == {"shaky"}
    site.agree("steady", "shaky")


def test_recovery_a_second_process_of_the_same_host_is_refused(site: Site) -> None:
    first = site.start()
    site.ready(first)
    second = site.start()
    assert second.process.wait(SECONDS) == 1
    (server,) = site.order()
    (record,) = site.settle(server)
    assert record is not None
    assert record.status == Status.ACTIVE
    # Killed, it leaves the host to the next one at once.
    site.kill(first)
    third = site.start()
    site.ready(third)
    site.agree()


def test_recovery_stopping_is_quick_and_leaves_guests_running(site: Site) -> None:
    (server,) = site.order()
    child = site.start()
    site.ready(child)
    site.settle(server)
    began = time.monotonic()
    assert site.stop(child) == 0
    assert time.monotonic() - began < 30
    assert site.states() == {server.id: "running"}


def test_recovery_many_processes_may_use_the_database(site: Site, tmp_path: Path) -> None:
    hosts = ("one", "two", "three")
    children = [site.start(host=host) for host in hosts]
    for child in children:
        site.ready(child)
    servers = site.order(15)
    records = site.settle(*servers)
    assert {record.status for record in records if record is not None} == {Status.ACTIVE}
    site.agree(*hosts)
    assert Database.head() == Database(f"sqlite:///{tmp_path / 'novalite.sqlite'}").head()
    for child in children:
        assert site.stop(child) == 0
