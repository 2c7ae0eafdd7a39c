"""What keeps the memory registry small."""

from __future__ import annotations

import time
from datetime import datetime

from glancelike.registry import values
from glancelike.registry.memory.state import State
from glancelike.registry.memory.tasks import delete_expired
from glancelike.registry.parts import Purged, Upkeep


class UpkeepMemory(Upkeep, State):
    """Drop what has run out."""

    def purge(self, before: datetime, *, limit: int = 1000) -> Purged:
        before = values.in_utc("before", before)
        with self._lock:
            now = time.monotonic()
            images = [key for key, at in self._tombstones.items() if at < before][:limit]
            leases = [key for key, (_, until) in self._leases.items() if until <= now][:limit]
            held = [key for key, found in self._reservations.items() if found.until <= now][:limit]
            for image_id in images:
                del self._tombstones[image_id]
            for name in leases:
                del self._leases[name]
            for name in held:
                del self._reservations[name]
            tasks = delete_expired(self._tasks, limit)
        return Purged(len(images), tasks, len(leases), len(held))
