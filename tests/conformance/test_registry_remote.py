"""The remote registry keeps the registry contract: a real server, SQLite under it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest

from glancelike import plugins
from glancelike.registry.base import Registry
from glancelike.testing import RegistryConformance
from tests.processes import frozen
from tests.registry_servers import database, empty, start_registry, write_registry_config
from tests.server_fixtures import Server


class TestRemoteRegistry(RegistryConformance):
    processes = True
    server: ClassVar[Server]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        cls.server = start_registry(write_registry_config(tmp_path_factory.mktemp("registry"), workers=2))
        yield
        assert cls.server.stop() == 0

    def make_registry(self) -> Registry:
        empty(database(self.server.config_file.parent))
        return self.remote(seconds=14.0)

    def remote(self, seconds: float) -> Registry:
        remote = plugins.load("glancelike.registries", "remote", Registry)
        return remote({"registry_endpoints": [self.server.url], "registry_client_timeout": seconds})

    def test_outage(self, registry: Registry) -> None:
        hasty = self.remote(seconds=3.0)
        hasty.open()
        super().test_outage(hasty)
        hasty.close()

    @contextmanager
    def outage(self, registry: Registry) -> Iterator[None]:
        """Freeze the server: what is asked meanwhile mustn't be done when it thaws."""
        with frozen(self.server.process.pid):
            yield
