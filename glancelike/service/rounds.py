"""Rounds over all images, made now and then by one process of all."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from glancelike.errors import InvalidMarker
from glancelike.model import Caller, Filter, Image, Op, Query, SortKey, Status, TaskType
from glancelike.registry.base import ADMIN
from glancelike.service.context import Context
from glancelike.service.tasks import Job, submit

PAGE = 500
SAVE_SECONDS = 5.0
# Whose tasks those of the service itself are: shown to administrators only.
NOBODY = Caller()


def begin_if_due(context: Context, kind: TaskType, seconds: float) -> None:
    """Put a round into the queue unless one was begun less than ``seconds`` ago.

    A lease that nobody gives back tells when the next is due, to all
    processes alike.
    """
    name, holder = f"next:{kind}", uuid.uuid4().hex
    if context.registry.acquire_lease(name, holder, seconds):
        try:
            submit(context, NOBODY, kind, image_id=None, given={})
        except BaseException:
            context.registry.release_lease(name, holder)
            raise


@contextmanager
def only_round(job: Job) -> Iterator[bool]:
    """Tell whether no other round of this kind is under way, and keep others away."""
    lease = f"round:{job.task.type}"
    holder = job.context.leases.acquire(lease)
    try:
        yield holder is not None
    finally:
        if holder is not None:
            job.context.leases.release(lease, holder)


def marker_of(image: Image) -> str:
    """Say how far a round is that has done this image."""
    return f"{image.created_at.isoformat()} {image.id}"


def images_after(context: Context, marker: str, statuses: frozenset[Status]) -> Iterator[Image]:
    """Iterate over images in the order they were made, from behind ``marker`` on, a page at a time."""
    since, _, last = marker.partition(" ")
    # The image that the marker names may be gone by now: its time is still a place to go on from.
    done = (datetime.fromisoformat(since), last) if since else None
    paged: str | None = None
    while True:
        times = () if done is None else (Filter("created_at", Op.GTE, done[0]),)
        query = Query(
            filters=(Filter("status", Op.IN, tuple(sorted(statuses))), *times),
            visibility="all",
            member_status="all",
            hidden=None,
            sort=(SortKey("created_at", descending=False),),
            limit=PAGE,
            marker=paged,
        )
        try:
            page = context.registry.list(query, ADMIN)
        except InvalidMarker:
            if paged is None:
                raise
            paged = None  # deleted since the last page
            continue
        for image in page.images:
            if done is None or (image.created_at, image.id) > done:
                done = (image.created_at, image.id)
                yield image
        if page.next_marker is None:
            return
        paged = page.next_marker


class Round:
    """How far a round is, kept in its task for whoever goes on after a kill -9."""

    def __init__(self, job: Job, counts: Mapping[str, int]) -> None:
        self._job = job
        self.marker = self._saved = str(job.notes.get("marker", ""))
        self.counts: dict[str, int] = {**counts, **job.notes.get("counts", {})}
        self._next = time.monotonic() + SAVE_SECONDS

    def done(self, image: Image) -> None:
        """Note that an image is done; raise LeaseLost."""
        self.marker = marker_of(image)
        self.alive()

    def alive(self) -> None:
        """Save now and then; raise LeaseLost when another process has the task."""
        if time.monotonic() >= self._next:
            # A round takes longer than servers run between two restarts: who gets ahead isn't stuck.
            notes = {"marker": self.marker, "counts": self.counts}
            self._job.save(notes, ahead=self.marker != self._saved)
            self._saved = self.marker
            self._next = time.monotonic() + SAVE_SECONDS

    def watcher(self) -> Alive:
        """Return a Watcher that calls ``alive`` while data passes."""
        return Alive(self.alive)

    def result(self) -> dict[str, Any]:
        """Return what the task tells in the end."""
        return dict(self.counts)


class Alive:
    """A Watcher that calls something at each block."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def feed(self, _block: bytes, /) -> None:
        self._call()

    def finish(self, _count: int, /) -> None:
        """Nothing is left to do."""
