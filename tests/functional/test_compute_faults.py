"""Each process killed at each step, the broker, too; messages lost, doubled, late. See docs/."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest
import urllib3

from novalite.faults import POINTS
from novalite.model import ServerQuery
from novalite.rpc import Bus
from tests.compute_site import Site, running, upload
from tests.database_servers import DatabaseServer
from tests.fault_table import DOCUMENT, ENDS, cases, renewed
from tests.rabbit_server import RabbitServer
from tests.server_fixtures import Server
from tests.waiting import wait_for

ORDERS = {"stop": "os-stop", "start": "os-start"}


@pytest.fixture(scope="module")
def image_id(api_server: Server) -> str:
    return upload(api_server.url, b"\0" * 4096)


@pytest.fixture(scope="module")
def site(
    rabbit_server: RabbitServer,
    postgres_server: DatabaseServer,
    api_server: Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("faults")
    with running(directory, rabbit_server, postgres_server, api_server.url) as site:
        yield site


class Servers:
    """Servers to give orders for: those that a test leaves are the next one's."""

    def __init__(self, site: Site, image_id: str) -> None:
        self._site = site
        self._image_id = image_id
        self._left: list[str] = []

    def take(self, status: str) -> str:
        """Return a server with a status."""
        for server_id in self._left:
            if self._site.status(server_id) == status:
                self._left.remove(server_id)
                return server_id
        server_id = self._site.boot(self._image_id)
        self._site.wait(server_id, "ACTIVE")
        if status == "SHUTOFF":
            self._site.act(server_id, "os-stop")
            self._site.wait(server_id, status)
        return server_id

    def leave(self, server_id: str) -> None:
        self._left.append(server_id)

    def order(self, what: str) -> str:
        """Give an order whose answer may not come; return its server."""
        name = f"vm-{uuid.uuid4().hex[:8]}"
        server_id = "" if what == "boot" else self.take("SHUTOFF" if what == "start" else "ACTIVE")
        with suppress(urllib3.exceptions.HTTPError):  # the API is killed, and comes back by itself
            if what == "boot":
                return self._site.boot(self._image_id, name)
            if what == "delete":
                self._site.call("DELETE", f"/servers/{server_id}")
            else:
                self._site.act(server_id, ORDERS[what])
        if what == "boot":
            (made,) = self._site.database.servers.list(ServerQuery(all_projects=True, name=name)).items
            return made.id
        return server_id


@pytest.fixture(scope="module")
def servers(site: Site, image_id: str) -> Servers:
    return Servers(site, image_id)


def in_the_end(site: Site, server_id: str, status: str) -> None:
    """Wait until a server has a status, and the host has what the records say and nothing else."""
    site.wait(server_id, status)
    try:
        wait_for("host and records agree", site.agrees)
    except AssertionError as error:
        raise AssertionError(f"{sorted(site.instances.rglob('*'))}\n{site.log()}") from error
    record = site.database.servers.get(server_id)
    assert record.fault is None
    assert site.status(server_id) == status


@pytest.mark.parametrize(("what", "point"), list(cases()))
def test_a_process_killed_at_any_point_is_made_up_for(
    site: Site, servers: Servers, what: str, point: str
) -> None:
    armed = site.faults / point
    process = POINTS[point].process
    if what in ("start", "stop", "delete"):
        servers.leave(servers.take("SHUTOFF" if what == "start" else "ACTIVE"))  # before it is armed
    armed.touch()
    server_id = servers.order(what)
    wait_for(f"{process} passes {point}", lambda: not armed.exists())
    if process != "api":
        assert site.processes[process].wait(60) == -signal.SIGKILL
        site.start(process)
    in_the_end(site, server_id, ENDS[what])
    if what != "delete":
        servers.leave(server_id)


def test_the_document_has_every_point() -> None:
    document = DOCUMENT.read_text()
    assert renewed(document) == document, "run python -m tests.fault_table"
    assert {name for _, name in cases()} == set(POINTS)


def test_a_worker_that_never_ends_a_build_is_given_up_on(site: Site, servers: Servers) -> None:
    """Three attempts, each of them killed, and then the reason is told."""
    (site.faults / "guest-half-made").touch()
    server_id = servers.order("boot")
    for more in (True, True, False):
        assert site.processes["compute"].wait(60) == -signal.SIGKILL
        if more:
            (site.faults / "guest-half-made").touch()
        site.start("compute")
    site.wait(server_id, "ERROR")
    fault = site.database.servers.get(server_id).fault
    assert fault is not None
    assert fault.message == "spawning was begun 3 times on host host and never ended"
    wait_for("host and records agree", site.agrees)
    site.call("DELETE", f"/servers/{server_id}")
    site.wait(server_id, "gone")


def test_messages_lost_doubled_and_late(
    site: Site, servers: Servers, image_id: str, rabbit_server: RabbitServer
) -> None:
    """A message only says "look": no look too many does harm, and none too few."""
    bus = Bus(rabbit_server.url)
    bus.open()
    try:
        server_id = site.boot(image_id)
        for _ in range(50):
            bus.schedule(server_id)
            bus.drive("host", server_id)
        in_the_end(site, server_id, "ACTIVE")
        site.call("DELETE", f"/servers/{server_id}")
        in_the_end(site, server_id, "gone")
        for _ in range(50):  # of one that is long gone, and of one that never was
            for late in (server_id, str(uuid.uuid4())):
                bus.schedule(late)
                bus.drive("host", late)
        kept = servers.order("boot")
        in_the_end(site, kept, "ACTIVE")
        assert site.status(server_id) == "gone"
        servers.leave(kept)
    finally:
        bus.close()


def test_the_broker_is_away_and_comes_back(site: Site, servers: Servers, rabbit_server: RabbitServer) -> None:
    stopping, deleting = servers.take("ACTIVE"), servers.take("SHUTOFF")
    with rabbit_server.down():
        booted = servers.order("boot")
        site.act(stopping, "os-stop")
        site.call("DELETE", f"/servers/{deleting}")
        in_the_end(site, booted, "ACTIVE")
        in_the_end(site, stopping, "SHUTOFF")
        in_the_end(site, deleting, "gone")
        # One that starts meanwhile goes on without, too.
        site.processes["compute"].kill()
        site.processes["compute"].wait(60)
        site.start("compute")
        site.act(stopping, "os-start")
        in_the_end(site, stopping, "ACTIVE")
    # All are connected again: a question needs the broker.
    wait_for("the worker answers", lambda: console(site, booted))
    with rabbit_server.paused():
        site.act(stopping, "os-stop")
        in_the_end(site, stopping, "SHUTOFF")
    for server_id in (booted, stopping):
        servers.leave(server_id)


def test_the_database_is_killed(site: Site, servers: Servers, postgres_server: DatabaseServer) -> None:
    stopping = servers.take("ACTIVE")
    booted = servers.order("boot")
    with postgres_server.down(), pytest.raises(AssertionError, match="503"):
        site.act(stopping, "os-stop")
    in_the_end(site, booted, "ACTIVE")
    site.act(stopping, "os-stop")
    in_the_end(site, stopping, "SHUTOFF")


def console(site: Site, server_id: str) -> bool:
    try:
        said = site.call("POST", f"/servers/{server_id}/action", {"os-getConsoleOutput": {}})
    except AssertionError:  # 503
        return False
    return f"instance-id={server_id}" in said["output"]
