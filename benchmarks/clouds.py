"""A cloud to be measured, and ours: on a real broker and database, as an operator runs it."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

from benchmarks import installs, peers
from benchmarks.client import PATIENCE, Refused, Server, create, data_path, upload
from benchmarks.measuring import processes, proportional
from benchmarks.stage import Stage
from tests.rabbit_server import RabbitServer
from tests.swift_server import free_ports
from tests.waiting import wait_for

# Between two looks at a server that isn't there yet: a part of what it has taken, so that looking,
# which costs one API more than another, isn't what is measured.
LOOK_SECONDS = 0.01
LOOK_PART = 0.05
KEPT_SECONDS = 5.0  # after which a server may have ended a connection that isn't used
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


class Running(Protocol):
    """A program of a cloud."""

    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def log(self) -> Path: ...
    def stop(self) -> None: ...


class Cloud(ABC):
    """A Compute API with all behind it; use it as a context manager.

    Raises Refused when an answer isn't a good one, or a server goes to ERROR.
    """

    #: What every request needs.
    headers: Mapping[str, str] = {}
    #: What every order has.
    wanted: Mapping[str, object] = {}

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._stage = stage
        self.port = 0
        self.programs: list[Running] = []
        self.aside: list[Running] = []  # not counted: none of the cloud's own
        self._broker: RabbitServer | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._asked = 0.0  # when it was last used

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    @abstractmethod
    def images(self) -> Server:
        """The image service that runs."""

    @abstractmethod
    def _start(self) -> None:
        """Start all; ``programs`` and those ``aside`` are stopped whatever happens."""

    @property
    def instances(self) -> Path:
        return self.folder / "instances"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._connection is not None:
            self._connection.close()
        for program in reversed(self.aside + self.programs):
            program.stop()
        if self._broker is not None:
            self._broker.stop()

    def _start_broker(self) -> str:
        """Return its URL."""
        self._broker = RabbitServer(self.folder / "mq")
        return self._broker.url

    def _wait_up(self) -> None:
        """Return when the host says that it's there."""
        path = "/os-services?binary=nova-compute"
        wait_for(
            "the host is up", lambda: any(s["state"] == "up" for s in self.call("GET", path)["services"])
        )

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send a request to the Compute API; return the JSON of the answer, None where there is none."""
        status, data = self.exchange(method, path, None if body is None else json.dumps(body).encode())
        if status >= 400:
            raise Refused(f"{method} {path}: {status} {data[:500]!r}")
        return json.loads(data) if data else None

    def exchange(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send a request on a connection that is kept; return the status and the body."""
        now = time.monotonic()
        if self._connection is not None and now - self._asked > KEPT_SECONDS:
            self._connection.close()
            self._connection = None
        self._asked = now
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            headers = {"Content-Type": "application/json", **self.headers}
            self._connection.request(method, f"/v2.1{path}", body, headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except (http.client.HTTPException, OSError):
            # The next one is another connection's.
            self._connection.close()
            self._connection = None
            raise

    def upload(self, path: Path, disk_format: str) -> str:
        """Upload an image; return its id."""
        image = create(self.images, name=path.name, disk_format=disk_format)
        upload(self.images, data_path(image), path)
        return image

    def flavor(self, name: str, *, memory: int) -> str:
        """Make a flavor of one CPU and no disk but the image's; return its id."""
        values = {"id": name, "name": name, "vcpus": 1, "ram": memory, "disk": 0}
        return str(self.call("POST", "/flavors", {"flavor": values})["flavor"]["id"])

    def order(self, image: str, flavor: str, **values: object) -> str:
        """Ask for a server; return its id."""
        wanted = {"name": "bench", "imageRef": image, "flavorRef": flavor, **self.wanted, **values}
        return str(self.call("POST", "/servers", {"server": wanted})["server"]["id"])

    def wait_active(self, ids: Collection[str]) -> None:
        """Return when all are ACTIVE, which have been ordered."""
        began = time.monotonic()
        for server in ids:
            end = time.monotonic() + PATIENCE
            while (status := self.call("GET", f"/servers/{server}")["server"]["status"]) != "ACTIVE":
                if status == "ERROR" or time.monotonic() > end:
                    raise Refused(f"server {server} is {status}:\n{self.logs()}")
                time.sleep(max(LOOK_SECONDS, LOOK_PART * (time.monotonic() - began)))

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
        """Return the bytes of all its processes, shared pages counted once; not broker and database."""
        return sum(proportional(pid) for program in self.programs for pid in processes(program.pid))

    def logs(self) -> str:
        return "\n".join(f"== {program.name}\n{program.log.read_text()[-2000:]}" for program in self.programs)


class Ours(Cloud):
    """An image service, the Compute API, a scheduler and one host, all of ours."""

    name = "ours"

    def __init__(self, stage: Stage, folder: Path, options: str = "", further: str = "") -> None:
        super().__init__(stage, folder)
        self._service = peers.Ours(folder / "images", stage.database())
        (self.port,) = free_ports(1)
        self._database = stage.database()
        self._options, self._further = options, further
        self._config = folder / "novalite.conf"

    @property
    def images(self) -> peers.Program:
        return self._running

    def _start(self) -> None:
        text = CONFIG.format(
            folder=self.folder,
            port=self.port,
            queue=self._start_broker(),
            options=self._options,
            database=self._database,
            images=self._service.port,
            further=self._further,
        )
        self._config.write_text(text)
        command = [installs.ours().program("novalite"), "--config-file", str(self._config), "db", "upgrade"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self._running = self._service.start()
        self.programs.append(self._running)
        self._running.wait("/v2/images?limit=1")
        *_, api = [self._program(f"novalite-{name}") for name in ("scheduler", "compute", "api")]
        api.wait("/v2.1/flavors")
        self._wait_up()

    def _program(self, name: str) -> peers.Program:
        folder = self.folder / name
        folder.mkdir()
        command = [installs.ours().program(name), "--config-file", str(self._config)]
        program = peers.started(name, command, self.port, folder)
        self.programs.append(program)
        return program
