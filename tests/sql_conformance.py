"""The registry kit on a database server that all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import sqlalchemy as sa

from glancelike.registry.base import Registry
from glancelike.registry.sql import SqlRegistry
from glancelike.registry.sql.tables import compatibility, metadata
from glancelike.testing import RegistryConformance
from tests.database_servers import DatabaseServer

SHARED = "conformance"


class ServerConformance(RegistryConformance):
    """All tests use one database, emptied before each: tables take longer to make than tests to run.

    A subclass has a fixture that sets ``server`` and calls ``prepare``.
    """

    processes = True
    patience = 60.0  # a child process of a busy machine is slow to start

    server: ClassVar[DatabaseServer]
    engine: ClassVar[sa.Engine]

    @classmethod
    def prepare(cls, server: DatabaseServer) -> Iterator[None]:
        """Make the database and its tables; drop it in the end."""
        cls.server = server
        cls.engine = sa.create_engine(server.make_database(SHARED))
        SqlRegistry({"connection": server.url(SHARED)}).upgrade()
        yield
        cls.engine.dispose()
        server.drop_database(SHARED)

    def make_registry(self) -> SqlRegistry:
        with self.engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                if table is compatibility:
                    continue
                connection.execute(sa.delete(table))
        return self.registry_at(self.server.url(SHARED))

    def registry_at(self, url: str) -> SqlRegistry:
        # What a server takes while tests run beside it, and short enough for an outage.
        return SqlRegistry(
            {"connection": url, "statement_timeout": 5.0, "lock_timeout": 4.0, "connect_timeout": 3}
        )

    @contextmanager
    def outage(self, registry: Registry) -> Iterator[None]:
        """Silence the server: of all outages the one that is hardest to notice."""
        with self.server.paused():
            yield
