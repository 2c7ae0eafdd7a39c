"""What the tests of the Swift store share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from swift_servers import SmallSwift


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallSwift]:
    """Run one Swift for all tests that don't break it."""
    server = SmallSwift(tmp_path_factory.mktemp("swift"))
    yield server
    server.stop()
