"""Find bit rot: read each copy of an image, compare its digest, repair it from a good one.

A copy is bad when it was read twice and isn't what the record says, or can't
be read to its end though its store answers. A store that is away says
nothing of its copies. A repair writes a new blob under a new key, whose
digest is checked on its way, puts it in the place of the bad one by
compare-and-set, and only then deletes that. Of an image that has no good
copy nothing is ever deleted.
"""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from glancelike.errors import (
    BlobNotFound,
    Conflict,
    DataMismatch,
    ImageNotFound,
    InvalidRange,
    InvalidTransition,
    StoreError,
    StoreFault,
)
from glancelike.model import Image, Location, TaskType
from glancelike.registry.base import ADMIN
from glancelike.service.context import Context
from glancelike.service.copying import COPIED, check_data, copied, only_here, replaced
from glancelike.service.ingest import discard
from glancelike.service.rounds import Round, begin_if_due, images_after, only_round
from glancelike.service.tasks import Job
from glancelike.transfer import Watcher

LOG = logging.getLogger(__name__)

MIB = 1 << 20
HOUR = 3600.0


class Verdict(enum.StrEnum):
    """What is known of a copy."""

    GOOD = "good"
    BAD = "bad"  # other bytes than the record says, or unreadable
    MISSING = "missing"
    AWAY = "away"  # its store doesn't answer: nobody knows


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one copy. ``lost``: no good one is left anywhere."""

    image_id: str
    location: Location
    verdict: Verdict
    reason: str = ""
    repaired: bool = False
    lost: bool = False

    @property
    def fine(self) -> bool:
        """Tell whether the copy is good, by now at least."""
        return self.verdict is Verdict.GOOD or self.repaired


class Pace:
    """A Watcher that lets ``rate`` bytes a second pass; 0 is no limit."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = time.monotonic()

    def feed(self, block: bytes, /) -> None:
        """Wait until the block may pass."""
        if self._rate:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + len(block) / self._rate
            time.sleep(self._free_at - now)

    def finish(self, _count: int, /) -> None:
        """Nothing is left to wait for."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """Verifies images one by one; ``store`` None means the copies in all stores."""

    context: Context
    repair: bool
    watchers: tuple[Watcher, ...]
    store: str | None = None

    def image(self, image: Image) -> tuple[Finding, ...]:
        """Verify, and repair if told to, the copies of one image; nothing where it's gone."""
        looked = [
            self._look(image, location)
            for location in image.locations
            if self.store is None or location.store == self.store
        ]
        if all(found.verdict is Verdict.GOOD for found in looked):
            return tuple(looked)
        try:
            fresh = self.context.registry.get(image.id, ADMIN)
        except ImageNotFound:
            return ()
        # What was taken away meanwhile isn't missed.
        looked = [found for found in looked if found.location in fresh.locations]
        wrong = [found for found in looked if found.verdict in (Verdict.BAD, Verdict.MISSING)]
        sources = self._sources(fresh, looked)
        if self.repair and sources:
            looked = [self._repaired(fresh, found, sources) if found in wrong else found for found in looked]
        elif wrong and not sources and len(wrong) == len(fresh.locations):
            looked = [replace(found, lost=True) for found in looked]
        for found in looked:
            tell(self.context, found)
        return tuple(looked)

    def _look(self, image: Image, location: Location) -> Finding:
        """Read a copy; what is bad is read once more before it is called so."""
        verdict, reason = self._read(image, location)
        if verdict is Verdict.BAD:
            verdict, reason = self._read(image, location)
        return Finding(image.id, location, verdict, reason)

    def _read(self, image: Image, location: Location) -> tuple[Verdict, str]:
        try:
            check_data(self.context, image, location, self.watchers)
        except BlobNotFound:
            return Verdict.MISSING, "its store has no such blob"
        except (DataMismatch, StoreFault, InvalidRange) as error:
            return Verdict.BAD, str(error)
        except StoreError as error:
            return Verdict.AWAY, str(error)
        return Verdict.GOOD, ""

    def _sources(self, image: Image, looked: Sequence[Finding]) -> tuple[Location, ...]:
        """Return what a repair may read: copies found good, then those nobody looked at."""
        good = [found.location for found in looked if found.verdict is Verdict.GOOD]
        seen = [found.location for found in looked]
        return (*good, *(each for each in image.locations if each not in seen))

    def _repaired(self, image: Image, found: Finding, sources: Sequence[Location]) -> Finding:
        context, old = self.context, found.location
        try:
            mount = context.mounts.target(old.store)
            with (
                only_here(context, image.id),
                copied(context, image, mount, sources, watchers=self.watchers, read_back=True) as stored,
            ):
                context.amend(image.id, lambda fresh: replaced(fresh, old, stored.location))
        except (StoreError, DataMismatch, Conflict, ImageNotFound, InvalidTransition) as error:
            return replace(found, reason=f"{found.reason}; not repaired: {error}")
        if found.verdict is Verdict.BAD:
            discard(context, old)
        return replace(found, repaired=True)


def tell(context: Context, found: Finding) -> None:
    """Log and notify what isn't good."""
    if found.verdict is Verdict.GOOD:
        return
    said = "repaired" if found.repaired else "no good copy is left" if found.lost else "not repaired"
    level = logging.WARNING if found.repaired or found.verdict is Verdict.AWAY else logging.ERROR
    LOG.log(
        level,
        "image %s: its copy in store %s is %s (%s): %s",
        found.image_id,
        found.location.store,
        found.verdict,
        said,
        found.reason,
    )
    if found.verdict is not Verdict.AWAY:
        payload = {
            "id": found.image_id,
            "store": found.location.store,
            "verdict": str(found.verdict),
            "repaired": found.repaired,
            "lost": found.lost,
        }
        context.notify("image.verify", payload, error=not found.repaired)


def verify(
    context: Context, *, image_id: str | None, store: str | None, repair: bool, rate: float
) -> Iterator[Finding]:
    """Verify one image or all; see ImageService.verify."""
    if store is not None:
        context.mounts.listed(store)
    verifier = Verifier(context, repair, (Pace(rate),), store)
    if image_id is not None:
        yield from verifier.image(context.registry.get(image_id, ADMIN))
        return
    for image in images_after(context, "", COPIED):
        yield from verifier.image(image)


def look_after(context: Context) -> None:
    """Begin a round over all images when it is due."""
    if context.settings.verify_interval:
        begin_if_due(context, TaskType.VERIFY, context.settings.verify_interval * HOUR)


def run(job: Job) -> Mapping[str, Any]:
    """Verify all images; the handler of tasks."""
    settings = job.context.settings
    with only_round(job) as mine:
        if not mine:
            return {"reason": "another round is under way"}
        progress = Round(job, {**{str(verdict): 0 for verdict in Verdict}, "repaired": 0, "lost": 0})
        watchers = (Pace(settings.verify_rate * MIB), progress.watcher())
        verifier = Verifier(job.context, settings.verify_repair, watchers)
        for image in images_after(job.context, progress.marker, COPIED):
            job.confirm()
            for found in verifier.image(image):
                progress.counts[str(found.verdict)] += 1
                progress.counts["repaired"] += found.repaired
                progress.counts["lost"] += found.lost
            progress.done(image)
        return progress.result()
