"""The open database that the parts of the SQL registry share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from glancelike.errors import RegistryError
from glancelike.model import utcnow
from glancelike.plugins import Plugin
from glancelike.registry.sql.engine import explained, parse_url, shown

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
        self._reader: Engine | None = None
        self._writer: Engine | None = None

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Begin a transaction all of whose statements see one snapshot."""
        if self._reader is None:
            raise RegistryError(f"{self._where} is not open")
        with explained(self._url), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Begin a transaction, committed unless something is raised."""
        if self._writer is None:
            raise RegistryError(f"{self._where} is not open")
        with explained(self._url), self._writer.begin() as connection:
            yield connection


def now(connection: Connection) -> datetime:
    """Return the time by the one clock that all processes share."""
    statement = NOW.get(connection.dialect.name)
    if statement is None:
        return utcnow()
    told: datetime = connection.execute(statement).scalar_one()
    return told.replace(tzinfo=UTC)
