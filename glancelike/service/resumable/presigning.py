"""Uploads that pass the service by: the client writes to the store, by a signed URL."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from datetime import datetime, timedelta

from glancelike.errors import BlobNotFound, Conflict, InvalidInput, NotFound, SizeMismatch, Unsupported
from glancelike.model import Caller, Upload, UploadKind, UploadState, utcnow
from glancelike.service.context import Context
from glancelike.service.ingest import new_key, writable
from glancelike.service.resumable.finish import finish
from glancelike.service.resumable.requests import (
    check_length,
    check_ready,
    check_wanted,
    found,
    hold,
    image_for,
)
from glancelike.service.resumable.upkeep import drop, lifetime
from glancelike.stores.base import Cap

NEEDED = Cap.PRESIGN | Cap.COPY | Cap.DELETE
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def presign(
    context: Context, caller: Caller, image_id: str, *, size: int, digest: str | None, store: str | None
) -> tuple[Upload, str, datetime]:
    """Sign a URL to write by; see ImageService.create_presigned."""
    image = image_for(context, caller, image_id)
    seconds = context.settings.presigned_upload_expires
    if not seconds:
        raise NotFound("presigned uploads are off at this site")
    check_ready(image)
    mount = writable(context, store)
    if NEEDED not in mount.store.capabilities:
        raise Unsupported("the store can't take presigned uploads", store=mount.id)
    check_length(context, size)
    if digest is not None and not DIGEST.fullmatch(digest):
        raise InvalidInput("digest must be sha256: or sha512: and the digest in small hex digits")
    now = utcnow()
    upload = context.registry.create_upload(
        Upload(
            id=str(uuid.uuid4()),
            image_id=image_id,
            store=mount.id,
            home=mount.id,
            key=new_key(mount.store, image_id, image.owner),
            part_size=1,
            kind=UploadKind.PRESIGNED,
            owner=image.owner,
            length=size,
            metadata=digest or "",
            created_at=now,
            expires_at=now + max(lifetime(context), timedelta(seconds=2 * seconds)),
        )
    )
    try:
        hold(context, image, upload, size)
        url = mount.store.presign(upload.key, "PUT", seconds)
    except BaseException:
        drop(context, upload)
        raise
    return upload, url, now + timedelta(seconds=seconds)


def complete_presigned(context: Context, caller: Caller, image_id: str, upload_id: str) -> Upload:
    """Make what was written the image's data; see ImageService.complete_presigned."""
    image, upload = found(context, caller, image_id, upload_id)
    if upload.kind is not UploadKind.PRESIGNED:
        raise NotFound(f"upload {upload_id!r} not found")
    if upload.state in (UploadState.FINISHING, UploadState.DONE):
        return upload
    check_wanted(context, image, upload)
    try:
        size = context.mounts[upload.home].store.stat(upload.key).size
    except BlobNotFound as error:
        raise Conflict(f"Upload {upload_id}: nothing was written by its URL") from error
    if size != upload.length:
        # Written again it may be right, as long as the URL is good.
        raise SizeMismatch(f"Upload {upload_id}: {size} bytes were written, not {upload.length}")
    full = context.registry.update_upload(replace(upload, state=UploadState.FULL), expect=upload.version)
    return finish(context, caller, image, full)
