"""The engine under all queries: glancelike's, with novalite's errors.

A method of the groups of queries is one transaction, which is tried again
when the database undid it (a deadlock, a connection lost before COMMIT).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from glancelike.sql import database
from glancelike.sql.database import insert_new, now
from glancelike.sql.engine import absent, sqlite_file
from glancelike.sql.errors import Errors
from glancelike.sql.options import OPTIONS
from glancelike.sql.retries import retrying
from novalite.errors import ConfigError, DatabaseDown, DatabaseFault, InvalidInput, OutcomeUnknown

__all__ = ["ERRORS", "Engine", "Records", "insert_new", "now", "tried_again"]

DEFAULTS: Mapping[str, Any] = MappingProxyType({opt.dest: opt.default for opt in OPTIONS})
R = TypeVar("R", bound=type)


class Undone(DatabaseDown):
    """Say that a transaction changed nothing, for a reason that may be gone already."""


ERRORS = Errors(
    config=ConfigError,
    failed=DatabaseFault,
    refused=InvalidInput,
    unavailable=DatabaseDown,
    undone=Undone,
    unknown=OutcomeUnknown,
)


class Engine(database.Database):
    """Opens transactions on one database; thread-safe after ``open``."""

    def __init__(self, url: str, settings: Mapping[str, Any] = DEFAULTS) -> None:
        super().__init__(url, settings, ERRORS)

    def absent(self) -> bool:
        """Tell whether this is an SQLite database that hasn't been made yet."""
        path = sqlite_file(self.url)
        return absent(self.url) or (path is not None and not path.parent.exists())

    def make_place(self) -> None:
        """Make the directory of an SQLite file; raise DatabaseDown when that fails."""
        path = sqlite_file(self.url)
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DatabaseDown(f"database {self.where}: {error}") from error


class Records:
    """What the groups of queries share."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.settings = engine.settings


def tried_again(cls: R) -> R:
    """Decorate a group of queries, each public method of which is one transaction."""
    return retrying({name for name in vars(cls) if not name.startswith("_")}, Undone)(cls)
