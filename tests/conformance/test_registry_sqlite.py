"""The SQL registry on SQLite keeps the registry contract."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from glancelike.registry.base import Registry
from glancelike.registry.sql import SqlRegistry
from glancelike.testing import RegistryConformance


class TestSqliteRegistry(RegistryConformance):
    processes = True

    def make_registry(self) -> SqlRegistry:
        settings = {
            "connection": f"sqlite:///{self.tmp_path}/images.db",
            "sqlite_busy_timeout": 3.0,
            # The tests kill processes, not the machine: the disk need not be waited for.
            "sqlite_synchronous": False,
        }
        return SqlRegistry(settings)

    @contextmanager
    def outage(self, registry: Registry) -> Iterator[None]:
        """Hold the writer's lock for longer than anybody waits."""
        with closing(sqlite3.connect(self.tmp_path / "images.db", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            yield
            holder.execute("ROLLBACK")
