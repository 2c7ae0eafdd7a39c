"""Conformance kits for authors of novalite's plugins, and a cloud to test with.

Nothing here is imported before it is asked for; the kits need pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from novalite.testing.cloud import Cloud
    from novalite.testing.scheduler import DriverConformance, HookConformance
    from novalite.testing.virt import VirtConformance

__all__ = ["Cloud", "DriverConformance", "HookConformance", "VirtConformance"]

_HOME = {
    "Cloud": "novalite.testing.cloud",
    "DriverConformance": "novalite.testing.scheduler",
    "HookConformance": "novalite.testing.scheduler",
    "VirtConformance": "novalite.testing.virt",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
