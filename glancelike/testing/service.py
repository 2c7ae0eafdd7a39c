"""A whole ImageService in memory, for tests of programs that use one."""

from __future__ import annotations

from typing import Any

from glancelike.embedded import open_service
from glancelike.service import ImageService


def memory_service(**settings: Any) -> ImageService:
    """Return an opened service that keeps all in memory, with one store ``memory``."""
    return open_service("memory://", stores={"memory": "memory://"}, **settings)
