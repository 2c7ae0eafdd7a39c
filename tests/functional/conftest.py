"""Servers that several modules of functional tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.keystone_fixtures import Keystone


@pytest.fixture(scope="session")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """Run one Keystone for all tests of this process."""
    running = Keystone(tmp_path_factory.mktemp("keystone"))
    yield running
    running.stop()
