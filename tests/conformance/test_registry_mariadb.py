"""The SQL registry on MariaDB keeps the registry contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.database_servers import DatabaseServer
from tests.sql_conformance import ServerConformance


class TestMariaRegistry(ServerConformance):
    # Else PyMySQL reads the system's certificates for each connection, which takes a tenth of a second.
    query = "?ssl_disabled=true"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _server(cls, maria_server: DatabaseServer) -> Iterator[None]:
        yield from cls.prepare(maria_server)
