"""The open database that the parts of the SQL registry share."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any

from sqlalchemy.engine import Connection, Engine

from glancelike.errors import ConfigError, OutcomeUnknown, RegistryError, RegistryUnavailable
from glancelike.plugins import Plugin
from glancelike.sql import database
from glancelike.sql.database import insert_new, now
from glancelike.sql.errors import Errors

__all__ = ["ERRORS", "Database", "insert_new", "now"]


class Undone(RegistryUnavailable):
    """Say that a transaction changed nothing, for a reason that may be gone already."""


ERRORS = Errors(
    config=ConfigError,
    failed=RegistryError,
    refused=RegistryError,  # the service and ``values`` check before
    unavailable=RegistryUnavailable,
    undone=Undone,
    unknown=OutcomeUnknown,
)


class Database(Plugin):
    """Transactions on the database that ``SqlRegistry.open`` connected to."""

    def __init__(self, settings: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__(settings)
        self._database = database.Database(self.settings["connection"], self.settings, ERRORS)
        self._url, self._where = self._database.url, self._database.where

    @property
    def _engine(self) -> Engine | None:
        return self._database.engine

    def _looking(self) -> AbstractContextManager[Connection]:
        """Connect for one statement, without a transaction around it."""
        return self._database.looking()

    def _reading(self) -> AbstractContextManager[Connection]:
        """Begin a transaction all of whose statements see one snapshot."""
        return self._database.reading()

    def _writing(self) -> AbstractContextManager[Connection]:
        """Begin a transaction, committed unless something is raised."""
        return self._database.writing()
