"""Garbage collection: blobs that no record names.

A crash between writing bytes and naming them, or between deleting a record
and its bytes, leaves such a blob. Only keys that this service made are
looked at; what somebody else put into a store is left alone. What writes and
uploads that died left inside a store, the store itself sweeps away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from glancelike.errors import BlobNotFound
from glancelike.model import TaskQuery, TaskStatus, UploadState, utcnow
from glancelike.service.context import Context, upload_lease
from glancelike.service.ingest import image_of
from glancelike.stores.base import BlobInfo, Cap
from glancelike.vfs import Mount

BATCH = 500


@dataclass(frozen=True, slots=True)
class Orphan:
    """A blob without a record. ``size`` in bytes; ``removed`` unless it was a dry run."""

    store: str
    key: str
    size: int
    removed: bool


def gc(context: Context, *, grace_seconds: float, dry_run: bool) -> Iterator[Orphan]:
    """Find orphans older than the grace time, and remove them."""
    youngest = utcnow() - timedelta(seconds=grace_seconds)
    # Older than any upload may be, and a day more for what takes its time.
    began = utcnow() - timedelta(hours=context.settings.resumable_upload_lifetime + 24)
    for mount in context.mounts.all():
        if not mount.read_only and not dry_run:
            mount.store.sweep(began)
        if mount.read_only or not {Cap.LIST, Cap.DELETE} <= set(mount.store.capabilities):
            continue
        ours = (
            blob
            for blob in mount.store.list()
            if image_of(mount.store, blob.key) and (blob.modified is None or blob.modified <= youngest)
        )
        for batch in _batches(ours):
            for blob in _orphans(context, mount, batch):
                if not dry_run:
                    try:
                        mount.store.delete(blob.key)
                    except BlobNotFound:
                        continue
                yield Orphan(mount.id, blob.key, blob.size, removed=not dry_run)


def _batches(blobs: Iterator[BlobInfo]) -> Iterator[list[BlobInfo]]:
    while batch := list(islice(blobs, BATCH)):
        yield batch


def _orphans(context: Context, mount: Mount, blobs: list[BlobInfo]) -> list[BlobInfo]:
    unnamed = _unnamed(context, mount, blobs)
    ids = {image_id for image_id, _blob in unnamed}
    # Work first, records second: an upload or an import that ended in
    # between has its record by the time records are read.
    busy = context.registry.leased([upload_lease(image_id) for image_id in ids])
    # Of an upload in pieces some blobs are named only after they were written.
    sent = {each.image_id for each in context.registry.uploads_of(ids) if each.state is not UploadState.DONE}
    still = [
        blob
        for image_id, blob in unnamed
        if upload_lease(image_id) not in busy and image_id not in sent and not _tasked(context, image_id)
    ]
    return [blob for _image_id, blob in _unnamed(context, mount, still)]


def _unnamed(context: Context, mount: Mount, blobs: list[BlobInfo]) -> list[tuple[str, BlobInfo]]:
    """Return the blobs that no record names, each with the image's id."""
    by_image = [
        (image_id, blob) for blob in blobs if (image_id := image_of(mount.store, blob.key)) is not None
    ]
    named = context.registry.locations_of({image_id for image_id, _blob in by_image})
    return [
        (image_id, blob) for image_id, blob in by_image if (mount.id, blob.key) not in named.get(image_id, ())
    ]


def _tasked(context: Context, image_id: str) -> bool:
    """Tell whether a task may be bringing data for the image."""
    query = TaskQuery(image_id=image_id, status=TaskStatus.PROCESSING, limit=1)
    return bool(context.registry.list_tasks(query).tasks)
