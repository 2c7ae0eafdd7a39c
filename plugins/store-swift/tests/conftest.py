"""What the tests of the Swift store share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from glancelike_store_swift import publishing
from swift_servers import SmallSwift

# What owners' accounts change; the rest of the kit would only repeat what one account shows.
CHOSEN = (
    *("test_aborted", "test_complete", "test_copy", "test_delete", "test_failed", "test_keys_by_owner"),
    *("test_killed_write[", "test_list", "test_parts_in_any", "test_presign", "test_race", "test_secrets"),
    *("test_sweep", "test_usage"),
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run all of the kit on owners' accounts only where its report is wanted, as by ``make matrix``."""
    if config.getoption("--kit-report", default=None) is None:
        items[:] = [item for item in items if "ByOwner::" not in item.nodeid or item.name.startswith(CHOSEN)]


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallSwift]:
    """Run one Swift for all tests that don't break it."""
    server = SmallSwift(tmp_path_factory.mktemp("swift"))
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a dead writer no longer than a request to a server of the tests can take."""
    monkeypatch.setattr(publishing, "CLAIM_SECONDS", 15.0)
