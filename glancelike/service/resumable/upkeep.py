"""Uploads that go away: ended, expired, or come too late."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta

from glancelike.errors import GlancelikeError, QuotaExceeded, StaleUpload, StoreError, UploadNotFound
from glancelike.model import Amounts, Caller, Location, Upload, UploadKind, UploadState, utcnow
from glancelike.registry.base import ADMIN
from glancelike.service.context import Context
from glancelike.service.resumable.deposit import delete_quietly

LOG = logging.getLogger(__name__)

BATCH = 100
# Longer than an upload may be about its end after its time has run out.
MARGIN = timedelta(days=1)


def lifetime(context: Context) -> timedelta:
    """Return how long an upload may take."""
    return timedelta(hours=context.settings.resumable_upload_lifetime)


def hold_room(context: Context, upload: Upload, project: str | None, size: int) -> str | None:
    """Reserve so many bytes of the project's quota for as long as the upload lives; raise QuotaExceeded.

    Returns what the image's record has to settle. Partial uploads of an
    image have one reservation, which becomes the final one's.
    """
    seconds = max(60.0, (upload.expires_at - utcnow()).total_seconds())
    return context.quotas.hold(_reservation(upload), project, Amounts(total=size), seconds)


def partial_size(context: Context, image_id: str) -> int:
    """Return how much the partial uploads of an image are to have in all."""
    uploads = context.registry.uploads_of([image_id])
    return sum(max(each.length or 0, each.offset) for each in uploads if each.kind is UploadKind.PARTIAL)


def let_go_of_room(context: Context, upload: Upload) -> None:
    """Give back what is reserved for an upload that is over."""
    shared = upload.kind in (UploadKind.PARTIAL, UploadKind.FINAL)
    left = partial_size(context, upload.image_id) if shared else 0
    if left:
        with suppress(QuotaExceeded):  # the limit is lower by now, and what was reserved stays
            hold_room(context, upload, upload.owner, left)
    else:
        context.quotas.let_go(_reservation(upload))


def _reservation(upload: Upload) -> str:
    if upload.kind in (UploadKind.PARTIAL, UploadKind.FINAL):
        return f"resumable:parts:{upload.image_id}"
    return f"resumable:{upload.id}"


def drop(context: Context, upload: Upload) -> None:
    """Remove an upload, the record first; raise StaleUpload."""
    try:
        context.registry.delete_upload(upload.id, expect=upload.version)
    except UploadNotFound:
        return
    release(context, upload)


def release(context: Context, upload: Upload) -> None:
    """Remove the bytes of an upload that has no record any more; what fails is left to gc."""
    let_go_of_room(context, upload)
    if upload.session is not None:
        try:
            context.mounts[upload.home].store.abort(upload.key, upload.session)
        except StoreError as error:
            LOG.warning("parts of upload %s left in their store: %s", upload.id, error)
    named = context.registry.locations_of([upload.image_id]).get(upload.image_id, ())
    for location in upload.blobs:
        if (location.store, location.key) not in named:
            delete_quietly(context, Location(location.store, location.key))


def look_after(context: Context) -> None:
    """Drop what has expired, and finish what is complete but nobody is at."""
    from glancelike.service.resumable.finish import begin

    for upload in context.registry.expired_uploads(BATCH):
        try:
            drop(context, upload)
        except StaleUpload:
            continue  # somebody sends just now; the next look is soon
        LOG.info("upload %s to image %s has expired", upload.id, upload.image_id)
    for upload in context.registry.uploads_in(UploadState.FULL, BATCH):
        try:
            image = context.registry.get(upload.image_id, ADMIN)
            begin(context, Caller.administrator(upload.owner), image, upload)
        except GlancelikeError as error:
            LOG.warning("upload %s to image %s: %s", upload.id, upload.image_id, error)
