"""Quotas: what a project may have, and no byte more.

The limits come from a LimitSource: the configuration or Keystone. That they
hold is the registry's work: what is on its way is reserved in one
transaction with the look at what is there, and the record that counts it in
the end gives the reservation back in its own transaction.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from glancelike.errors import GlancelikeError, QuotaExceeded
from glancelike.model import Amounts
from glancelike.registry.base import Registry
from glancelike.transfer import Watcher

LOG = logging.getLogger(__name__)

MIB = 1 << 20
# The resources of Keystone's unified limits: field of Amounts, and its units in one of the resource's.
RESOURCES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "image_size_total": ("total", MIB),
        "image_stage_total": ("staged", MIB),
        "image_count_total": ("images", 1),
        "image_count_uploading": ("uploading", 1),
    }
)
# Data of unknown size reserves ahead as much as there has been so far, within these.
LEAST_AHEAD, MOST_AHEAD = 4 * MIB, 256 * MIB


class LimitSource(Protocol):
    """Says what each project may have, by fields of Amounts; below 0 or missing: no limit."""

    def limits(self, project: str, *, fresh: bool = False) -> Mapping[str, int]:
        """Return the project's limits; ``fresh`` asks anew what was remembered."""


@dataclass(frozen=True, slots=True)
class SameForAll:
    """The limits of the configuration, the same for every project."""

    amounts: Mapping[str, int]

    def limits(self, project: str, *, fresh: bool = False) -> Mapping[str, int]:
        return self.amounts


class Reservation:
    """What ``Quotas.admitted`` reserved for work under way; may grow.

    ``settles`` is to be given to the registry with the record that counts
    for it. It is None while nothing is reserved, since nothing limits it.
    """

    def __init__(self, quotas: Quotas, project: str | None, name: str) -> None:
        self._quotas = quotas
        self._project = project
        self._name = f"{name}:{uuid.uuid4().hex[:12]}"
        self._limits = quotas.limits(project)
        self.amounts = Amounts()
        self.settles: str | None = None

    def limited(self, amounts: Amounts) -> bool:
        """Tell whether any of the amounts has a limit."""
        return any(limit >= 0 and getattr(amounts, name) for name, limit in self._limits.items())

    def reserve(self, amounts: Amounts, *, insist: bool = True) -> None:
        """Reserve these amounts in all; raise QuotaExceeded and keep what was reserved.

        With ``insist`` the limits are asked for anew before giving up: they
        may have been raised since.
        """
        if self._project is None or not self.limited(amounts):
            return
        try:
            self._quotas.reserve(self._name, self._project, amounts, self._limits)
        except QuotaExceeded:
            newer = self._quotas.limits(self._project, fresh=True) if insist else self._limits
            if newer == self._limits:
                raise
            self._limits = newer
            self._quotas.reserve(self._name, self._project, amounts, newer)
        self.amounts, self.settles = amounts, self._name

    def confirm(self, amounts: Amounts) -> None:
        """Make sure of what was used in the end, right before it is recorded.

        Renews what has run out while the database was away. Raises QuotaExceeded.
        """
        if self.settles is not None:
            self.reserve(amounts)

    def watchers(self, kind: str, size: int | None) -> Sequence[Watcher]:
        """Return what has to see data of this size (None: unknown), counted as ``kind``."""
        if size is None and self.limited(Amounts(**{kind: 1})):
            return (QuotaWatcher(self, kind),)
        return ()


class QuotaWatcher:
    """Reserves room for data of unknown size as it comes, before it is stored."""

    def __init__(self, reservation: Reservation, kind: str) -> None:
        self._reservation = reservation
        self._kind = kind
        self._count = 0

    def feed(self, block: bytes, /) -> None:
        """Reserve room for the block; raise QuotaExceeded."""
        self._count += len(block)
        if self._count <= getattr(self._reservation.amounts, self._kind):
            return
        ahead = self._count + min(max(self._count, LEAST_AHEAD), MOST_AHEAD)
        try:
            self._reservation.reserve(self._of(ahead), insist=False)
        except QuotaExceeded:
            self._reservation.reserve(self._of(self._count))

    def finish(self, count: int, /) -> None:
        """Do nothing: all that came has been reserved."""

    def _of(self, size: int) -> Amounts:
        return Amounts(**{self._kind: size})


@dataclass(slots=True)
class Quotas:
    """The limits of all projects, and what this process has reserved of them.

    ``seconds`` is how long a reservation outlives the process that made it:
    less than its leases do, so that whoever takes the work over has room.
    """

    registry: Registry
    source: LimitSource | None
    seconds: float
    _held: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def limits(self, project: str | None, *, fresh: bool = False) -> Mapping[str, int]:
        """Return the project's limits; what belongs to nobody has none."""
        if self.source is None or project is None:
            return {}
        return self.source.limits(project, fresh=fresh)

    @contextmanager
    def admitted(self, project: str | None, amounts: Amounts, *, name: str) -> Iterator[Reservation]:
        """Reserve amounts for the work in the block; raise QuotaExceeded.

        The block has to settle the reservation with the record that it
        makes (``Reservation.settles``). One that raises gives it back, and
        of a process that died it runs out. ``name`` says what it is for.
        Costs nothing where there is no limit.
        """
        reservation = Reservation(self, project, name)
        reservation.reserve(amounts)
        try:
            yield reservation
        except BaseException:
            self._give_back(reservation.settles)
            raise
        finally:
            with self._lock:
                self._held.discard(reservation.settles or "")

    def check(self, project: str | None, amounts: Amounts, *, name: str) -> None:
        """Raise QuotaExceeded if the project couldn't have that much more now."""
        with self.admitted(project, amounts, name=name) as reservation:
            self._give_back(reservation.settles)

    def reserve(self, name: str, project: str, amounts: Amounts, limits: Mapping[str, int]) -> None:
        """Reserve under limits, and keep it."""
        self.registry.reserve(name, project, amounts, limits, self.seconds)
        with self._lock:
            self._held.add(name)

    def hold(self, name: str, project: str | None, amounts: Amounts, seconds: float) -> str | None:
        """Reserve amounts for ``seconds``, whatever becomes of this process; raise QuotaExceeded.

        Again under the same name it reserves these amounts in all. Returns
        what the record that counts for them has to settle, None where
        nothing is limited.
        """
        limits = self.limits(project)
        wanted = [field for field, limit in limits.items() if limit >= 0 and getattr(amounts, field)]
        if project is None or not wanted:
            return None
        try:
            self.registry.reserve(name, project, amounts, limits, seconds)
        except QuotaExceeded:
            newer = self.limits(project, fresh=True)
            if newer == limits:
                raise
            self.registry.reserve(name, project, amounts, newer, seconds)
        return name

    def let_go(self, name: str) -> None:
        """Give back what ``hold`` reserved, if anything."""
        self._give_back(name)

    def keep(self) -> None:
        """Extend what this process has reserved; called often enough by who renews leases."""
        with self._lock:
            held = sorted(self._held)
        if held:
            self.registry.extend_reservations(held, self.seconds)

    def usage(self, project: str | None) -> dict[str, dict[str, int]]:
        """Return usage and limit of each resource, in its own units (MiB for sizes).

        Empty where there are no limits at all.
        """
        limits = self.limits(project)
        if project is None or not limits:
            return {}
        used = self.registry.usage(project)
        return {
            resource: {
                "usage": getattr(used, kind) // unit,
                "limit": limits[kind] // unit if limits.get(kind, -1) >= 0 else -1,
            }
            for resource, (kind, unit) in RESOURCES.items()
        }

    def _give_back(self, name: str | None) -> None:
        if name is None:
            return
        try:
            self.registry.release_reservation(name)
        except GlancelikeError as error:
            LOG.warning("reservation %s stays until it runs out: %s", name, error)
