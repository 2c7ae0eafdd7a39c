"""A real Nova, set up as a cloud of one host: with Placement, Glance, a broker and a database.

Nobody authenticates: callers name themselves in headers, as Keystone's
middleware would do for them. There is no network service; see ``nonetwork``.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import installs, peers
from benchmarks.client import asked
from benchmarks.clouds import Cloud
from benchmarks.stage import Stage
from tests.swift_server import free_ports
from tests.waiting import wait_for

TOKEN = "admin"  # Placement takes the token's words for who calls
CALLER = {**peers.CALLER, "X-Auth-Token": TOKEN, "OpenStack-API-Version": "compute 2.37"}
STEP_SECONDS = 300.0
KEYSTONE = "osprofiler authtoken keystonecontext"
PLACEMENT = """\
[api]
auth_strategy = noauth2
[placement_database]
connection = {database}
sync_on_startup = false
"""
CONFIG = """\
[DEFAULT]
host = host
my_ip = 127.0.0.1
state_path = {folder}
instances_path = {folder}/instances
transport_url = {queue}
reserved_host_memory_mb = 0
{options}
[conductor]
workers = 1
[scheduler]
workers = 1
[quota]
instances = -1
cores = -1
ram = -1
[glance]
endpoint_override = http://127.0.0.1:{images}
[placement]
auth_type = admin_token
token = {token}
endpoint = http://127.0.0.1:{placement}
endpoint_override = http://127.0.0.1:{placement}
[neutron]
auth_type = admin_token
token = {token}
endpoint = http://127.0.0.1:{ports}
endpoint_override = http://127.0.0.1:{ports}
[oslo_concurrency]
lock_path = {folder}/locks
[nova_sys_admin]
helper_command = {helper} --config-file {folder}/nova-compute.conf
[vnc]
enabled = false
{further}
"""
# What a host doesn't get, which asks the conductor.
DATABASES = """\
[api_database]
connection = {above}
[database]
connection = {cell}
"""


class NovaFailed(Exception):
    """A step on the way to a running Nova has failed."""


class Nova(Cloud):
    """Nova's API, conductor, scheduler and one host, Placement and Glance, with one worker each.

    Raises NovaFailed when a step of its set-up fails, RuntimeError when it can't be installed.
    """

    headers = CALLER
    wanted: Mapping[str, object] = {"networks": "none"}

    def __init__(self, stage: Stage, folder: Path, options: str, further: str = "") -> None:
        super().__init__(stage, folder)
        self._install = installs.nova()
        self._options, self._further = options, further
        self._environment = {
            "OS_NOVA_CONFIG_DIR": str(folder),
            "OS_PLACEMENT_CONFIG_DIR": str(folder),
            # Commands that it runs are beside it.
            "PATH": f"{self._install.programs}:{os.environ['PATH']}",
        }

    @property
    def name(self) -> str:
        return f"Nova {self._install.version('nova')}"

    @property
    def images(self) -> peers.Glance:
        return self._images

    def _start(self) -> None:
        queue = self._start_broker()
        self._images = peers.Glance(self.folder / "images", self._stage.database(), named=False)
        self._images.start()
        self.programs.append(self._images)
        self._configure(queue)
        self._step("placement-manage", "--config-file", f"{self.folder}/placement.conf", "db", "sync")
        placement = self._served("placement", "placement.wsgi.api:application", self._placement)
        placement.wait("/")
        self._manage("api_db", "sync")
        self._manage("cell_v2", "map_cell0", "--database_connection", self._stage.database())
        self._manage("db", "sync")
        self._manage("cell_v2", "create_cell", "--name", "cell1")
        self._daemon("nova-conductor", "nova.conf")
        self._daemon("nova-scheduler", "nova.conf")
        self._served("nova-api", "nova.wsgi.osapi_compute:application", self.port).wait("/v2.1/flavors")
        self._daemon("nova-compute", "nova-compute.conf")  # waits long for a conductor that comes later
        try:
            self._wait_up()
            self._manage("cell_v2", "discover_hosts", "--by-service", "--strict")
            wait_for("Placement knows the host", lambda: _knows_a_host(placement))
        except AssertionError as exc:
            raise NovaFailed(f"{exc}\n{self.logs()}") from exc

    def __exit__(self, *_exc: object) -> None:
        # The host first, which asks the others as it ends; these at once, since each takes seconds.
        for program in self.programs[-1:]:
            program.stop()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda program: program.stop(), self.programs))
        super().__exit__()

    def _configure(self, queue: str) -> None:
        self.port, self._placement, ports = free_ports(3)
        command = [installs.ours().program("gunicorn"), "--bind", f"127.0.0.1:{ports}", "--no-control-socket"]
        command += ["--worker-class", "gthread", "--threads", str(peers.THREADS)]
        command += ["--chdir", str(Path(__file__).parent), "nonetwork:application"]
        self.aside.append(self._started("nonetwork", command, ports))
        self._write("placement.conf", PLACEMENT.format(database=self._stage.database()))
        text = CONFIG.format(
            folder=self.folder,
            queue=queue,
            options=self._options,
            images=self._images.port,
            token=TOKEN,
            placement=self._placement,
            ports=ports,
            helper=self._install.program("privsep-helper"),
            further=self._further,
        )
        self.instances.mkdir()
        self._write("nova-compute.conf", text)
        databases = DATABASES.format(above=self._stage.database(), cell=self._stage.database())
        self._write("nova.conf", f"{text}{databases}")
        pipelines = (Path(self._install.programs).parent / "etc" / "nova" / "api-paste.ini").read_text()
        if KEYSTONE not in pipelines:
            raise NovaFailed(f"Nova's api-paste.ini has no {KEYSTONE!r}")
        self._write("api-paste.ini", pipelines.replace(KEYSTONE, KEYSTONE.replace("authtoken ", "")))

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def _served(self, name: str, module: str, port: int) -> peers.Program:
        """Start a WSGI application under uWSGI, with one worker; it may not answer yet."""
        self._write(
            f"{name}.ini",
            peers.UWSGI.format(listening=f"127.0.0.1:{port}", module=module, threads=peers.THREADS),
        )
        command = [self._install.program("uwsgi"), "--ini", f"{self.folder}/{name}.ini"]
        program = self._started(name, command, port)
        self.programs.append(program)
        return program

    def _daemon(self, name: str, config: str) -> None:
        command = [self._install.program(name), "--config-file", f"{self.folder}/{config}"]
        self.programs.append(self._started(name, command, 0))

    def _started(self, name: str, command: list[str], port: int) -> peers.Program:
        folder = self.folder / name
        folder.mkdir()
        program = peers.started(name, command, port, folder, **self._environment)
        program.headers = CALLER
        return program

    def _manage(self, *words: str) -> None:
        self._step("nova-manage", "--config-file", f"{self.folder}/nova.conf", *words)

    def _step(self, *words: str) -> None:
        """Run a command to its end; raise NovaFailed with the end of what it wrote."""
        self._stage.say(" ".join(words))
        log = self.folder / "steps.log"
        with log.open("ab") as output:
            done = subprocess.run(
                [self._install.program(words[0]), *words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=peers.surroundings(**self._environment),
                timeout=STEP_SECONDS,
                check=False,
            )
        if done.returncode:
            raise NovaFailed(f"{' '.join(words)}: status {done.returncode}\n{log.read_text()[-3000:]}")


def _knows_a_host(placement: peers.Program) -> bool:
    """Tell whether there is one with CPUs."""
    headers = {"OpenStack-API-Version": "placement 1.4"}
    with asked(placement, "GET", "/resource_providers?resources=VCPU:1", headers=headers) as response:
        return bool(json.load(response)["resource_providers"])
