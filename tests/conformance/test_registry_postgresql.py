"""The SQL registry on PostgreSQL keeps the registry contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.database_servers import DatabaseServer
from tests.sql_conformance import ServerConformance


class TestPostgresRegistry(ServerConformance):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _server(cls, postgres_server: DatabaseServer) -> Iterator[None]:
        yield from cls.prepare(postgres_server)
