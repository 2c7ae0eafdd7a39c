"""The SQL registry on SQLite keeps the registry contract."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from glancelike.registry.base import Registry
from glancelike.registry.sql import SqlRegistry
from glancelike.testing import RegistryConformance
from glancelike.testing.registry_child import Child


class TestSqliteRegistry(RegistryConformance):
    processes = True
    made: ClassVar[Path | None]  # a database with all its tables
    busy_timeout = 3.0

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _tables(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        made = tmp_path_factory.mktemp("tables") / "images.db"
        SqlRegistry(cls.settings_at(made)).upgrade()
        cls.made = made

    @classmethod
    def settings_at(cls, path: Path) -> dict[str, Any]:
        return {
            "connection": f"sqlite:///{path}",
            "sqlite_busy_timeout": cls.busy_timeout,
            # The tests kill processes, not the machine: the disk need not be waited for.
            "sqlite_synchronous": False,
        }

    def make_registry(self) -> SqlRegistry:
        path = self.tmp_path / "images.db"
        if self.made is not None:
            # Most of a test's time would go into the same tables again.
            shutil.copy(self.made, path)
        return SqlRegistry(self.settings_at(path))

    def test_processes_upgrade(self, children: Sequence[Child], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "made", None)
        monkeypatch.setattr(type(self), "busy_timeout", 60.0)
        super().test_processes_upgrade(children)

    @contextmanager
    def outage(self, registry: Registry) -> Iterator[None]:
        """Hold the writer's lock for longer than anybody waits."""
        with closing(sqlite3.connect(self.tmp_path / "images.db", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            yield
            holder.execute("ROLLBACK")
