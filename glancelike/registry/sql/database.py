"""The open database that the parts of the SQL registry share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from glancelike.errors import RegistryError
from glancelike.model import utcnow
from glancelike.plugins import Plugin
from glancelike.registry.sql.engine import explained, of_kind, parse_url, shown
from glancelike.registry.sql.retries import committing
from glancelike.registry.sql.servers import Kind

NOW = {
    "postgresql": sa.select(sa.func.timezone("utc", sa.func.clock_timestamp())),
    "mysql": sa.select(sa.func.utc_timestamp(6)),
    "mariadb": sa.select(sa.func.utc_timestamp(6)),
}


class Database(Plugin):
    """Transactions on the database that ``SqlRegistry.open`` connected to."""

    def __init__(self, settings: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__(settings)
        self._url = parse_url(self.settings["connection"])
        self._where = shown(self._url)
        self._engine: Engine | None = None
        self._writer: Engine | None = None
        self._looker: Engine | None = None

    def _use(self, engine: Engine | None) -> None:
        """Have an engine, or none, for all transactions."""
        self._engine = engine
        self._writer = engine and of_kind(engine, Kind.WRITES)
        self._looker = engine and of_kind(engine, Kind.LOOKS)

    @contextmanager
    def _looking(self) -> Iterator[Connection]:
        """Connect for one statement, without a transaction around it."""
        if self._looker is None:
            raise RegistryError(f"{self._where} is not open")
        with explained(self._url), self._looker.connect() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Begin a transaction all of whose statements see one snapshot."""
        if self._engine is None:
            raise RegistryError(f"{self._where} is not open")
        with explained(self._url), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Begin a transaction, committed unless something is raised."""
        if self._writer is None:
            raise RegistryError(f"{self._where} is not open")
        with explained(self._url), self._writer.connect() as connection:
            yield connection
            if connection.dialect.name == "sqlite":  # no connection that could be lost
                connection.commit()
                return
            with committing(self._where):
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
        return utcnow()
    told: datetime = connection.execute(statement).scalar_one()
    return told.replace(tzinfo=UTC)
