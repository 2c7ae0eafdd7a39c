"""The SQL registry on MariaDB keeps the registry contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.database_servers import DatabaseServer
from tests.sql_conformance import ServerConformance


class TestMariaRegistry(ServerConformance):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _server(cls, maria_server: DatabaseServer) -> Iterator[None]:
        yield from cls.prepare(maria_server)
