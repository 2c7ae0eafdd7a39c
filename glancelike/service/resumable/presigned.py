"""The bytes that a client wrote to the store itself, by a signed URL.

The URL stays good until it expires, so what it names can change at any
time. What is verified is a copy of it, under a key that nobody can write.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from glancelike.errors import BlobNotFound, Conflict, InvalidInput
from glancelike.model import Location, Upload
from glancelike.service.context import Context
from glancelike.service.ingest import discarded_unless_named, new_key
from glancelike.transfer import Outcome


@contextmanager
def copied(context: Context, upload: Upload) -> Iterator[Location]:
    """Copy what was written to a key of its own, and discard that if the block raises."""
    store = context.mounts[upload.store].store
    location = Location(upload.store, new_key(store, upload.image_id, upload.owner))
    try:
        store.copy(upload.key, location.key)
    except BlobNotFound as error:
        raise Conflict(f"Upload {upload.id}: nothing was written by its URL") from error
    with discarded_unless_named(context, location):
        yield location


def digest_of(upload: Upload) -> tuple[tuple[str, ...], str]:
    """Return the algorithm, if any, and the digest that the data must have."""
    algorithm, _, value = upload.metadata.partition(":")
    return ((algorithm,) if algorithm else ()), value


def check(upload: Upload, outcome: Outcome, algorithm: tuple[str, ...], value: str) -> None:
    """Raise InvalidInput unless size and digest are what was told."""
    if outcome.size != upload.length:
        raise InvalidInput(f"Upload {upload.id}: {outcome.size} bytes were written, not {upload.length}")
    for each in algorithm:
        found = outcome.digests[each]
        if found != value:
            raise InvalidInput(f"Upload {upload.id}: the data's {each} is {found}, not {value}")
