"""The schema's revision: what it is, what it should be, how to get there."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from glancelike.errors import RegistryError, RegistryUnavailable, SchemaNewer, SchemaOutdated
from glancelike.registry.sql.migrations import VERSION_TABLE, revisions

LOCK = "glancelike db upgrade"
LOCK_NUMBER = 0x676C616E6365  # any number nobody else is likely to use


def current(connection: Connection) -> str | None:
    """Return the database's revision; None when there are no tables."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608
    return revision


def check(revision: str | None, where: str) -> None:
    """Raise SchemaOutdated or SchemaNewer unless this code fits the revision."""
    known = revisions()
    if revision is None:
        raise SchemaOutdated(f"{where} has no tables yet: run `glancelike db upgrade`")
    if revision not in known:
        raise SchemaNewer(
            f"{where} is at revision {revision}, this code knows up to {known[-1]}: "
            f"it was upgraded by a newer version, run that"
        )
    if revision != known[-1]:
        raise SchemaOutdated(
            f"{where} is at revision {revision}, this code needs {known[-1]}: run `glancelike db upgrade`"
        )


def upgrade(engine: Engine, where: str, patience: float) -> None:
    """Run the missing revisions; ``patience`` seconds to wait for another's run."""
    if engine.dialect.name == "sqlite":
        _use_wal(engine, where, patience)
    writer = engine.execution_options(writes=True)
    with writer.begin() as connection, _locked(connection, where, patience):
        revision = current(connection)
        if revision is not None and revision not in revisions():
            check(revision, where)
        if revision != revisions()[-1]:
            _run(connection)


def _run(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "glancelike.registry.sql:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def _locked(connection: Connection, where: str, patience: float) -> Iterator[None]:
    """Let one process upgrade at a time; SQLite's writer lock does already."""
    name = connection.dialect.name
    if name == "postgresql":
        connection.execute(sa.text(f"SET LOCAL lock_timeout = {int(patience * 1000)}"))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_NUMBER)))
        yield
    elif name in ("mysql", "mariadb"):
        if connection.scalar(sa.select(sa.func.get_lock(LOCK, patience))) != 1:
            raise RegistryUnavailable(f"{where}: another upgrade is running")
        try:
            yield
        finally:
            connection.execute(sa.select(sa.func.release_lock(LOCK)))
    else:
        yield


def _use_wal(engine: Engine, where: str, patience: float) -> None:
    """Let readers go on while one writes; the file remembers it.

    Changing the mode needs the file for oneself, and SQLite doesn't wait
    for that as it waits for other locks.
    """
    until = time.monotonic() + patience
    while True:
        with engine.connect() as connection:
            try:
                # Beneath SQLAlchemy, which would begin a transaction first.
                raw: Any = connection.connection.driver_connection
                raw.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise RegistryUnavailable(f"{where}: {error}") from error
            except sqlite3.DatabaseError as error:
                raise RegistryError(f"{where}: {error}") from error
        time.sleep(0.01)
