"""Use cases of deleting images: at once, or later and maybe not at all.

With ``delayed_delete`` an image in use becomes ``pending_delete``:
nobody sees it, its record and its bytes stay for ``scrub_time`` seconds.
Then it is scrubbed, unless an operator has restored it before. Each step is
one compare-and-set on the record, so of two scrubbers, or of a scrubber and
a restore, one wins; the bytes go last, and what a crash leaves of them gc
finds.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from glancelike import lifecycle
from glancelike.errors import (
    ImageNotFound,
    ImageProtected,
    InvalidTransition,
    StaleImage,
)
from glancelike.model import Caller, Filter, Image, Op, Query, SortKey, Status, Viewer, utcnow
from glancelike.notifications import gone, image_payload
from glancelike.service import cache, resumable
from glancelike.service.context import AMEND_ATTEMPTS, Context
from glancelike.service.fields import RESERVED_PREFIX
from glancelike.service.ingest import discard

LOG = logging.getLogger(__name__)

PENDING = Viewer(admin=True, pending=True)
# Kept in the record of a pending delete: the status to restore it to.
DELETED_FROM = f"{RESERVED_PREFIX}_deleted_from"
# What is in use; anything else has nothing worth keeping.
DELAYED = frozenset({Status.ACTIVE, Status.DEACTIVATED})
BATCH = 100


def delete(context: Context, caller: Caller, image_id: str) -> None:
    """Delete the record first, then the bytes it named; or put both off."""
    for _attempt in range(AMEND_ATTEMPTS):
        image = context.get(caller, image_id)
        context.policy.check(caller, "delete_image", image)
        if image.protected:
            raise ImageProtected(f"Image {image_id} is protected and cannot be deleted.")
        try:
            if context.settings.delayed_delete and image.status in DELAYED:
                left = context.registry.update(_pending(image), expect=image.version)
                dropped = [] if image.staged is None else [image.staged]
            else:
                left = lifecycle.move(image, Status.DELETED)
                _delete_record(context, image)
                dropped = list(image.blobs)
        except StaleImage:
            continue
        for location in dropped:
            discard(context, location)
        cache.forget(context, image_id)
        context.notify("image.delete", image_payload(left, **gone()))
        return
    raise InvalidTransition(f"Image {image_id} is being changed by too many at once: try again")


def _delete_record(context: Context, image: Image) -> None:
    """Delete the record with its uploads, then what those have in their stores."""
    uploads = context.registry.uploads_of([image.id])
    context.registry.delete(image.id, expect=image.version)
    for upload in uploads:
        resumable.release(context, upload)


def _pending(image: Image) -> Image:
    """Return the image as it waits for its end: free of any task, its status noted."""
    kept = {name: value for name, value in image.properties.items() if not name.startswith(RESERVED_PREFIX)}
    noted = {**kept, DELETED_FROM: str(image.status)}
    return lifecycle.move(image, Status.PENDING_DELETE, properties=noted, staged=None)


def restore(context: Context, image_id: str) -> Image:
    """Bring back an image whose delete is pending, as it was.

    Raises ImageNotFound when there is no such image any more, and
    InvalidTransition when its delete isn't pending.
    """

    def change(image: Image) -> Image:
        if image.status is not Status.PENDING_DELETE:
            raise InvalidTransition(f"Image {image_id} is {image.status}: its delete isn't pending")
        properties = dict(image.properties)
        before = Status(properties.pop(DELETED_FROM, Status.ACTIVE))
        return lifecycle.move(image, before, properties=properties)

    return context.amend(image_id, change, PENDING)


def scrub(context: Context) -> list[str]:
    """Delete images whose delete has been pending for ``scrub_time``; return their ids."""
    due = utcnow() - timedelta(seconds=context.settings.scrub_time)
    query = Query(
        filters=(
            Filter("status", Op.EQ, Status.PENDING_DELETE),
            Filter("updated_at", Op.LTE, due),
        ),
        visibility="all",
        member_status="all",
        hidden=None,
        sort=(SortKey("id", descending=False),),
        limit=BATCH,
    )
    scrubbed: list[str] = []
    while True:
        # What is scrubbed can't be a marker: each look starts from the front.
        page = context.registry.list(query, PENDING)
        done = [image.id for image in page.images if _scrub_one(context, image)]
        scrubbed += done
        if page.next_marker is None or not done:
            return scrubbed


def _scrub_one(context: Context, image: Image) -> bool:
    try:
        _delete_record(context, image)
    except (StaleImage, ImageNotFound):
        return False  # restored just now, or somebody else's already
    for location in image.blobs:
        discard(context, location)
    LOG.info("image %s is scrubbed", image.id)
    return True
