"""The store in memory against the store contract."""

from __future__ import annotations

import pytest

from glancelike.errors import ConfigError
from glancelike.stores.memory import MemoryStore
from glancelike.testing import StoreConformance


class TestMemoryStore(StoreConformance):
    def backend(self) -> str:
        return "the process itself"

    def make_store(self) -> MemoryStore:
        return MemoryStore({})

    def make_peer(self) -> MemoryStore:
        return MemoryStore({})


def test_uri() -> None:
    assert MemoryStore.settings_from_uri("memory://") == {}
    with pytest.raises(ConfigError, match="memory://"):
        MemoryStore.settings_from_uri("memory://somewhere")
