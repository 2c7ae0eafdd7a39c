"""novalite as processes of their own on a real broker and a real database, for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import urllib3

from novalite.db import Database
from novalite.faults import VARIABLE
from tests import warm
from tests.database_servers import DatabaseServer
from tests.leases import run_out_of
from tests.rabbit_server import RabbitServer
from tests.server_fixtures import Server, command, start
from tests.waiting import wait_for

S = TypeVar("S", bound="Site")
CONFIG = """\
[DEFAULT]
host = {host}
state_path = {state}
osapi_compute_listen_port = 0
transport_url = {queue}
rpc_response_timeout = 10
reserved_host_memory_mb = 0
{options}
[database]
connection = {database}
[glance]
endpoint_override = {glance}
{further}
"""
#: What else than instances is in their directory.
OTHERS = ("_base", "_moving")
# Short, since what is tested is what happens after them.
QUICK: Mapping[str, object] = {
    "compute_driver": "fake",
    "redrive_interval": 0.3,
    "report_interval": 0.5,
    "service_down_time": 30,
    "sync_power_state_interval": 0.3,
}


class Site:
    """A cloud of an API, a scheduler and a worker a host; each may be killed and started again.

    ``database`` is read to see what no API tells. Each host has a directory
    of its own, and the file of ``options`` with what ``of_host`` adds for it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        queue: str,
        database: str,
        glance: str,
        hosts: Sequence[str] = ("host",),
        options: Mapping[str, object] | None = None,
        further: str = "",
        of_host: Callable[[str], str] = lambda _: "",
    ) -> None:
        self.directory = directory
        self.hosts = tuple(hosts)
        self.faults = directory / "faults"
        self.faults.mkdir(parents=True)
        told = {**QUICK, **(options or {})}
        self.config_files: dict[str, Path] = {}
        for host in self.hosts:
            state = directory / host
            state.mkdir()
            own = further + of_host(host)
            if told["compute_driver"] == "fake":
                own += f"\n[fake]\nfake_directory = {self.instances(host)}"
            text = CONFIG.format(
                host=host,
                state=state,
                queue=queue,
                database=database,
                glance=glance,
                options="\n".join(f"{name} = {value}" for name, value in told.items()),
                further=own,
            )
            self.config_files[host] = state / "novalite.conf"
            self.config_files[host].write_text(text)
        self.url = database
        self.database = Database(database)
        self.processes: dict[str, warm.Process | subprocess.Popen[bytes]] = {}
        self.api: Server | None = None
        self._http = urllib3.PoolManager(retries=False, timeout=60)

    def instances(self, host: str) -> Path:
        """Return where a host has its guests' files."""
        return self.directory / host / "instances"

    @property
    def workers(self) -> tuple[str, ...]:
        """Name the processes of the hosts."""
        return tuple(f"compute {host}" for host in self.hosts)

    def open(self) -> None:
        """Make the tables and start everything."""
        self.database.open(upgrade=True)
        for name in ("scheduler", *self.workers):
            self.start(name)
        self.start_api()
        self.wait_up()

    def start_api(self) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv(VARIABLE, str(self.faults))
            self.api = start(self.config_files[self.hosts[0]], "novalite-api")

    def start(self, name: str) -> None:
        """Start the scheduler, or the worker of a host."""
        program, _, host = name.partition(" ")
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = self._start(
                command(self.config_files[host or self.hosts[0]], f"novalite-{program}"),
                host,
                stdout=log,
                stderr=log,
                env={**os.environ, VARIABLE: str(self.faults)},
            )

    def _start(self, words: list[str], host: str, **values: Any) -> warm.Process | subprocess.Popen[bytes]:
        """Run a program, of a host if one is named; to be overridden."""
        return warm.start(words, **values)

    def killed(self) -> str:
        """Wait until some process is killed; return its name. What it held runs out."""
        found: list[str] = []

        def look() -> bool:
            found.extend(n for n, each in self.processes.items() if each.poll() == -signal.SIGKILL)
            return bool(found)

        wait_for("a process is killed", look)
        run_out_of(self.url, self.processes[found[0]].pid)
        return found[0]

    def wait_up(self) -> None:
        """Wait until the hosts can get servers."""
        wait_for(
            "the hosts are up",
            lambda: sum(host.up for host in self.database.hosts.list()) == len(self.hosts),
        )

    def close(self) -> dict[str, int]:
        """Stop everything; return each one's exit status."""
        self._http.clear()
        for process in self.processes.values():
            process.terminate()
        ended = {name: process.wait(60) for name, process in self.processes.items()}
        if self.api is not None:
            ended["api"] = self.api.stop()
        self.database.close()
        return ended

    # What a user does

    def call(self, method: str, path: str, body: object = None, version: str = "2.45") -> Any:
        """Send a request; return the JSON of the answer, None where there is none."""
        assert self.api is not None
        answer = self._http.request(
            method,
            f"{self.api.url}/v2.1{path}",
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json", "OpenStack-API-Version": f"compute {version}"},
        )
        assert answer.status < 400, (answer.status, answer.data)
        return answer.json() if answer.data else None

    def boot(self, image_id: str, name: str = "vm", **values: object) -> str:
        """Order a server of the smallest flavor; return its id."""
        wanted = {"name": name, "imageRef": image_id, "flavorRef": "42", "networks": "auto", **values}
        return str(self.call("POST", "/servers", {"server": wanted})["server"]["id"])

    def act(self, server_id: str, action: str, arguments: object = None) -> Any:
        return self.call("POST", f"/servers/{server_id}/action", {action: arguments})

    def force_down(self, host: str, *, down: bool) -> None:
        """Say that a host is down, or no longer so."""
        body = {"host": host, "binary": "nova-compute", "forced_down": down}
        self.call("PUT", "/os-services/force-down", body)

    def status(self, server_id: str) -> str:
        """Return the status, "gone" for a server that isn't there, with the task while there is one."""
        record = self.database.servers.get(server_id)
        state = "gone" if record.vm_state == "deleted" else str(record.status)
        return f"{state} ({record.task_state})" if record.task_state else state

    def wait(self, server_id: str, status: str) -> None:
        """Wait until a server has a status and no task."""
        try:
            wait_for(f"server is {status}", lambda: self.status(server_id) == status)
        except AssertionError as error:
            raise AssertionError(f"{self.status(server_id)}\n{self.log()}") from error

    def agrees(self) -> bool:
        """Tell whether hosts, guests, disks, claims and records are all the same, and nothing is held."""
        return all(self._agrees(host) for host in self.hosts)

    def _agrees(self, host: str) -> bool:
        placed = {server.id: server for server in self.database.servers.on_host(host)}
        files = [path.name for path in self.instances(host).iterdir() if path.name not in OTHERS]
        guests = {path.parent.name for path in self.instances(host).glob("*/guest.json")}
        waiting = [*self.instances(host).glob("_moving/*")]
        claimed = self.database.hosts.get(host).server_ids
        free = all(server.lease_holder is None and server.task_state is None for server in placed.values())
        # What was before a move is kept, and only that.
        kept = {name for name in files if self.database.moves.place(name)[1] == host}
        here = set(placed) | kept
        return free and not waiting and here == set(files) == guests and set(placed) == set(claimed)

    def log(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text()[-3000:]}" for path in self.directory.rglob("*.log")
        )


@contextmanager
def running(
    directory: Path, rabbit: RabbitServer, database: DatabaseServer, glance: str, **values: Any
) -> Iterator[Site]:
    """Run a site on a database of its own."""
    with ExitStack() as stack:
        url = stack.enter_context(of_its_own(directory, database))
        site = Site(directory, queue=rabbit.url, database=url, glance=glance, **values)
        yield stack.enter_context(opened(site))


@contextmanager
def of_its_own(directory: Path, database: DatabaseServer) -> Iterator[str]:
    """Make a database for a while."""
    name = f"site_{directory.name.replace('-', '_')}".lower()
    try:
        yield database.make_database(name)
    finally:
        database.drop_database(name)


@contextmanager
def opened(site: S) -> Iterator[S]:
    """Run a site, and see that all of it ends well."""
    try:
        site.open()
        yield site
    finally:
        ended = site.close()
    assert set(ended.values()) == {0}, (ended, site.log())


def upload(glance: str, data: bytes, disk_format: str = "raw") -> str:
    """Add an image to a real image service; return its id."""
    http = urllib3.PoolManager(retries=False, timeout=60)
    body = {"name": "image", "disk_format": disk_format, "container_format": "bare"}
    image_id = str(http.request("POST", f"{glance}/v2/images", json=body).json()["id"])
    done = http.request(
        "PUT",
        f"{glance}/v2/images/{image_id}/file",
        body=data,
        headers={"Content-Type": "application/octet-stream"},
    )
    assert done.status == 204, done.data
    http.clear()
    return image_id
