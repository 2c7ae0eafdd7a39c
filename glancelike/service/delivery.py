"""Bring an import's data to its stores: what was staged in one pass, a copy store by store.

The image's record is the note of what is done: ``os_glance_importing_to_stores``
names the stores to come, ``os_glance_failed_import`` those that failed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace

from glancelike import lifecycle
from glancelike.errors import GlancelikeError, StoreError
from glancelike.model import Amounts, Image, Status
from glancelike.notifications import image_payload, transfer_payload
from glancelike.service.context import Context
from glancelike.service.copying import copied
from glancelike.service.ingest import (
    ChunkSource,
    Spread,
    check_same,
    inspection_of,
    spread,
    told_by,
    writable,
)
from glancelike.service.staging import amend, current
from glancelike.service.tasks import Job, Progress

LOG = logging.getLogger(__name__)

IMPORTING_TO = "os_glance_importing_to_stores"
FAILED = "os_glance_failed_import"


class _ThereAlready(Exception):
    """The image has come to the store by other means, a replica say."""


def deliver(
    job: Job,
    targets: Iterable[str],
    open_source: Callable[[Context, Image], ChunkSource] | None,
    *,
    must_succeed: bool,
) -> None:
    """Write the data to each target that hasn't got it yet; None copies it from where it is."""
    image = current(job)
    present = {location.store for location in image.locations}
    left = tuple(store for store in targets if store not in present)
    if open_source is None:
        for store in left:
            _copy(job, store, must_succeed=must_succeed)
    elif left:
        with closing(open_source(job.context, image)) as source:
            _write(job, image, left, source, must_succeed=must_succeed)
    if not current(job).locations:
        raise GlancelikeError("Import failed in all stores")


def _copy(job: Job, store: str, *, must_succeed: bool) -> None:
    """Copy an active image to a store, unless it has come there by other means."""
    context, image = job.context, current(job)
    if any(location.store == store for location in image.locations):
        return
    size = Amounts(total=image.size or 0)
    sources = context.mounts.ordered(image.locations)
    context.notify("image.prepare", transfer_payload(image, store))
    try:
        with (
            context.quotas.admitted(image.owner, size, name=f"import:{image.id}:{job.task.id}") as room,
            copied(
                context,
                image,
                writable(context, store),
                sources,
                watchers=(Progress(job, f"to store {store}", image.size),),
            ) as stored,
        ):

            def named(fresh: Image) -> Image:
                if any(location.store == store for location in fresh.locations):
                    raise _ThereAlready
                room.confirm(Amounts(total=stored.outcome.size))
                return marked(replace(fresh, locations=(*fresh.locations, stored.location)), store)

            written = amend(job, named, settles=room.settles)
    except _ThereAlready:
        amend(job, lambda fresh: marked(fresh, store))
        return
    except StoreError as error:
        if must_succeed:
            raise
        LOG.warning("import of image %s to store %s: %s", image.id, store, error)
        amend(job, lambda fresh: marked(fresh, store, failed=True))
        return
    context.notify("image.upload", transfer_payload(written))


def _write(job: Job, image: Image, stores: Sequence[str], source: ChunkSource, *, must_succeed: bool) -> None:
    """Write staged data to all the stores in one pass, and name what arrived in the record."""
    context = job.context
    for store in stores:
        context.notify("image.prepare", transfer_payload(image, store))
    room_for = Amounts(total=(image.size or 0) * len(stores))
    with (
        context.quotas.admitted(image.owner, room_for, name=f"import:{image.id}:{job.task.id}") as room,
        spread(
            context,
            image,
            [writable(context, store) for store in stores],
            source,
            size=image.size,
            algorithms=_algorithms(context, image),
            inspection=inspection_of(context, image),
            watchers=(
                *context.watchers_of(image, job.caller),
                Progress(job, f"to store {', '.join(stores)}", image.size),
            ),
        ) as arrived,
    ):
        for store, error in arrived.failed.items():
            if must_succeed:
                # What is kept nowhere hasn't failed everywhere: the record says who did.
                amend(job, lambda fresh: _told(fresh, arrived))
                raise error
            LOG.warning("import of image %s to store %s: %s", image.id, store, error)
        if arrived.locations:
            check_same(image, arrived.outcome)

        def named(fresh: Image) -> Image:
            room.confirm(Amounts(total=arrived.outcome.size * len(arrived.locations)))
            done = _with_data(context, fresh, arrived)
            if must_succeed or fresh.status is not Status.IMPORTING or not done.locations:
                return done
            return lifecycle.move(done, Status.ACTIVE)

        written = amend(job, named, settles=room.settles)
    for location in arrived.locations:
        context.notify("image.upload", transfer_payload(written, location.store))
    if image.status is Status.IMPORTING and written.status is Status.ACTIVE:
        context.notify("image.activate", image_payload(written))


def _algorithms(context: Context, image: Image) -> tuple[str, ...]:
    if image.locations and image.hash_algo is not None:
        return (image.hash_algo,)  # to compare with what is there
    return context.settings.algorithms


def _with_data(context: Context, image: Image, arrived: Spread) -> Image:
    """Return the image with what has arrived, and the stores off the list of those to come."""
    first = not image.locations
    done = _told(replace(image, locations=(*image.locations, *arrived.locations)), arrived)
    if not first or not arrived.locations:
        return done
    return replace(done, **told_by(context, arrived.outcome))


def _told(image: Image, arrived: Spread) -> Image:
    for location in arrived.locations:
        image = marked(image, location.store)
    for store in arrived.failed:
        image = marked(image, store, failed=True)
    return image


def marked(image: Image, store: str, *, failed: bool = False) -> Image:
    """Take the store off the list of those to come."""
    properties = dict(image.properties)
    properties[IMPORTING_TO] = _without(properties.get(IMPORTING_TO, ""), store)
    if failed:
        properties[FAILED] = ",".join(sorted({*names(properties.get(FAILED, "")), store}))
    return replace(image, properties=properties)


def names(joined: str) -> list[str]:
    return [name for name in joined.split(",") if name]


def _without(joined: str, store: str) -> str:
    return ",".join(name for name in names(joined) if name != store)
