"""Registry servers for the tests, with SQLite under them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from glancelike import config_registry
from glancelike.registry.base import Registry
from tests.server_fixtures import Server, start

SECRET = "a secret that registries share"
CONFIG = """\
[DEFAULT]
bind_port = {port}
state_path = {state}
workers = {workers}
threads = 8
{extra}
[database]
sqlite_busy_timeout = 3
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
            if name not in ("alembic_version", "sqlite_sequence"):
                connection.execute(f'DELETE FROM "{name}"')
