"""Quotas in memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from glancelike.errors import QuotaExceeded
from glancelike.model import Amounts, Status
from glancelike.registry import values
from glancelike.registry.memory.state import Reservation, State
from glancelike.registry.parts import QuotaRecords


class QuotaMemory(QuotaRecords, State):
    """Count what projects use, and keep reservations."""

    def usage(self, project: str) -> Amounts:
        with self._lock:
            own = [
                image
                for image in self._images.values()
                if image.owner == project and image.status is not Status.PENDING_DELETE
            ]
        return Amounts(
            total=sum((image.size or 0) * len(image.locations) for image in own),
            staged=sum(image.size or 0 for image in own if image.staged is not None),
            images=len(own),
            uploading=sum(image.status in values.UPLOADING for image in own),
        )

    def reserve(
        self, name: str, project: str, amounts: Amounts, limits: Mapping[str, int], seconds: float
    ) -> None:
        checked = values.checked_limits(name, project, amounts, limits, seconds)
        with self._lock:
            used = self.usage(project)
            now = time.monotonic()
            for field, limit in checked.items():
                held = sum(
                    getattr(other.amounts, field)
                    for key, other in self._reservations.items()
                    if other.project == project and key != name and other.until > now
                )
                wanted = getattr(amounts, field)
                if getattr(used, field) + held + wanted > limit:
                    raise QuotaExceeded(
                        values.over_limit(project, field, limit, getattr(used, field) + held, wanted)
                    )
            self._reservations[name] = Reservation(project, amounts, now + seconds)

    def extend_reservations(self, names: Iterable[str], seconds: float) -> None:
        now = time.monotonic()
        with self._lock:
            for name in names:
                found = self._reservations.get(name)
                if found is not None and found.until > now:
                    self._reservations[name] = found._replace(until=now + seconds)

    def release_reservation(self, name: str) -> None:
        with self._lock:
            self._reservations.pop(name, None)
