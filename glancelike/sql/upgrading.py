"""What an upgrade of a schema takes, whatever the schema: locks, patience, alembic."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from glancelike.sql.errors import Errors


@dataclass(frozen=True, slots=True)
class Lock:
    """What keeps a second upgrade out: ``number`` is any that nobody else is likely to use."""

    name: str
    number: int


def version_table(name: str) -> sa.Table:
    """Describe the table with the schema's revision, as alembic makes it."""
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("version_num", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("version_num", name=f"{name}_pkc"),
    )


def current(connection: Connection, table: str) -> str | None:
    """Return the database's revision; None when there are no tables."""
    if not sa.inspect(connection).has_table(table):
        return None
    revision: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {table}"))  # noqa: S608
    return revision


def config(script_location: Path, directories: Iterable[Path]) -> Any:
    """Return alembic's configuration for revisions in these directories."""
    from alembic.config import Config

    made = Config()
    # A "%" in a path would be read as an interpolation.
    made.set_main_option("script_location", str(script_location).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    places = os.pathsep.join(map(str, directories))
    made.set_main_option("version_locations", places.replace("%", "%%"))
    return made


def run(connection: Connection, configuration: Any, revision: str) -> None:
    """Run the revisions up to one; ``env.py`` finds the connection among the attributes."""
    from alembic import command

    configuration.attributes["connection"] = connection
    command.upgrade(configuration, revision)


def patience(engine: Engine, settings: Mapping[str, Any]) -> float:
    """Return the seconds that an upgrade waits for somebody else's transaction."""
    seconds: float = settings["sqlite_busy_timeout" if engine.dialect.name == "sqlite" else "lock_timeout"]
    return seconds


@contextmanager
def locked(connection: Connection, lock: Lock, where: str, patience: float, errors: Errors) -> Iterator[None]:
    """Let one process upgrade at a time; SQLite's writer lock does already.

    The lock is the session's and spans its transaction: who comes next sees
    what was committed. It ends with the session. Raises
    ``errors.unavailable`` when another upgrade is running.
    """
    name = connection.dialect.name
    if name == "postgresql":
        take, give = sa.func.pg_advisory_lock(lock.number), sa.func.pg_advisory_unlock(lock.number)
    elif name in ("mysql", "mariadb"):
        take, give = sa.func.get_lock(lock.name, patience), sa.func.release_lock(lock.name)
    else:
        yield
        return
    with connection.begin():
        be_patient(connection, patience)
        if connection.scalar(sa.select(take)) == 0:
            raise errors.unavailable(f"{where}: another upgrade is running")
    try:
        yield
    finally:
        with connection.begin():
            connection.execute(sa.select(give))


def be_patient(connection: Connection, patience: float) -> None:
    """Limit how long the transaction waits for locks, where that is no setting of the connection."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"SET LOCAL lock_timeout = {int(patience * 1000)}"))


def use_wal(engine: Engine, where: str, patience: float, errors: Errors) -> None:
    """Let readers of an SQLite database go on while one writes; the file remembers it.

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
                    raise errors.unavailable(f"{where}: {error}") from error
            except sqlite3.DatabaseError as error:
                raise errors.failed(f"{where}: {error}") from error
        time.sleep(0.01)
