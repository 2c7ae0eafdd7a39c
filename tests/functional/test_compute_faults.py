"""Each process killed at each step, the broker, too; messages lost, doubled, late. See docs/."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import urllib3

from novalite.faults import LIVE, LOST, ORDERS, POINTS
from novalite.model import ServerQuery
from novalite.rpc import Bus
from tests.compute_site import Site, running, upload
from tests.database_servers import DatabaseServer
from tests.fault_table import DOCUMENT, ENDS, cases, renewed
from tests.rabbit_server import RabbitServer
from tests.server_fixtures import Server
from tests.waiting import wait_for

# What each order asks for, and the status before it if that isn't ACTIVE.
ASKED: Mapping[str, tuple[str, object]] = {
    "stop": ("os-stop", None),
    "start": ("os-start", None),
    "rebuild": ("rebuild", {}),
    "rescue": ("rescue", {}),
    "unrescue": ("unrescue", None),
    "image": ("createImage", {"name": "image"}),
    "shelve": ("shelve", None),
    "unshelve": ("unshelve", None),
    "resize": ("resize", {"flavorRef": "larger"}),
    "confirm": ("confirmResize", None),
    "revert": ("revertResize", None),
    "migrate": ("migrate", None),
    "confirm the move": ("confirmResize", None),
    "revert the move": ("revertResize", None),
    "evacuate": ("evacuate", {}),
}
BEFORE = {
    "start": "stop",
    "unrescue": "rescue",
    "unshelve": "shelve",
    "confirm": "resize",
    "revert": "resize",
    "confirm the move": "migrate",
    "revert the move": "migrate",
}
# All servers have an ephemeral disk, too, and after these it has what was on it.
FLAVORS = ("small", 1), ("larger", 2)
KEEPING = (
    *("stop", "start", "image", "rescue", "unrescue"),
    *("resize", "confirm", "migrate", "confirm the move"),
)


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
    told = {"hosts": ("host", "other"), "further": "[quota]\ninstances = -1\ncores = -1\nram = -1"}
    with running(directory, rabbit_server, postgres_server, api_server.url, **told) as site:
        for name, size in FLAVORS:
            flavor = {"id": name, "name": name, "ram": 128, "vcpus": 1, "disk": size}
            site.call("POST", "/flavors", {"flavor": {**flavor, "OS-FLV-EXT-DATA:ephemeral": size}})
        yield site


class Servers:
    """Servers to give orders for: those that a test leaves are the next one's."""

    def __init__(self, site: Site, image_id: str) -> None:
        self._site = site
        self._image_id = image_id
        self._left: dict[str, str] = {}  # by id what was ordered last

    def after(self, what: str) -> str:
        """Return a server for which something was ordered, and done."""
        for server_id, last in self._left.items():
            if last == what or (what == "boot" and ENDS[last] == "ACTIVE" and last != "confirm"):
                del self._left[server_id]
                return server_id
        if what == "boot":
            server_id = self._site.boot(self._image_id, flavorRef="small")
        else:
            server_id = self.after(BEFORE.get(what, "boot"))
            self._act(server_id, what)
        self._site.wait(server_id, ENDS[what])
        return server_id

    def leave(self, server_id: str, last: str) -> None:
        if last != "delete":
            self._left[server_id] = last

    def order(self, what: str, server_id: str | None = None) -> tuple[str, Any]:
        """Give an order whose answer may not come; return its server and the answer."""
        name = f"vm-{uuid.uuid4().hex[:8]}"
        if server_id is None and what != "boot":
            server_id = self.after(BEFORE.get(what, "boot"))
        with suppress(urllib3.exceptions.HTTPError):  # the API is killed, and comes back by itself
            if what == "boot":
                return self._site.boot(self._image_id, name, flavorRef="small"), None
            if what == "delete":
                return str(server_id), self._site.call("DELETE", f"/servers/{server_id}")
            return str(server_id), self._act(str(server_id), what)
        if what == "boot":
            (made,) = self._site.database.servers.list(ServerQuery(all_projects=True, name=name)).items
            return made.id, None
        return str(server_id), None

    def _act(self, server_id: str, what: str) -> Any:
        action, arguments = ASKED[what]
        if what == "rebuild":
            arguments = {"imageRef": self._image_id}
        return self._site.act(server_id, action, arguments)


@pytest.fixture(scope="module")
def servers(site: Site, image_id: str) -> Servers:
    return Servers(site, image_id)


def in_the_end(site: Site, server_id: str, status: str) -> None:
    """Wait until a server has a status, and the hosts have what the records say and nothing else."""
    site.wait(server_id, status)
    try:
        wait_for("hosts and records agree", site.agrees)
    except AssertionError as error:
        files = [path for host in site.hosts for path in sorted(site.instances(host).rglob("*"))]
        raise AssertionError(f"{files}\n{site.log()}") from error
    record = site.database.servers.get(server_id)
    assert record.fault is None
    assert site.status(server_id) == status
    for host in site.hosts:
        for path in site.instances(host).glob(f"{server_id}/guest.json"):
            assert path.with_name("ephemeral").exists() is bool(record.flavor.ephemeral_gb)


def ephemeral(site: Site, server_id: str) -> Path:
    """Return the file that is a server's ephemeral disk."""
    return site.instances(str(site.database.servers.get(server_id).host)) / server_id / "ephemeral"


@pytest.mark.parametrize(("what", "point"), list(cases()))
def test_a_process_killed_at_any_point_is_made_up_for(
    site: Site, servers: Servers, api_server: Server, what: str, point: str
) -> None:
    armed = site.faults / point
    server_id = None if what == "boot" else servers.after(BEFORE.get(what, "boot"))
    written = uuid.uuid4().bytes
    if server_id is not None and what in KEEPING:
        ephemeral(site, server_id).write_bytes(written)
    dead = None
    if server_id is not None and what == "evacuate":
        dead = str(site.database.servers.get(server_id).host)
        kill(site, f"compute {dead}")
        site.force_down(dead, down=True)
    late = what == "evacuate" and point == "guest-half-removed"  # by the dead host, when it's back
    if not late:
        armed.touch()
    server_id, said = servers.order(what, server_id)
    if dead is not None and late:
        site.wait(server_id, ENDS[what])
        armed.touch()
        revive(site, dead)
    wait_for(f"some process passes {point}", lambda: not armed.exists())
    if POINTS[point].process != "api":
        name = site.killed()
        assert name.startswith(POINTS[point].process)
        site.start(name)
    site.wait(server_id, ENDS[what])
    if dead is not None and not late:
        revive(site, dead)
    in_the_end(site, server_id, ENDS[what])
    if what == "unshelve":  # what it was kept as goes, too
        wait_for("its image is gone", lambda: not shelved(api_server, server_id))
    if what == "image":
        assert image_status(api_server, said["image_id"]) == "active"
    if what in KEEPING:
        assert ephemeral(site, server_id).read_bytes() == written
    servers.leave(server_id, what)


def kill(site: Site, name: str) -> None:
    process = site.processes.pop(name)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL


def revive(site: Site, host: str) -> None:
    site.start(f"compute {host}")
    site.force_down(host, down=False)


def image_status(api_server: Server, image_id: str) -> str:
    with urllib3.PoolManager() as http:
        return str(http.request("GET", f"{api_server.url}/v2/images/{image_id}").json()["status"])


def shelved(api_server: Server, server_id: str) -> list[Any]:
    """Return the images that a server was shelved as."""
    with urllib3.PoolManager() as http:
        answer = http.request("GET", f"{api_server.url}/v2/images?instance_uuid={server_id}")
    return [image for image in answer.json()["images"] if image["name"].endswith("-shelved")]


def test_the_document_has_every_point() -> None:
    document = DOCUMENT.read_text()
    assert renewed(document) == document, "run python -m tests.fault_table"
    assert {name for _, name in cases((*ORDERS, *LIVE, *LOST))} == set(POINTS)


def test_a_worker_that_never_ends_a_build_is_given_up_on(site: Site, servers: Servers) -> None:
    """Three attempts, each of them killed, and then the reason is told."""
    (site.faults / "guest-half-made").touch()
    server_id, _ = servers.order("boot")
    for more in (True, True, False):
        name = site.killed()
        if more:
            (site.faults / "guest-half-made").touch()
        site.start(name)
    site.wait(server_id, "ERROR")
    fault = site.database.servers.get(server_id).fault
    assert fault is not None
    host = name.removeprefix("compute ")
    assert fault.message == f"spawning was begun 3 times on host {host} and never ended"
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
        kept, _ = servers.order("boot")
        in_the_end(site, kept, "ACTIVE")
        assert site.status(server_id) == "gone"
        servers.leave(kept, "boot")
    finally:
        bus.close()


def test_the_broker_is_away_and_comes_back(site: Site, servers: Servers, rabbit_server: RabbitServer) -> None:
    stopping, deleting = servers.after("boot"), servers.after("stop")
    with rabbit_server.down():
        booted, _ = servers.order("boot")
        site.act(stopping, "os-stop")
        site.call("DELETE", f"/servers/{deleting}")
        in_the_end(site, booted, "ACTIVE")
        in_the_end(site, stopping, "SHUTOFF")
        in_the_end(site, deleting, "gone")
        # One that starts meanwhile goes on without, too.
        name = f"compute {site.database.servers.get(stopping).host}"
        kill(site, name)
        site.start(name)
        site.act(stopping, "os-start")
        in_the_end(site, stopping, "ACTIVE")
    # All are connected again: a question needs the broker.
    wait_for("the worker answers", lambda: console(site, booted))
    with rabbit_server.paused():
        site.act(stopping, "os-stop")
        in_the_end(site, stopping, "SHUTOFF")
    servers.leave(booted, "boot")
    servers.leave(stopping, "stop")


def test_the_database_is_killed(site: Site, servers: Servers, postgres_server: DatabaseServer) -> None:
    stopping = servers.after("boot")
    booted, _ = servers.order("boot")
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
