"""Connections and transactions: the engine under all queries.

SQLite is set up for several processes: write-ahead log, ``BEGIN IMMEDIATE``
for whoever means to write (so that no transaction fails half-way on a lock
it could have waited for at its start), and a busy timeout. Everything else
is plain Core and runs on PostgreSQL and MariaDB as well.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, make_url

from novalite.errors import ConfigError, DatabaseDown

BUSY_SECONDS = 30
_WRITE = "novalite_write"
# What statements and values are to blame for; everything else is the database's.
_OURS = (sa.exc.IntegrityError, sa.exc.ProgrammingError, sa.exc.DataError, sa.exc.NotSupportedError)


class Engine:
    """Opens transactions on one database; thread-safe after ``open``."""

    def __init__(self, url: str) -> None:
        try:
            self._url: URL = make_url(url)
        except sa.exc.ArgumentError as error:
            raise ConfigError(f"[database] connection isn't a database URL: {error}") from error
        if self.is_sqlite and self._url.database in (None, "", ":memory:"):
            raise ConfigError(
                "[database] connection: SQLite needs a file, as in sqlite:////var/lib/novalite.db"
            )
        self._engine: sa.Engine | None = None

    @property
    def is_sqlite(self) -> bool:
        """Tell whether this is SQLite."""
        return self._url.get_backend_name() == "sqlite"

    def __str__(self) -> str:
        return self._url.render_as_string(hide_password=True)

    def open(self) -> None:
        """Make the pool; connections come when they're needed."""
        if self._engine is not None:
            return
        try:
            if self.is_sqlite:
                engine = sa.create_engine(self._url, connect_args={"timeout": BUSY_SECONDS}, pool_size=10)
                sa.event.listen(engine, "connect", _prepare_sqlite)
                sa.event.listen(engine, "begin", _begin_sqlite)
            else:
                engine = sa.create_engine(self._url, pool_pre_ping=True)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as error:
            raise ConfigError(f"[database] connection {self}: {error}") from error
        self._engine = engine

    def exists(self) -> bool:
        """Tell whether there is a database; a server is asked when it's used."""
        return not self.is_sqlite or Path(str(self._url.database)).exists()

    def make_place(self) -> None:
        """Make the directory of a SQLite file; raise DatabaseDown when that fails."""
        if self.is_sqlite:
            try:
                Path(str(self._url.database)).absolute().parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DatabaseDown(f"database {self}: {error}") from error

    def close(self) -> None:
        """Close all connections; an open may follow."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads one snapshot."""
        with self._begin(write=False) as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes; it commits when the block ends well."""
        with self._begin(write=True) as connection:
            yield connection

    @contextlib.contextmanager
    def _begin(self, *, write: bool) -> Iterator[Connection]:
        if self._engine is None:
            raise DatabaseDown(f"database {self} isn't open")
        try:
            with self._engine.connect() as connection:
                connection = connection.execution_options(**{_WRITE: write})
                with connection.begin():
                    yield connection
        except _OURS:
            raise
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            raise DatabaseDown(f"database {self}: {getattr(error, 'orig', None) or error}") from error


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver's own idea of when a transaction begins would begin them too late.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    _to_wal(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _to_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, for which SQLite itself doesn't wait."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # Others that come to a new database at the same moment switch it, too.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE, True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
