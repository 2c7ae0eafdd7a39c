"""Real servers for the tests: started on a free port, stopped by pid.

A pytest plugin module: ``pytest_plugins = ["tests.server_fixtures"]`` or
import what you need.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt
import falcon.testing
import pytest

from glancelike import config
from glancelike.app import create_app
from glancelike.embedded import open_service
from glancelike.registry.memory import MemoryRegistry
from glancelike.stores.memory import MemoryStore
from glancelike.web.app import App
from glancelike.web.auth import BasicAuth
from tests import warm

START_SECONDS = 60.0
BIN = Path(sys.executable).parent
CONFIG = """\
[DEFAULT]
bind_port = 0
state_path = {state}
threads = {threads}
workers = {workers}
enabled_backends = disk:file, ram:memory
{extra}
[disk]
filesystem_store_datadir = {state}/images
"""


@dataclass
class Server:
    """A running server, with what it logs in ``log``."""

    process: subprocess.Popen[bytes] | warm.Process
    log: Path
    config_file: Path
    port: int = 0
    host: str = "127.0.0.1"
    clients: list[http.client.HTTPConnection] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def database(self) -> str:
        """The URL of the database that ``write_config`` gives it."""
        return f"sqlite:///{self.config_file.with_name('glancelike.db')}"

    def connect(self, timeout: float = 30.0) -> http.client.HTTPConnection:
        """Open a connection that is closed with the server."""
        client = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        self.clients.append(client)
        return client

    def stop(self) -> int:
        """End the server by its pid and return its exit status."""
        for client in self.clients:
            client.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def command(config_file: Path, program: str = "glancelike-api") -> list[str]:
    """Return the command line of a server."""
    return [str(BIN / program), "--config-file", str(config_file)]


def write_config(
    directory: Path, *, threads: int = 8, workers: int = 1, extra: str = "", upgrade: bool = True
) -> Path:
    """Write a config file with a file store and SQLite in ``directory``."""
    path = directory / "glancelike.conf"
    path.write_text(CONFIG.format(state=directory, threads=threads, workers=workers, extra=extra))
    if upgrade:
        config.build_registry(config.load(["--config-file", str(path)])).upgrade()
    return path


def start(
    config_file: Path,
    program: str = "glancelike-api",
    tls: ssl.SSLContext | None = None,
    *,
    within: Sequence[str] = (),
    anew: bool = False,
    host: str = "127.0.0.1",
) -> Server:
    """Start a server and wait until it answers.

    ``within`` is a command that runs it elsewhere; ``anew`` starts the program
    as a user does, which takes seconds, not a fork of one that has its imports.
    """
    log = config_file.with_name(f"{program}.log")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    with log.open("wb") as output:
        starting: Callable[..., subprocess.Popen[bytes] | warm.Process]
        starting = subprocess.Popen if within or anew else warm.start
        process = starting(
            [*within, *command(config_file, program)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
        )
    server = Server(process, log, config_file, host=host)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        found = re.search(r"listens on https?://[^:]+:(\d+)", log.read_text())
        if found:
            server.port = int(found[1])
            if answers(server, tls):
                return server
        time.sleep(0.05)
    server.stop()
    raise AssertionError(f"the server didn't start:\n{log.read_text()}")


def answers(server: Server, tls: ssl.SSLContext | None = None) -> bool:
    """Tell whether a worker answers by now."""
    address = (server.host, server.port)
    client = (
        http.client.HTTPConnection(*address, timeout=START_SECONDS)
        if tls is None
        else http.client.HTTPSConnection(*address, timeout=START_SECONDS, context=tls)
    )
    try:
        client.request("GET", "/healthcheck")
        return client.getresponse().status == 200
    except OSError:
        return False
    finally:
        client.close()


@pytest.fixture(scope="module")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run one server for a module's tests."""
    server = start(write_config(tmp_path_factory.mktemp("api")))
    yield server
    assert server.stop() == 0


@pytest.fixture
def run_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server with settings of its own."""
    started: list[Server] = []

    def run(**settings: object) -> Server:
        directory = tmp_path / f"server{len(started)}"
        directory.mkdir()
        server = start(write_config(directory, **settings))  # type: ignore[arg-type]
        started.append(server)
        return server

    yield run
    for server in started:
        server.stop()


PASSWORD = "correct horse"
USERS = """\
# user:hash:project:roles
admin:{hash}:admin:admin,member,reader
alice:{hash}:p-alice
bob:{hash}:p-bob
reader:{hash}:p-alice:reader
nobody:{hash}:p-alice:none
"""


def write_users(path: Path) -> Path:
    """Write a user file; everybody's password is PASSWORD."""
    cheap = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    path.write_text(USERS.format(hash=cheap))
    return path


def client_of(app: App, user: str | None, headers: dict[str, str]) -> falcon.testing.TestClient:
    """Return a client of an application in this process that calls as ``user``."""
    if user is not None:
        token = base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()
        headers = {**headers, "Authorization": f"Basic {token}"}
    return falcon.testing.TestClient(app, headers=headers)


class Api:
    """The Image API in this process, on a service in memory, as several users."""

    def __init__(self, users: Path, stores: dict[str, Any] | None = None, **settings: Any) -> None:
        self.users = users
        # Made by hand, since looking up plugins takes longer than most tests.
        stores = stores or {"memory": MemoryStore({})}
        self.service = open_service(MemoryRegistry({}), stores=stores, **settings)
        self.auth = BasicAuth({"http_basic_auth_user_file": str(users)})
        self.auth.open()
        self.app = create_app(self.service, self.auth)

    def as_(self, user: str | None, accept: str = "application/json") -> falcon.testing.TestClient:
        """Return a client that calls as ``user``; None sends no credentials."""
        return client_of(self.app, user, {"Accept": accept})

    def image(self, user: str = "alice", data: bytes | None = None, **values: object) -> str:
        """Create an image, with data if given, and return its id."""
        client = self.as_(user)
        body = {"disk_format": "raw", "container_format": "bare", **values}
        made = client.post("/v2/images", json=body)
        assert made.status_code == 201, made.text
        image_id: str = made.json["id"]
        if data is not None:
            put = client.put(
                f"/v2/images/{image_id}/file",
                body=data,
                headers={"Content-Type": "application/octet-stream"},
            )
            assert put.status_code == 204, put.text
        return image_id


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """The Image API without a server; users admin, alice, bob, reader, nobody."""
    made = Api(write_users(tmp_path / "users"))
    yield made
    made.service.close()
