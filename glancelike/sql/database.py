"""An open database, and its transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from glancelike.sql.engine import explained, make_engine, of_kind, parse_url, shown
from glancelike.sql.errors import Errors
from glancelike.sql.retries import committing
from glancelike.sql.servers import Kind

NOW = {
    "postgresql": sa.select(sa.func.timezone("utc", sa.func.clock_timestamp())),
    "mysql": sa.select(sa.func.utc_timestamp(6)),
    "mariadb": sa.select(sa.func.utc_timestamp(6)),
}


class Database:
    """Transactions on one database; thread-safe after ``open``.

    ``settings`` has a value for each of ``options.OPTIONS``. ``connection``
    is a URL; ``errors.config`` is raised for one that can't be.
    """

    def __init__(self, connection: str | None, settings: Mapping[str, Any], errors: Errors) -> None:
        self.settings = settings
        self.errors = errors
        self.url = parse_url(connection, errors)
        self.where = shown(self.url)  # what errors call it
        self.engine: Engine | None = None
        self._writer: Engine | None = None
        self._looker: Engine | None = None

    def open(self, check: Callable[[Connection], None]) -> None:
        """Connect, and have the connection checked; what ``check`` raises ends that."""
        engine = make_engine(self.url, self.settings, self.errors)
        try:
            with explained(self.url, self.errors), engine.connect() as connection:
                check(connection)
        except BaseException:
            engine.dispose()
            raise
        self._use(engine)

    def close(self) -> None:
        """Close all connections; an ``open`` may follow."""
        engine = self.engine
        self._use(None)
        if engine is not None:
            engine.dispose()

    def _use(self, engine: Engine | None) -> None:
        """Have an engine, or none, for all transactions."""
        self.engine = engine
        self._writer = engine and of_kind(engine, Kind.WRITES)
        self._looker = engine and of_kind(engine, Kind.LOOKS)

    @contextmanager
    def passing(self, *, bounded: bool = True) -> Iterator[Engine]:
        """Connect for a while, whether open or not; statements have no time limit unless ``bounded``."""
        engine = make_engine(self.url, self.settings, self.errors, bounded=bounded)
        try:
            with explained(self.url, self.errors):
                yield engine
        finally:
            engine.dispose()

    @contextmanager
    def looking(self) -> Iterator[Connection]:
        """Connect for one statement, without a transaction around it."""
        if self._looker is None:
            raise self.errors.failed(f"{self.where} is not open")
        with explained(self.url, self.errors), self._looker.connect() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Begin a transaction all of whose statements see one snapshot."""
        if self.engine is None:
            raise self.errors.failed(f"{self.where} is not open")
        with explained(self.url, self.errors), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Begin a transaction, committed unless something is raised."""
        if self._writer is None:
            raise self.errors.failed(f"{self.where} is not open")
        with explained(self.url, self.errors), self._writer.connect() as connection:
            yield connection
            if connection.dialect.name == "sqlite":  # no connection that could be lost
                connection.commit()
                return
            with committing(self.where, self.errors):
                connection.commit()


def insert_new(connection: Connection, table: sa.Table, row: Mapping[str, Any]) -> bool:
    """Insert a row; return False, and the transaction goes on, when its key is there already."""
    dialect = connection.dialect.name
    if dialect in ("postgresql", "sqlite"):
        # Not imported above: each brings all drivers for its database, and one database is used.
        insert = import_module(f"sqlalchemy.dialects.{dialect}").insert
        statement: Any = insert(table).on_conflict_do_nothing()
    else:
        statement = sa.insert(table).prefix_with("IGNORE")
    counted = statement.execution_options(preserve_rowcount=True)
    return connection.execute(counted, row).rowcount == 1


def now(connection: Connection) -> datetime:
    """Return the time by the one clock that all processes share."""
    statement = NOW.get(connection.dialect.name)
    if statement is None:
        return datetime.now(UTC)
    told: datetime = connection.execute(statement).scalar_one()
    return told.replace(tzinfo=UTC)
