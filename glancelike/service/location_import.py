"""Make what lies at a URL the data of a queued image, and compute its digest.

https://docs.openstack.org/api-ref/image/v2/#add-location. Meant for other
services, which put data where a store can read it. With a digest to compare
with, the image is ``importing`` until the data turned out to have it: the
record names the location as staged, so that it can't be served. Else the
image is active at once, and its digest is computed beside that.

What is done can be read off the record, so that any process can go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from glancelike import lifecycle
from glancelike.errors import (
    Conflict,
    DataMismatch,
    Forbidden,
    GlancelikeError,
    ImageNotFound,
    InvalidInput,
    InvalidTransition,
    UnsafeImage,
)
from glancelike.model import Amounts, Caller, Image, Location, Status, Task, TaskType
from glancelike.registry.base import ADMIN
from glancelike.service import locations, replication
from glancelike.service.adoption import read_through
from glancelike.service.context import Context
from glancelike.service.ingest import deletable, discard
from glancelike.service.staging import IMPORT_TASK, amend, current
from glancelike.service.tasks import Job, submit
from glancelike.transfer import Inspection, Outcome

LOG = logging.getLogger(__name__)

SERVICE = "service"
ALGORITHMS = ("sha1", "sha256", "sha512", "md5")
HTTP = ("http", "https")


# In the request


def add(context: Context, caller: Caller, image_id: str, url: str, validation: Mapping[str, str]) -> Task:
    """Take the image and put the work into the queue; see ImageService.add_location."""
    image = _seen(context, caller, image_id)
    context.policy.check(caller, "add_image_location", image)
    _check_state(image)
    _check_validation(validation)
    location = _resolve(context, caller, image_id, url)
    given = {
        "image_id": image_id,
        "loc_url": locations.url_of(context, location),
        "validation_data": dict(validation),
    }

    def attach(task: Task) -> None:
        def take(fresh: Image) -> Image:
            _check_state(fresh)
            return replace(fresh, properties={**fresh.properties, IMPORT_TASK: task.id})

        context.amend(image_id, take)

    return submit(
        context,
        caller,
        TaskType.LOCATION_IMPORT,
        image_id=image_id,
        given=given,
        hidden={"store": location.store, "key": location.key, "validation": dict(validation)},
        attach=attach,
    )


def fetch(context: Context, caller: Caller, image_id: str) -> tuple[Mapping[str, Any], ...]:
    """Return URL and metadata of each location, in reading order."""
    image = _seen(context, caller, image_id)
    context.policy.check(caller, "fetch_image_location", image)
    ordered = context.mounts.ordered(image.locations)
    return tuple(locations.described(context, location) for location in ordered)


def _seen(context: Context, caller: Caller, image_id: str) -> Image:
    """Return the image; a service acts for any project, so policy alone decides."""
    if SERVICE in caller.roles:
        return context.registry.get(image_id, ADMIN)
    return context.get(caller, image_id)


def _check_state(image: Image) -> None:
    if image.status is not Status.QUEUED:
        raise Conflict(f"It's not allowed to add locations if image status is {image.status}.")
    if IMPORT_TASK in image.properties:
        raise Conflict(
            f"New operation on image '{image.id}' is not permitted as prior operation is still in progress"
        )
    locations.check_formats(image)


def _check_validation(validation: Mapping[str, str]) -> None:
    if not validation:
        return
    if set(validation) != {"os_hash_algo", "os_hash_value"}:
        raise InvalidInput("validation_data must hold os_hash_algo and os_hash_value, and nothing else")
    if validation["os_hash_algo"] not in ALGORITHMS:
        raise InvalidInput(
            f"os_hash_algo must be one of {', '.join(ALGORITHMS)}, not {validation['os_hash_algo']!r}"
        )
    locations.check_digest("os_hash_value", validation["os_hash_algo"], validation["os_hash_value"])


def _resolve(context: Context, caller: Caller, image_id: str, url: str) -> Location:
    """Return where the URL leads; users can name only what HTTP gives to anybody."""
    if SERVICE in caller.roles | caller.service_roles:
        return locations.resolve(context, image_id, url)
    served = {scheme for mount in context.mounts for scheme in mount.store.driver.schemes}
    if not url.lower().startswith("http") or not served & set(HTTP):
        raise Forbidden("http store must be enabled to use location API by normal user.")
    return locations.resolve(context, image_id, url, schemes=HTTP)


# In the task


def run(job: Job) -> Mapping[str, Any]:
    """Name the location, and compute the digest of its data."""
    try:
        image = _named(job)
        if job.context.settings.do_secure_hash and image.hash_value is None:
            _hash(job, image)
        else:
            _conclude(job, lambda fresh: fresh)
    except ImageNotFound:
        raise GlancelikeError(f"Image {job.task.image_id} was deleted meanwhile") from None
    return {"image_id": job.task.image_id}


def _location(job: Job) -> Location:
    return Location(job.hidden["store"], job.hidden["key"])


def _named(job: Job) -> Image:
    """Return the image with the location in its record."""
    context = job.context
    image = current(job)
    if image.status is not Status.QUEUED:
        return image  # a process before this one did it
    location = _location(job)
    size = locations.size_at(context, location)
    validation: Mapping[str, str] = job.hidden["validation"]
    algorithm, value = validation.get("os_hash_algo"), validation.get("os_hash_value")
    secure = context.settings.do_secure_hash

    def change(fresh: Image) -> Image:
        if validation and secure:
            return lifecycle.move(fresh, Status.IMPORTING, staged=location, size=size)
        known = context.settings.hashing_algorithm if secure else algorithm
        return lifecycle.move(
            fresh, Status.ACTIVE, locations=(location,), size=size, hash_algo=known, hash_value=value
        )

    name, wanted = f"location:{image.id}", Amounts(total=size)
    if validation and secure:
        # What is staged doesn't count as stored: it has to find room once more.
        context.quotas.check(image.owner, wanted, name=name)
        return amend(job, change)
    with context.quotas.admitted(image.owner, wanted, name=name) as reserved:
        return amend(job, change, settles=reserved.settles)


def _hash(job: Job, image: Image) -> None:
    """Read the data, and put what was found into the record."""
    validation: Mapping[str, str] = job.hidden["validation"]
    context = job.context
    algorithm = validation.get("os_hash_algo", context.settings.hashing_algorithm)
    try:
        outcome = _read(job, image, algorithm)
    except UnsafeImage:
        if image.status is Status.ACTIVE:
            amend(job, lambda fresh: lifecycle.move(fresh, Status.DEACTIVATED))
        raise
    if outcome.size != image.size:
        raise DataMismatch(f"Image {image.id}: {outcome.size} bytes instead of {image.size}")
    if validation and outcome.digests[algorithm] != validation["os_hash_value"].lower():
        raise DataMismatch(
            f"os_hash_value: ({validation['os_hash_value']}) not matched with actual os_hash_value: "
            f"({outcome.digests[algorithm]})"
        )
    found: dict[str, Any] = {
        "hash_algo": algorithm,
        "hash_value": outcome.digests[algorithm],
        "checksum": outcome.digests.get("md5") if context.settings.compute_md5_checksum else None,
        "virtual_size": outcome.virtual_size,
    }

    def change(fresh: Image) -> Image:
        if fresh.status is Status.IMPORTING:
            return lifecycle.move(fresh, Status.ACTIVE, staged=None, locations=(_location(job),), **found)
        return replace(fresh, **found)

    wanted = Amounts(total=(image.size or 0) if image.status is Status.IMPORTING else 0)
    with context.quotas.admitted(image.owner, wanted, name=f"location:{image.id}") as reserved:
        _conclude(job, change, settles=reserved.settles)


def _read(job: Job, image: Image, algorithm: str) -> Outcome:
    """Read all of the data."""
    return read_through(
        job.context,
        image,
        _location(job),
        algorithms=(algorithm, *(("md5",) if job.context.settings.compute_md5_checksum else ())),
        # The data isn't ours, so it need not be what disk_format says; what
        # refers to files outside itself is refused all the same.
        inspection=lambda: Inspection(image.disk_format, image.container_format, require_match=False),
        look=lambda: current(job),
    )


def _conclude(job: Job, change: Callable[[Image], Image], *, settles: str | None = None) -> None:
    """Make the image its own again."""
    done = amend(job, lambda fresh: _freed(change(fresh)), settles=settles)
    replication.wanted(job.context, done)


def _freed(image: Image) -> Image:
    return replace(
        image, properties={name: value for name, value in image.properties.items() if name != IMPORT_TASK}
    )


def undo(job: Job) -> None:
    """Queue an image again whose data isn't what was told; free any.

    A location whose store deletes nothing stays on record as staged, never
    served, until other data comes: it tells where the wrong data lies.
    """
    dropped: list[Location] = []

    def change(fresh: Image) -> Image:
        dropped.clear()
        if fresh.status is not Status.IMPORTING:
            # An image that is active without its digest stays so.
            known = fresh.hash_algo if fresh.hash_value is not None else None
            return _freed(replace(fresh, hash_algo=known))
        kept = None
        if fresh.staged is not None:
            if deletable(job.context, fresh.staged):
                dropped.append(fresh.staged)
            else:
                kept = fresh.staged
        return _freed(
            lifecycle.move(
                fresh,
                Status.QUEUED,
                staged=kept,
                size=None,
                virtual_size=None,
                hash_algo=None,
                hash_value=None,
                checksum=None,
            )
        )

    try:
        amend(job, change)
    except (ImageNotFound, InvalidTransition):
        LOG.info("image %s is gone, or another task's: nothing to undo", job.task.image_id)
    for location in dropped:
        discard(job.context, location)
