"""A real Glance from PyPI: its database, its file stores, its API under gunicorn.

Nobody authenticates: callers say in headers who they are, as Keystone's
middleware would tell Glance.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import MappingProxyType
from typing import Any

import glanceclient
import pytest
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session

START_SECONDS = 120.0
BIN = Path(sys.executable).parent
CONFIG = """\
[DEFAULT]
enabled_backends = {backends}
node_staging_uri = file://{directory}/os_glance_staging_store
show_multiple_locations = false
{options}
[database]
connection = {connection}
[glance_store]
default_backend = {default}
[oslo_concurrency]
lock_path = {directory}/locks
[os_glance_tasks_store]
filesystem_store_datadir = {directory}/os_glance_tasks_store
[os_glance_staging_store]
filesystem_store_datadir = {directory}/os_glance_staging_store
{sections}
"""
PASTE = """\
[composite:glance-api]
paste.composite_factory = glance.api:root_app_factory
/: api
[pipeline:api]
pipeline = versionnegotiation context rootapp
[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/: apiversions
/v2: apiv2app
[app:apiversions]
paste.app_factory = glance.api.versions:create_resource
[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory
[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:VersionNegotiationFilter.factory
[filter:context]
paste.filter_factory = glance.api.middleware.context:{context}.factory
"""

# Glance's administrator without a name has no role, which all its rules ask for.
ANYBODY = (
    *("add_image", "get_image", "get_images", "modify_image", "delete_image"),
    *("upload_image", "download_image", "get_image_location"),
)


def _metadefs() -> Path:
    """Return where the package has put its definitions: beside itself, in whose environment ever that is."""
    try:
        place = distribution("glance").locate_file("../../../etc/glance/metadefs")
    except PackageNotFoundError:
        return Path(sys.prefix, "etc", "glance", "metadefs")
    return Path(str(place)).resolve()


METADEFS = _metadefs()


class Named(NoAuth):
    """Says who the caller is."""

    def __init__(self, endpoint: str, project: str, roles: str) -> None:
        super().__init__(endpoint=endpoint)
        self._headers = {
            "X-Identity-Status": "Confirmed",
            "X-User-Id": f"user-of-{project}",
            "X-Project-Id": project,
            "X-Roles": roles,
        }

    def get_headers(self, session: Any, **_: Any) -> dict[str, str]:
        return self._headers


class GlanceServer:
    """One Glance with all it has in ``directory``; made with its tables, and not started yet.

    The data of the store ``fast``, say, is in ``directory / "fast"``.
    ``options`` are lines of [DEFAULT]; ``more`` are stores of other kinds, by id
    their driver and the lines of their section. ``connection`` is the URL of its
    database, which is SQLite in ``directory`` by default. ``programs`` is where Glance's
    are, when it's in another environment than ours. Without ``named`` callers needn't
    say who they are, and everybody is an administrator.
    """

    def __init__(
        self,
        directory: Path,
        stores: Iterable[str] = ("fast", "slow"),
        *,
        options: str = "",
        more: Mapping[str, tuple[str, str]] = MappingProxyType({}),
        connection: str | None = None,
        workers: int = 1,
        threads: int = 4,
        programs: Path = BIN,
        named: bool = True,
    ) -> None:
        if programs == BIN and importlib.util.find_spec("glance") is None:
            pytest.skip("Glance isn't installed")
        self.directory = directory
        self.programs = programs
        self.stores = {name: directory / name for name in stores}
        self.database = directory / "glance.db"
        self.connection = connection or f"sqlite:///{self.database}"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._serving = ["--workers", str(workers), "--threads", str(threads), "--worker-class", "gthread"]
        for name in (*self.stores, "os_glance_tasks_store", "os_glance_staging_store", "locks"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        kinds = {**dict.fromkeys(self.stores, "file"), **{name: driver for name, (driver, _) in more.items()}}
        sections = {
            **{name: f"filesystem_store_datadir = {path}" for name, path in self.stores.items()},
            **{name: lines for name, (_, lines) in more.items()},
        }
        config = CONFIG.format(
            directory=directory,
            backends=", ".join(f"{name}:{driver}" for name, driver in kinds.items()),
            default=next(iter(kinds)),
            connection=self.connection,
            options=options,
            sections="\n".join(f"[{name}]\n{lines}" for name, lines in sections.items()),
        )
        (directory / "glance-api.conf").write_text(config)
        context = "ContextMiddleware" if named else "UnauthenticatedContextMiddleware"
        (directory / "glance-api-paste.ini").write_text(PASTE.format(context=context))
        if not named:
            (directory / "policy.yaml").write_text("".join(f'"{name}": "@"\n' for name in ANYBODY))
        self.manage("db", "sync")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Tell the first process of the running server."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.directory / "glance-api.log"

    def manage(self, *words: str) -> str:
        """Run ``glance-manage``; return what it prints."""
        command = [str(self.programs / "python"), "-m", "glance.cmd.manage"]
        done = subprocess.run(
            [*command, "--config-file", str(self.directory / "glance-api.conf"), *words],
            capture_output=True,
            text=True,
            env=_environment(self.directory),
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(self, listening: int) -> list[str]:
        """Return the command line that serves on an inherited socket."""
        command = [str(self.programs / "gunicorn"), *self._serving, "--timeout", "600", "--no-control-socket"]
        return [*command, "--bind", f"fd://{listening}", "glance.wsgi.api:application"]

    def start(self) -> None:
        """Serve the API on a free port; return once it answers."""
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
            self.port = listening.getsockname()[1]
            listening.set_inheritable(True)
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self.command(listening.fileno()),
                    env=_environment(self.directory),
                    pass_fds=[listening.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)
            try:
                client.request("GET", "/versions")
                if client.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.1)
            finally:
                client.close()
        self.stop()
        raise AssertionError(f"Glance didn't start:\n{self.log.read_text()}")

    def stop(self) -> None:
        """End the server by its pid."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def client(self, project: str = "admin", roles: str = "admin,member,reader") -> Any:
        """Return python-glanceclient's client of version 2 that calls for a project."""
        session = Session(auth=Named(self.url, project, roles), timeout=60)
        return glanceclient.Client("2", session=session, endpoint_override=self.url)


def _environment(directory: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    return {**kept, "OS_GLANCE_CONFIG_DIR": str(directory)}
