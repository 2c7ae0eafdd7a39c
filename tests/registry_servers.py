"""Registry servers for the tests, with SQLite under them."""

from __future__ import annotations

import io
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from glancelike import config_registry
from glancelike.registry.base import Registry
from glancelike.registry.remote import RemoteRegistry
from glancelike.registry.server import SecretAuth, create_app
from glancelike.web.auth import NoneAuth
from tests.server_fixtures import Server, start

App = Callable[[dict[str, Any], Any], Iterable[bytes]]
SECRET = "a-secret-that-registries-share"
CONFIG = """\
[DEFAULT]
bind_port = {port}
state_path = {state}
workers = {workers}
threads = 8
{extra}
[database]
sqlite_busy_timeout = 10
# The tests kill processes, not the machine: the disk need not be waited for.
sqlite_synchronous = false
"""


def write_registry_config(
    directory: Path, *, state: Path | None = None, port: int = 0, workers: int = 1, extra: str = ""
) -> Path:
    """Write a config file of a registry server whose database, made here, is in ``state``."""
    directory.mkdir(exist_ok=True)
    state = state or directory
    path = directory / "glancelike-registry.conf"
    path.write_text(CONFIG.format(port=port, state=state, workers=workers, extra=extra))
    if not database(state).exists():
        config_registry.load(["--config-file", str(path)]).registry.make(Registry).upgrade()
    return path


def start_registry(config_file: Path) -> Server:
    """Start a registry server and wait until it answers."""
    return start(config_file, "glancelike-registry")


def database(state: Path) -> Path:
    """Return where a registry server keeps its records."""
    return state / "glancelike.db"


def empty(path: Path) -> None:
    """Remove all that a database holds but its schema."""
    with closing(sqlite3.connect(path)) as connection, connection:
        named = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        for (name,) in named:
            if not name.startswith(("glancelike_", "sqlite_")):
                connection.execute(f'DELETE FROM "{name}"')


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of requests."""


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing of callers that went away."""


def _bounded(app: App) -> App:
    """Let the body end where its length says, as real servers do."""

    def wrapped(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return app({**environ, "wsgi.input": io.BytesIO(body)}, start)

    return wrapped


@contextmanager
def served(
    registry: Registry, *, secrets: Sequence[str] = (), around: Callable[[App], App] = lambda app: app
) -> Iterator[str]:
    """Serve a registry in this process; return its URL. ``around`` wraps the application."""
    registry.open()
    app = create_app(registry, SecretAuth(secrets) if secrets else NoneAuth({}))
    with make_server(
        "127.0.0.1", 0, _bounded(around(app)), server_class=_Threads, handler_class=_Quiet
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            registry.close()


def remote(*urls: str, opened: bool = True, **settings: object) -> Any:
    """Make a remote registry of these servers."""
    made = RemoteRegistry({"registry_endpoints": list(urls), **settings})
    if opened:
        made.open()
    return made
