"""Who is measured: our server, a real Glance, and the limits, nginx and a bare handler."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import installs
from benchmarks.client import Server, asked
from tests.glance_server import GlanceServer
from tests.swift_server import free_ports

START_SECONDS = 60.0
STOP_SECONDS = 40.0
THREADS = 16
# Who asks, as Keystone's middleware would tell Glance; nobody authenticates. Ours gets the same.
CALLER = {
    "X-Identity-Status": "Confirmed",
    "X-User-Id": "user-of-admin",
    "X-Project-Id": "admin",
    "X-Roles": "admin,member,reader",
}
# As Glance's documentation has it (admin/apache-httpd), with threads, and without a line of log a request.
UWSGI = """\
[uwsgi]
http-socket = {listening}
module = {module}
master = true
processes = 1
threads = {threads}
enable-threads = true
lazy-apps = true
need-app = true
thunder-lock = true
die-on-term = true
buffer-size = 65535
http-auto-chunked = true
http-chunked-input = true
http-raw-body = true
add-header = Connection: close
disable-logging = true
"""
NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {root};
    }}
}}
{user}
"""


@dataclass
class Program:
    """A running server that one command line has started."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self, path: str) -> None:
        """Return once a path is answered well; raise RuntimeError with the log otherwise."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError):
                with socket.create_connection(("127.0.0.1", self.port), START_SECONDS):
                    pass
                with asked(self, "GET", path):
                    return
            time.sleep(0.002)
        self.stop()
        raise RuntimeError(f"{self.name} doesn't answer:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        """End the server by its pid."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def started(name: str, command: list[str], port: int, folder: Path, **environment: str) -> Program:
    """Start a server; it may not answer yet."""
    log = folder / "log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=surroundings(**environment),
        )
    return Program(name, port, process, log)


def surroundings(**environment: str) -> dict[str, str]:
    """Return the environment of a program: ours without what is for clients, and more."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # else each start compiles all anew
    return {**kept, **environment}


@dataclass
class Ours:
    """A glancelike with all it has in ``folder``.

    ``stores``: id -> (driver, settings), the default one first. ``programs``
    is where its programs are, when not in an environment of their own.
    """

    folder: Path
    connection: str | None = None
    stores: Mapping[str, tuple[str, Mapping[str, Any]]] | None = None
    options: str = ""
    programs: Path | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.port,) = free_ports(1)
        stores = self.stores or {"file": ("file", {"filesystem_store_datadir": self.data})}
        lines = [
            f"[DEFAULT]\nstate_path = {self.folder}\nbind_port = {self.port}\nthreads = {THREADS}",
            f"enabled_backends = {', '.join(f'{id_}:{driver}' for id_, (driver, _) in stores.items())}",
            self.options,
            f"[glance_store]\ndefault_backend = {next(iter(stores))}",
        ]
        if self.connection:
            lines.append(f"[database]\nconnection = {self.connection}")
        for id_, (_, settings) in stores.items():
            lines += [f"[{id_}]", *(f"{option} = {value}" for option, value in settings.items())]
        self.config = self.folder / "glancelike.conf"
        self.config.write_text("\n".join(lines) + "\n")
        self._bin = str(self.programs or installs.ours().programs)
        upgrade = [f"{self._bin}/glancelike", "--config-file", str(self.config), "db", "upgrade"]
        subprocess.run(upgrade, check=True, stdout=subprocess.DEVNULL)

    @property
    def data(self) -> Path:
        return self.folder / "images"

    def start(self) -> Program:
        """Start it; it may not answer yet."""
        command = [f"{self._bin}/glancelike-api", "--config-file", str(self.config)]
        program = started("ours", command, self.port, self.folder)
        program.headers = CALLER
        return program


class Glance(GlanceServer):
    """A Glance under uWSGI, or gunicorn, in an environment of its own, with one worker."""

    headers = CALLER

    def __init__(
        self,
        folder: Path,
        connection: str,
        more: Mapping[str, tuple[str, str]] | None = None,
        *,
        named: bool = True,
    ) -> None:
        folder.mkdir(parents=True)
        super().__init__(
            folder,
            () if more else ("fast",),
            more=more or {},
            connection=connection,
            threads=THREADS,
            programs=Path(installs.glance().programs),
            named=named,
        )
        self.under = "uWSGI"

    @property
    def name(self) -> str:
        return f"Glance, {self.under}"

    @property
    def data(self) -> Path:
        return self.directory / "fast"

    def command(self, listening: int) -> list[str]:
        if self.under == "gunicorn":
            return super().command(listening)
        config = self.directory / "uwsgi.ini"
        module = "glance.wsgi.api:application"
        config.write_text(UWSGI.format(listening=f"fd://{listening}", module=module, threads=THREADS))
        return [str(self.programs / "uwsgi"), "--ini", str(config)]

    @contextmanager
    def running(self, under: str) -> Iterator[Server]:
        """Run it under one of the two servers for the length of a ``with``."""
        self.under = under
        self.start()
        try:
            yield self
        finally:
            self.stop()


@contextmanager
def ours(folder: Path, connection: str | None = None, **how: Any) -> Iterator[Program]:
    """Run our server for the length of a ``with``."""
    program = Ours(folder, connection, **how).start()
    try:
        program.wait("/v2/images?limit=1")
        yield program
    finally:
        program.stop()


@contextmanager
def nginx(folder: Path, root: Path) -> Iterator[Program]:
    """Serve a directory's files with sendfile."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise FileNotFoundError("nginx isn't installed")
    folder.mkdir()
    (port,) = free_ports(1)
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, root=root, port=port, user=user))
    command = [found, "-e", str(folder / "error.log"), "-c", str(config)]
    with _running(started("nginx", command, port, folder)) as program:
        yield program


@contextmanager
def bare(folder: Path) -> Iterator[Program]:
    """Run the bare handler, which writes into ``folder``, under gunicorn as our server does."""
    folder.mkdir()
    (port,) = free_ports(1)
    command = [installs.ours().program("gunicorn"), "--bind", f"127.0.0.1:{port}", "--no-control-socket"]
    command += ["--worker-class", "gthread", "--threads", str(THREADS), "--timeout", "600"]
    command += ["--chdir", str(Path(__file__).parent), "bare:application"]
    with _running(started("bare handler", command, port, folder, BARE_FOLDER=str(folder))) as program:
        yield program


@contextmanager
def _running(program: Program) -> Iterator[Program]:
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            if program.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{program.name} doesn't start:\n{program.log.read_text()[-3000:]}")
            with suppress(OSError), socket.create_connection(("127.0.0.1", program.port), 5):
                break
            time.sleep(0.02)
        yield program
    finally:
        program.stop()
