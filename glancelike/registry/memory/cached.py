"""Which node caches what, in memory."""

from __future__ import annotations

from collections.abc import Iterable

from glancelike.model import CachedImage
from glancelike.registry import values
from glancelike.registry.memory.state import State
from glancelike.registry.parts import CacheRecords


class CachedMemory(CacheRecords, State):
    """Keep what nodes say of their caches."""

    def put_cached(self, cached: CachedImage) -> None:
        cached = values.checked_cached(cached)
        with self._lock:
            self._cached[cached.image_id, cached.node] = cached

    def delete_cached(self, node: str, image_ids: Iterable[str]) -> None:
        with self._lock:
            for image_id in image_ids:
                self._cached.pop((image_id, node), None)

    def cached_nodes(self, image_id: str) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted(node for found, node in self._cached if found == image_id))
