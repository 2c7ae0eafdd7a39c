"""Several API nodes on one registry and one store, behind nginx: hosts that can be killed and cut off.

Each node is a network namespace on a bridge of its own; the database and
nginx run beside it on this host. Needs root.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from glancelike import config
from glancelike.service.upkeep import Orphan
from tests.database_servers import PostgresServer
from tests.leases import run_out
from tests.server_fixtures import START_SECONDS, Server, answers, start
from tests.swift_server import free_ports
from tests.waiting import wait_for

ETC = Path(__file__).parents[1] / "etc"
PORT = 9292
ESTABLISHED = "01"
# Short, so that a node that can't be reached is noticed within a test.
CONFIG = """\
[DEFAULT]
bind_host = {address}
bind_port = {port}
state_path = {state}
enabled_backends = disk:file
reap_interval = 1
[disk]
filesystem_store_datadir = {state}/images
[task]
task_poll_interval = 0.5
[import_filtering_opts]
allowed_networks = {network}
allowed_ports =
[oslo_middleware]
enable_proxy_headers_parsing = true
[database]
connection = {database}
statement_timeout = 2
lock_timeout = 1
connect_timeout = 2
"""
NGINX = """\
daemon off;
user root;
pid {directory}/nginx.pid;
error_log {directory}/nginx-error.log;
events {{}}
http {{
    access_log {directory}/nginx-access.log;
    client_body_temp_path {directory}/nginx-body;
    proxy_temp_path {directory}/nginx-proxy;
    include {site};
}}
"""


def missing() -> str | None:
    """Tell why there can be no nodes here, None when there can."""
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    absent = [program for program in ("ip", "nginx") if shutil.which(program) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    tried = f"gl-{uuid.uuid4().hex[:8]}"
    made = subprocess.run(["ip", "netns", "add", tried], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    ip("netns", "del", tried)
    return PostgresServer.missing()


def ip(*words: str) -> str:
    """Run iproute2; return what it says."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=START_SECONDS)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


class Network:
    """A bridge; this host has the first address, ``hosts`` the others. ``close`` leaves nothing."""

    def __init__(self, count: int) -> None:
        name = f"gl{uuid.uuid4().hex[:8]}"
        self.prefix = _unused()
        self.address = f"{self.prefix}.1"
        self.hosts: list[Host] = []
        with ExitStack() as stack:
            ip("link", "add", name, "type", "bridge")
            stack.callback(ip, "link", "del", name)
            ip("addr", "add", f"{self.address}/24", "dev", name)
            ip("link", "set", name, "up")
            for number in range(count):
                host = Host(f"{name}n{number}", f"{self.prefix}.{number + 11}")
                ip("netns", "add", host.name)
                stack.callback(ip, "netns", "del", host.name)
                inside = ("-n", host.name)
                ip("link", "add", host.cable, "type", "veth", "peer", "name", "eth0", "netns", host.name)
                ip("link", "set", host.cable, "master", name, "up")
                ip(*inside, "addr", "add", f"{host.address}/24", "dev", "eth0")
                for device in ("lo", "eth0"):
                    ip(*inside, "link", "set", device, "up")
                self.hosts.append(host)
            self.close = stack.pop_all().close


class Host:
    """A network namespace with a cable to the bridge."""

    def __init__(self, name: str, address: str) -> None:
        self.name = self.cable = name
        self.address = address

    def cut(self) -> None:
        """Pull the cable: what is sent is lost, and nobody is told."""
        ip("link", "set", self.cable, "down")

    def restore(self) -> None:
        """Plug it in again."""
        ip("link", "set", self.cable, "up")


def _unused() -> str:
    """Return the first three numbers of a network for tests (RFC 2544) that this host doesn't have."""
    taken = [each["local"] for device in json.loads(ip("-j", "-4", "addr")) for each in device["addr_info"]]
    free = (f"198.{random.choice((18, 19))}.{random.randrange(256)}" for _ in range(1000))
    return next(each for each in free if not any(address.startswith(f"{each}.") for address in taken))


class Node:
    """A ``glancelike-api`` on a host of its own."""

    def __init__(self, host: Host, config_file: Path) -> None:
        self.host = host
        self.config_file = config_file
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    @property
    def alive(self) -> bool:
        return self._server is not None and self._server.process.poll() is None

    def start(self) -> None:
        """Start it, also after ``kill``, and wait until it answers."""
        within = ("ip", "netns", "exec", self.host.name)
        self._server = start(self.config_file, within=within, host=self.host.address)

    def stop(self) -> None:
        """End it."""
        if self._server is not None:
            self._server.stop()

    def kill(self) -> None:
        """Kill all its processes, as a power cut would."""
        self.server.process.kill()
        self.server.process.wait()
        wait_for("its workers are gone", self._refuses)

    def _refuses(self) -> bool:
        try:
            socket.create_connection((self.host.address, PORT), timeout=START_SECONDS).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return True
        return False

    def connected(self, port: int = PORT) -> bool:
        """Tell whether it has a connection from or to a port: a request under way."""
        table = Path(f"/proc/{self.server.process.pid}/net/tcp").read_text().splitlines()[1:]
        ends = [(line.split()[1:3], line.split()[3]) for line in table]
        wanted = f":{port:04X}"
        return any(state == ESTABLISHED and any(end.endswith(wanted) for end in both) for both, state in ends)

    def log(self) -> str:
        """Return what it has logged since its start."""
        return self.server.log.read_text()


class Cluster:
    """Nodes, their database and nginx in front of them; ``front`` is where clients go.

    ``front.config_file`` lies in the directory that all nodes keep images in.
    """

    def __init__(self, directory: Path, count: int = 2) -> None:
        self.state = directory / "state"
        self.state.mkdir()
        with ExitStack() as stack:
            self.network = Network(count)
            stack.callback(self.network.close)
            self.database = self._database(directory / "postgresql")
            stack.callback(self.database.stop)
            files = [self._configured(directory / host.name, host) for host in self.network.hosts]
            self.settings = config.load(["--config-file", str(files[0])])
            config.build_registry(self.settings).upgrade()
            self.nodes = [Node(host, file) for host, file in zip(self.network.hosts, files, strict=True)]
            for node in self.nodes:
                stack.callback(node.stop)
            self._start(self.nodes)
            self.front = _balanced(self.state, [host.address for host in self.network.hosts])
            stack.callback(self.front.stop)
            self.close = stack.pop_all().close

    def _database(self, directory: Path) -> PostgresServer:
        directory.mkdir()
        trusted = directory / "trusted"
        networks = ("127.0.0.1/32", f"{self.network.prefix}.0/24")
        trusted.write_text("".join(f"host all all {each} trust\n" for each in networks))
        listening = f"127.0.0.1,{self.network.address}"
        return PostgresServer(directory, {"listen_addresses": listening, "hba_file": str(trusted)})

    def _configured(self, directory: Path, host: Host) -> Path:
        directory.mkdir()
        database = self.database.url("glancelike").replace("@127.0.0.1:", f"@{self.network.address}:")
        if not self.database.execute("SELECT 1 FROM pg_database WHERE datname = 'glancelike'"):
            self.database.make_database("glancelike")
        file = directory / "glancelike.conf"
        file.write_text(
            CONFIG.format(
                address=host.address,
                port=PORT,
                state=self.state,
                network=f"{self.network.prefix}.0/24",
                database=database,
            )
        )
        return file

    def busy(self, port: int = PORT) -> Node:
        """Wait until just one node has a connection from or to a port, and return it."""
        wait_for(f"one node is busy with {port}", lambda: len(self._connected(port)) == 1)
        return self._connected(port)[0]

    def _connected(self, port: int) -> list[Node]:
        return [node for node in self.nodes if node.alive and node.connected(port)]

    def heal(self) -> None:
        """Have all nodes run and be reachable through nginx."""
        for host in self.network.hosts:
            host.restore()
        self._start([node for node in self.nodes if not node.alive])

    @staticmethod
    def _start(nodes: list[Node]) -> None:
        with ThreadPoolExecutor(max(1, len(nodes))) as pool:
            list(pool.map(Node.start, nodes))

    def execute(self, statement: str) -> list[Any]:
        """Ask the database."""
        return self.database.execute(statement, "glancelike")

    def leases_run_out(self) -> None:
        """Have what nodes hold run out, as if those that are gone had been for long."""
        run_out(self.database.url("glancelike"))

    def gc(self) -> list[Orphan]:
        """Collect garbage, however young."""
        with config.build(self.settings) as service:
            return list(service.gc(grace_seconds=0.0))


def _balanced(directory: Path, addresses: list[str]) -> Server:
    """Start nginx with the configuration that is shipped, but for its addresses."""
    (port,) = free_ports(1)
    text = (ETC / "nginx-glancelike.conf").read_text()
    ours = {
        f"192.0.2.{number}:9292": f"{address}:{PORT}" for number, address in enumerate(addresses, start=11)
    }
    for example, own in {"listen 9292;": f"listen 127.0.0.1:{port};", **ours}.items():
        assert example in text
        text = text.replace(example, own)
    (directory / "site.conf").write_text(text)
    main = directory / "nginx.conf"
    main.write_text(NGINX.format(directory=directory, site=directory / "site.conf"))
    log = directory / "nginx.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["nginx", "-e", "stderr", "-c", str(main)], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    front = Server(process, log, main, port)
    deadline = time.monotonic() + START_SECONDS
    while not answers(front):
        if process.poll() is not None or time.monotonic() > deadline:
            front.stop()
            raise AssertionError(f"nginx didn't start:\n{log.read_text()}")
        time.sleep(0.05)
    return front
