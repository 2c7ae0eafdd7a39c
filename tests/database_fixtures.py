"""One PostgreSQL, one MariaDB and one RabbitMQ for all tests of this process that want them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.database_servers import SERVERS, DatabaseServer, MariaServer, PostgresServer
from tests.rabbit_server import RabbitServer


def _running(kind: type[DatabaseServer], factory: pytest.TempPathFactory) -> Iterator[DatabaseServer]:
    if reason := kind.missing():
        pytest.skip(reason)
    server = kind(factory.mktemp(kind.name))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseServer]:
    """Run a PostgreSQL; who kills or pauses it leaves it running."""
    yield from _running(PostgresServer, tmp_path_factory)


@pytest.fixture(scope="session")
def maria_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseServer]:
    """Run a MariaDB; who kills or pauses it leaves it running."""
    yield from _running(MariaServer, tmp_path_factory)


@pytest.fixture(scope="session", params=SERVERS, ids=lambda kind: kind.name)
def database_server(request: pytest.FixtureRequest) -> DatabaseServer:
    """Return each of the two in turn."""
    fixture = {PostgresServer: "postgres_server", MariaServer: "maria_server"}[request.param]
    server: DatabaseServer = request.getfixturevalue(fixture)
    return server


@pytest.fixture(scope="session")
def rabbit_server() -> Iterator[RabbitServer]:
    """Run a RabbitMQ; who kills or pauses it leaves it running."""
    if reason := RabbitServer.missing():
        pytest.skip(reason)
    directory = Path(tempfile.mkdtemp(prefix="nl-", dir="/tmp"))  # short enough for a socket's path
    try:
        server = RabbitServer(directory)
        yield server
        server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
