"""The SQL registry: SQLite, PostgreSQL, MySQL and MariaDB.

SQLAlchemy is imported when ``SqlRegistry`` is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glancelike.registry.sql.backend import SqlRegistry

__all__ = ["SqlRegistry"]


def __getattr__(name: str) -> Any:
    if name != "SqlRegistry":
        raise AttributeError(name)
    from glancelike.registry.sql.backend import SqlRegistry

    return SqlRegistry
