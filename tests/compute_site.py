"""novalite as processes of their own on a real broker and a real database, for tests."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from novalite.db import Database
from novalite.faults import VARIABLE
from tests import warm
from tests.database_servers import DatabaseServer
from tests.rabbit_server import RabbitServer
from tests.server_fixtures import Server, command, start
from tests.waiting import wait_for

CONFIG = """\
[DEFAULT]
host = host
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
# Short, since what is tested is what happens after them.
QUICK: Mapping[str, object] = {
    "compute_driver": "fake",
    "redrive_interval": 0.3,
    "report_interval": 0.5,
    "service_down_time": 30,
    "lease_seconds": 1.5,
    "sync_power_state_interval": 0.3,
}


class Site:
    """A cloud of an API, a scheduler and a worker; each may be killed and started again.

    ``url`` is the API's. ``database`` is read to see what no API tells.
    """

    def __init__(
        self,
        directory: Path,
        *,
        queue: str,
        database: str,
        glance: str,
        options: Mapping[str, object] | None = None,
        further: str = "",
    ) -> None:
        self.directory = directory
        self.instances = directory / "instances"
        self.faults = directory / "faults"
        self.faults.mkdir(parents=True)
        told = {**QUICK, **(options or {})}
        if told["compute_driver"] == "fake":
            further += f"\n[fake]\nfake_directory = {self.instances}"
        text = CONFIG.format(
            state=directory,
            queue=queue,
            database=database,
            glance=glance,
            options="\n".join(f"{name} = {value}" for name, value in told.items()),
            further=further,
        )
        self.config_file = directory / "novalite.conf"
        self.config_file.write_text(text)
        self.database = Database(database)
        self.processes: dict[str, warm.Process] = {}
        self.api: Server | None = None
        self._http = urllib3.PoolManager(retries=False, timeout=60)

    def open(self) -> None:
        """Make the tables and start everything."""
        self.database.open(upgrade=True)
        for name in ("scheduler", "compute"):
            self.start(name)
        self.start_api()
        self.wait_up()

    def start_api(self) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv(VARIABLE, str(self.faults))
            self.api = start(self.config_file, "novalite-api")

    def start(self, name: str) -> None:
        """Start the scheduler or the worker."""
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = warm.start(
                command(self.config_file, f"novalite-{name}"),
                stdout=log,
                stderr=log,
                env={**os.environ, VARIABLE: str(self.faults)},
            )

    def wait_up(self) -> None:
        """Wait until the host can get servers."""
        wait_for("the host is up", lambda: any(host.up for host in self.database.hosts.list()))

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

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send a request; return the JSON of the answer, None where there is none."""
        assert self.api is not None
        answer = self._http.request(
            method,
            f"{self.api.url}/v2.1{path}",
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status < 400, (answer.status, answer.data)
        return answer.json() if answer.data else None

    def boot(self, image_id: str, name: str = "vm", **values: object) -> str:
        """Order a server of the smallest flavor; return its id."""
        wanted = {"name": name, "imageRef": image_id, "flavorRef": "42", "networks": "auto", **values}
        if wanted["networks"] == "auto":
            del wanted["networks"]
        return str(self.call("POST", "/servers", {"server": wanted})["server"]["id"])

    def act(self, server_id: str, action: str) -> None:
        self.call("POST", f"/servers/{server_id}/action", {action: None})

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
        """Tell whether host, guests, disks, claims and records are all the same, and nothing is held."""
        placed = {server.id: server for server in self.database.servers.on_host("host")}
        folders = {path.name for path in self.instances.iterdir() if path.name != "_base"}
        guests = {path.parent.name for path in self.instances.glob("*/guest.json")}
        claimed = self.database.hosts.get("host").server_ids
        free = all(server.lease_holder is None and server.task_state is None for server in placed.values())
        return free and set(placed) == folders == guests == set(claimed)

    def log(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text()[-3000:]}" for path in self.directory.glob("*.log")
        )


@contextmanager
def running(
    directory: Path, rabbit: RabbitServer, database: DatabaseServer, glance: str, **values: Any
) -> Iterator[Site]:
    """Run a site on a database of its own."""
    name = f"site_{directory.name.replace('-', '_')}".lower()
    site = Site(directory, queue=rabbit.url, database=database.make_database(name), glance=glance, **values)
    try:
        site.open()
        yield site
    finally:
        ended = site.close()
        database.drop_database(name)
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
