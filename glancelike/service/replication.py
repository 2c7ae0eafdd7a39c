"""Keep each active image in as many stores as the policy says.

``replicas`` counts the stores of ``replica_stores`` (all writable ones by
default) that have the image. An image that becomes active is copied by a
task of its own; what that couldn't do, a round over all images does later,
every ``replication_interval`` seconds, and so it brings back a copy that an
administrator took away, but not within moments. Copies count for the
owner's quota as any copy does: without room for them there are fewer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from glancelike.errors import (
    ConfigError,
    Conflict,
    DataMismatch,
    GlancelikeError,
    ImageNotFound,
    QuotaExceeded,
    StoreError,
)
from glancelike.model import Amounts, Image, Status, TaskType
from glancelike.registry.base import ADMIN
from glancelike.service.context import Context
from glancelike.service.copying import copied, only_here
from glancelike.service.rounds import NOBODY, Round, begin_if_due, images_after, only_round
from glancelike.service.staging import IMPORT_TASK
from glancelike.service.tasks import Job, Progress, submit
from glancelike.transfer import Watcher

LOG = logging.getLogger(__name__)


def check(context: Context) -> None:
    """Raise ConfigError for a policy that the mounted stores can't fulfil."""
    settings = context.settings
    if settings.replicas == 1:
        return
    writable = [mount.id for mount in context.mounts if not mount.read_only]
    for store in settings.replica_stores:
        if store not in writable:
            raise ConfigError(f"replica_stores: no store {store!r} is mounted for writing")
    if settings.replicas > len(_eligible(context)):
        raise ConfigError(
            f"replicas is {settings.replicas}, but there are only {len(_eligible(context))} stores for them"
        )


def _eligible(context: Context) -> tuple[str, ...]:
    writable = (mount.id for mount in context.mounts if not mount.read_only)
    return tuple(dict.fromkeys(context.settings.replica_stores)) or tuple(writable)


def missing(context: Context, image: Image) -> int:
    """Tell how many copies an image lacks."""
    if context.settings.replicas == 1 or image.status is not Status.ACTIVE or not image.locations:
        return 0
    if IMPORT_TASK in image.properties:
        return 0  # copies are on their way
    have = {location.store for location in image.locations} & set(_eligible(context))
    return max(0, context.settings.replicas - len(have))


def wanted(context: Context, image: Image) -> None:
    """Have an image that became active copied; what fails here the next round does."""
    if not missing(context, image):
        return
    given = {"image_id": image.id, "replicas": context.settings.replicas}
    try:
        submit(context, NOBODY, TaskType.REPLICATE, image_id=image.id, given=given)
    except GlancelikeError as error:
        LOG.warning("image %s is copied later: %s", image.id, error)


def look_after(context: Context) -> None:
    """Begin a round over all images when it is due."""
    if context.settings.replicas > 1:
        begin_if_due(context, TaskType.REPLICATE, context.settings.replication_interval)


# In the task


def run(job: Job) -> Mapping[str, Any]:
    """Copy one image, or in a round all that lack copies."""
    if job.task.image_id is None:
        return _round(job)
    try:
        image = job.context.registry.get(job.task.image_id, ADMIN)
        made = replicate(job.context, image, (Progress(job, "copying", image.size),))
    except (ImageNotFound, Conflict) as error:
        # Gone, or somebody else's work: nothing is left to do here.
        return {"image_id": job.task.image_id, "copies": 0, "reason": str(error)}
    return {"image_id": image.id, "copies": made}


def _round(job: Job) -> Mapping[str, Any]:
    with only_round(job) as mine:
        if not mine:
            return {"reason": "another round is under way"}
        context = job.context
        progress = Round(job, {"copies": 0, "failed": 0})
        for image in images_after(context, progress.marker, frozenset({Status.ACTIVE})):
            if missing(context, image):
                job.confirm()
                try:
                    progress.counts["copies"] += replicate(context, image, (progress.watcher(),))
                except (ImageNotFound, Conflict):
                    pass  # gone, or somebody else's work
                except GlancelikeError as error:
                    progress.counts["failed"] += 1
                    LOG.warning("replication: %s", error)
            progress.done(image)
        return progress.result()


def replicate(context: Context, image: Image, watchers: Sequence[Watcher] = ()) -> int:
    """Make the copies that an image lacks; return how many were made.

    A store that fails is passed over for the next one of the order of
    preference. Raises StoreError, QuotaExceeded or DataMismatch when there
    are too few in the end, Conflict when another process is at it.
    """
    made = 0
    with only_here(context, image.id):
        image = context.registry.get(image.id, ADMIN)
        error: GlancelikeError | None = None
        for store in _eligible(context):
            if not missing(context, image):
                break
            if any(location.store == store for location in image.locations):
                continue
            try:
                image = _copy(context, image, store, watchers)
                made += 1
            except (StoreError, QuotaExceeded, DataMismatch) as caught:
                LOG.warning("image %s isn't copied to store %s: %s", image.id, store, caught)
                error = caught
        if missing(context, image) and error is not None:
            raise error
    return made


def _copy(context: Context, image: Image, store: str, watchers: Sequence[Watcher]) -> Image:
    mount = context.mounts.target(store)
    size = Amounts(total=image.size or 0)
    sources = context.mounts.ordered(image.locations)
    with (
        context.quotas.admitted(image.owner, size, name=f"replicate:{image.id}") as room,
        copied(context, image, mount, sources, watchers=watchers) as stored,
    ):

        def change(fresh: Image) -> Image:
            if fresh.status is not Status.ACTIVE:
                raise Conflict(f"Image {image.id} is {fresh.status} by now")
            if any(location.store == store for location in fresh.locations):
                raise Conflict(f"Image {image.id} has come to store {store} by other means")
            room.confirm(size)
            return replace(fresh, locations=(*fresh.locations, stored.location))

        return context.amend(image.id, change, settles=room.settles)
