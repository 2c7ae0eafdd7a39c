"""kill -9 at any point, and a restart: all ends well, and nothing is left over.

The service under test here and the workers in the children are in
different processes without a common queue, so every message is lost, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from novalite.compose import Node, build_all
from novalite.db import Database
from novalite.errors import ServerNotFound
from novalite.model import Caller, NewServer, Server, ServerQuery, Status
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


class Site:
    """A directory with a cloud whose workers are child processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"sqlite:///{directory / 'novalite.sqlite'}"
        self.node: Node = build_all(settings_of(directory, "api"), roles=frozenset(), images=Images())
        self.children: list[subprocess.Popen[str]] = []

    def start(self, point: str = "never", *, host: str = "host1", times: int = 1) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, str(CHILD), str(self.directory), host, point, str(times)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.children.append(child)
        return child

    def ready(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line == "ready\n", (line, self.log())

    def killed(self, child: subprocess.Popen[str]) -> None:
        assert child.wait(SECONDS) == -signal.SIGKILL, self.log()
        run_out_of(self.url, child.pid)

    def kill(self, child: subprocess.Popen[str]) -> None:
        os.kill(child.pid, signal.SIGKILL)
        self.killed(child)

    def stop(self, child: subprocess.Popen[str]) -> None:
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        child.wait(SECONDS)
        if child.stdout is not None:
            child.stdout.close()

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
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
            child.wait(10)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
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
    site.stop(again)
    assert again.returncode == 0


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
    assert second.wait(SECONDS) == 1
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
    site.stop(child)
    assert child.returncode == 0
    assert time.monotonic() - began < 10
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
        site.stop(child)
        assert child.returncode == 0
