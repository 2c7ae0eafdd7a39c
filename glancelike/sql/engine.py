"""Connections, transactions and what becomes of the database's errors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, Engine, make_url

from glancelike.sql import servers
from glancelike.sql.errors import Errors, ForeignTable
from glancelike.sql.retries import is_undone
from glancelike.sql.servers import KIND, Kind

DIALECTS = ("sqlite", "postgresql", "mysql", "mariadb")


def parse_url(connection: str | None, errors: Errors) -> URL:
    """Turn the option ``connection`` into a URL; raise ``errors.config``."""
    if not connection:
        raise errors.config(
            "[database] connection is not set: expected something like sqlite:////srv/records.db"
        )
    try:
        url = make_url(connection)
    except (exc.ArgumentError, ValueError):
        # Not repeated: what can't be parsed may hold a password anywhere.
        raise errors.config(
            "[database] connection is no database URL: expected something like sqlite:////srv/records.db"
        ) from None
    if url.get_backend_name() not in DIALECTS:
        raise errors.config(
            f"[database] connection: {url.drivername} is not supported (one of {', '.join(DIALECTS)})"
        )
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise errors.config("[database] connection: SQLite needs a file, as in sqlite:////srv/records.db")
    return url


def sqlite_file(url: URL) -> Path | None:
    """Return the path of an SQLite database; None for other databases."""
    if url.get_backend_name() != "sqlite":
        return None
    return Path(url.database or "").absolute()


def absent(url: URL) -> bool:
    """Tell whether this is an SQLite database that hasn't been made yet, but could be."""
    path = sqlite_file(url)
    try:
        return path is not None and path.parent.is_dir() and not path.exists()
    except OSError:
        return False  # connecting will say what is wrong


def shown(url: URL) -> str:
    """Return what errors call the database: no password, no parameters."""
    path = sqlite_file(url)
    return str(path) if path else url.set(query={}).render_as_string(hide_password=True)


def make_engine(url: URL, settings: Mapping[str, Any], errors: Errors, *, bounded: bool = True) -> Engine:
    """Make the engine; nothing is connected yet. Raises ``errors.config``.

    Without ``bounded`` statements may take as long as they do.
    """
    arguments: dict[str, Any] = {
        "pool_size": settings["max_pool_size"],
        "max_overflow": settings["max_overflow"],
        "pool_timeout": settings["pool_timeout"],
        "pool_recycle": settings["connection_recycle_time"],
        "json_deserializer": msgspec.json.decode,
    }
    backend = url.get_backend_name()
    if backend == "sqlite":
        arguments["connect_args"] = {"timeout": settings["sqlite_busy_timeout"]}
    else:
        arguments["connect_args"] = servers.arguments(url, settings, bounded=bounded)
        # Transactions begin and end where we say so, and not without need.
        arguments["isolation_level"] = "AUTOCOMMIT"
    try:
        engine = sa.create_engine(url, **arguments)
    except (exc.ArgumentError, ImportError) as error:
        raise errors.config(f"[database] connection: {url.drivername} can't be used: {error}") from error
    if backend == "sqlite":
        _prepare_sqlite(engine, durable=settings["sqlite_synchronous"])
    else:
        servers.prepare(engine, settings, bounded=bounded)
    return engine


def of_kind(engine: Engine, kind: Kind) -> Engine:
    """Return the engine, with the same connections, for transactions of a kind; else they are READS."""
    return engine.execution_options(**{KIND: kind})


def _prepare_sqlite(engine: Engine, *, durable: bool) -> None:
    synchronous = "FULL" if durable else "NORMAL"

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        # The driver's own idea of when to begin comes too late for a writer.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {synchronous}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer takes its lock first: one that reads first and upgrades
        # later is refused at once, whatever the busy timeout.
        kind = connection.get_execution_options().get(KIND, Kind.READS)
        if kind is not Kind.LOOKS:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if kind is Kind.WRITES else "BEGIN")


@contextmanager
def explained(url: URL, errors: Errors) -> Iterator[None]:
    """Turn what the database layer raises into the user's own errors."""
    try:
        yield
    except ForeignTable as error:
        raise errors.failed(f"{shown(url)}: {error}") from error
    except exc.TimeoutError as error:
        raise errors.unavailable(f"{shown(url)}: no connection came free in time") from error
    except exc.DBAPIError as error:
        said = f"{shown(url)}: {error.orig}"
        if is_undone(error):
            raise errors.undone(said) from error
        if isinstance(error, exc.OperationalError | exc.InterfaceError) or error.connection_invalidated:
            raise errors.unavailable(f"{said}{_hint(url)}") from error
        kind = errors.refused if isinstance(error, exc.DataError) else errors.failed
        raise kind(said) from error


def _hint(url: URL) -> str:
    path = sqlite_file(url)
    if path is None:
        return ""
    try:
        if not path.parent.is_dir():
            return f" (there is no directory {path.parent})"
        if path.is_dir():
            return " (it is a directory)"
    except OSError as error:
        return f" ({error.strerror})"
    if not os.access(path.parent, os.W_OK):
        return f" (the directory {path.parent} isn't writable)"
    if path.exists() and not os.access(path, os.W_OK):
        return " (the file isn't writable)"
    return ""
