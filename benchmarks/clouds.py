"""A cloud to be measured: our programs on a real broker and database, as an operator runs them."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import installs, peers
from benchmarks.client import PATIENCE, Refused, create, data_path, upload
from benchmarks.measuring import processes, proportional
from benchmarks.stage import Stage
from tests.rabbit_server import RabbitServer
from tests.swift_server import free_ports
from tests.waiting import wait_for

LOOK_SECONDS = 0.01  # between two looks at a server that isn't there yet
CONFIG = """\
[DEFAULT]
host = host
state_path = {folder}
instances_path = {folder}/instances
osapi_compute_listen_port = {port}
transport_url = {queue}
reserved_host_memory_mb = 0
{options}
[quota]
instances = -1
cores = -1
ram = -1
[database]
connection = {database}
[glance]
endpoint_override = http://127.0.0.1:{images}
{further}
"""


class Cloud:
    """An image service, the Compute API, a scheduler and one host; use it as a context manager.

    Raises Refused when an answer isn't a good one, or a server goes to ERROR.
    """

    name = "ours"
    headers: Mapping[str, str] = {}

    def __init__(self, stage: Stage, folder: Path, options: str = "", further: str = "") -> None:
        self.folder = folder
        folder.mkdir()
        self._stage = stage
        self._images = peers.Ours(folder / "images", stage.database())
        self._broker: RabbitServer | None = None
        (self.port,) = free_ports(1)
        self._database = stage.database()
        self._options, self._further = options, further
        self._config = folder / "novalite.conf"
        self.programs: list[peers.Program] = []
        self._connection: http.client.HTTPConnection | None = None

    @property
    def instances(self) -> Path:
        return self.folder / "instances"

    def __enter__(self) -> Cloud:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        self._broker = RabbitServer(self.folder / "mq")
        text = CONFIG.format(
            folder=self.folder,
            port=self.port,
            queue=self._broker.url,
            options=self._options,
            database=self._database,
            images=self._images.port,
            further=self._further,
        )
        self._config.write_text(text)
        command = [installs.ours().program("novalite"), "--config-file", str(self._config), "db", "upgrade"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self.programs.append(self._images.start())
        self.programs[0].wait("/v2/images?limit=1")
        for name in ("novalite-scheduler", "novalite-compute", "novalite-api"):
            self.programs.append(self._program(name))
        self.programs[-1].wait("/v2.1/flavors")
        up = "/os-services?binary=nova-compute"
        wait_for("the host is up", lambda: any(s["state"] == "up" for s in self.call("GET", up)["services"]))

    def _program(self, name: str) -> peers.Program:
        folder = self.folder / name
        folder.mkdir()
        return peers.started(
            name, [installs.ours().program(name), "--config-file", str(self._config)], self.port, folder
        )

    def __exit__(self, *_exc: object) -> None:
        if self._connection is not None:
            self._connection.close()
        for program in reversed(self.programs):
            program.stop()
        if self._broker is not None:
            self._broker.stop()

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send a request to the Compute API; return the JSON of the answer, None where there is none."""
        status, data = self.exchange(method, path, None if body is None else json.dumps(body).encode())
        if status >= 400:
            raise Refused(f"{method} {path}: {status} {data[:500]!r}")
        return json.loads(data) if data else None

    def exchange(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send a request on a connection that is kept; return the status and the body."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            self._connection.request(method, f"/v2.1{path}", body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            return response.status, response.read()
        except (http.client.HTTPException, OSError):
            # Kept too long, or worse: the next one is another connection's.
            self._connection.close()
            self._connection = None
            raise

    def upload(self, path: Path, disk_format: str) -> str:
        """Upload an image; return its id."""
        images = self.programs[0]
        image = create(images, name=path.name, disk_format=disk_format)
        upload(images, data_path(image), path)
        return image

    def flavor(self, name: str, *, memory: int) -> str:
        """Make a flavor of one CPU and no disk but the image's; return its id."""
        values = {"id": name, "name": name, "vcpus": 1, "ram": memory, "disk": 0}
        return str(self.call("POST", "/flavors", {"flavor": values})["flavor"]["id"])

    def order(self, image: str, flavor: str, **values: object) -> str:
        """Ask for a server; return its id."""
        wanted = {"name": "bench", "imageRef": image, "flavorRef": flavor, **values}
        return str(self.call("POST", "/servers", {"server": wanted})["server"]["id"])

    def wait_active(self, ids: Iterable[str]) -> None:
        """Return when all are ACTIVE."""
        for server in ids:
            end = time.monotonic() + PATIENCE
            while (status := self.call("GET", f"/servers/{server}")["server"]["status"]) != "ACTIVE":
                if status == "ERROR" or time.monotonic() > end:
                    raise Refused(f"server {server} is {status}:\n{self.logs()}")
                time.sleep(LOOK_SECONDS)

    def delete(self, ids: Iterable[str]) -> None:
        """Delete servers, and return when all are gone."""
        ids = list(ids)
        for server in ids:
            self.call("DELETE", f"/servers/{server}")
        for server in ids:
            wait_for("the server is gone", partial(self._gone, server))

    def _gone(self, server: str) -> bool:
        return self.exchange("GET", f"/servers/{server}")[0] == 404

    def console(self, server: str) -> str:
        """Return the end of a guest's serial console."""
        return str(self.call("POST", f"/servers/{server}/action", {"os-getConsoleOutput": {}})["output"])

    def boot(self, image: str, flavor: str, count: int = 1) -> tuple[float, list[str]]:
        """Order servers one after the other; return the seconds until all are ACTIVE, and their ids."""
        began = time.perf_counter()
        ids = [self.order(image, flavor) for _ in range(count)]
        self.wait_active(ids)
        return time.perf_counter() - began, ids

    def memory(self) -> int:
        """Return the bytes of all our processes, shared pages counted once; not broker and database."""
        return sum(proportional(pid) for program in self.programs for pid in processes(program.pid))

    def logs(self) -> str:
        return "\n".join(f"== {program.name}\n{program.log.read_text()[-2000:]}" for program in self.programs)
