"""Conformance kits for plugin authors, and a whole service in memory for tests.

Nothing here is imported before it is asked for; the kits need pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glancelike.testing.registry import RegistryConformance
    from glancelike.testing.service import memory_service
    from glancelike.testing.stores import StoreConformance

__all__ = ["RegistryConformance", "StoreConformance", "memory_service"]

_HOME = {
    "RegistryConformance": "glancelike.testing.registry",
    "StoreConformance": "glancelike.testing.stores",
    "memory_service": "glancelike.testing.service",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
