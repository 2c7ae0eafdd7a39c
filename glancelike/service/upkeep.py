"""Garbage collection: blobs that no record names.

A crash between writing bytes and naming them, or between deleting a record
and its bytes, leaves such a blob. Only keys that this service made are
looked at; what somebody else put into a store is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from glancelike.errors import BlobNotFound
from glancelike.model import utcnow
from glancelike.service.context import Context
from glancelike.service.data import upload_lease
from glancelike.stores.base import BlobInfo, Cap

BATCH = 500
OUR_KEY = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-[0-9a-f]{12}")


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
    for mount in context.mounts:
        if not {Cap.LIST, Cap.DELETE} <= set(mount.store.capabilities):
            continue
        ours = (
            blob
            for blob in mount.store.list()
            if OUR_KEY.fullmatch(blob.key) and (blob.modified is None or blob.modified <= youngest)
        )
        for batch in _batches(ours):
            for blob in _orphans(context, mount.id, batch):
                if not dry_run:
                    try:
                        mount.store.delete(blob.key)
                    except BlobNotFound:
                        continue
                yield Orphan(mount.id, blob.key, blob.size, removed=not dry_run)


def _batches(blobs: Iterator[BlobInfo]) -> Iterator[list[BlobInfo]]:
    while batch := list(islice(blobs, BATCH)):
        yield batch


def _orphans(context: Context, store: str, blobs: Iterable[BlobInfo]) -> list[BlobInfo]:
    by_image = [(blob.key[:36], blob) for blob in blobs]
    ids = {image_id for image_id, _blob in by_image}
    # Leases first, records second: an upload that ended in between has its
    # record by the time records are read.
    busy = context.registry.leased([upload_lease(image_id) for image_id in ids])
    named = context.registry.locations_of(ids)
    return [
        blob
        for image_id, blob in by_image
        if upload_lease(image_id) not in busy and (store, blob.key) not in named.get(image_id, ())
    ]
