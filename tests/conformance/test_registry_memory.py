"""The memory registry keeps the registry contract."""

from __future__ import annotations

from glancelike.registry.memory import MemoryRegistry
from glancelike.testing import RegistryConformance


class TestMemoryRegistry(RegistryConformance):
    def make_registry(self) -> MemoryRegistry:
        return MemoryRegistry()
