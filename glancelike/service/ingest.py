"""Bring bytes into a store, watched by all that has to see them.

The one way for image data into a store: an upload, the staged data of an
import, a copy from another store. Bytes first, then the row: whoever calls
this names the blob in the record, or discards it.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from glancelike.errors import (
    BlobNotFound,
    DataMismatch,
    ImageTooLarge,
    OutcomeUnknown,
    StoreError,
    Unsupported,
)
from glancelike.model import Image, Location, Source
from glancelike.service.context import Context
from glancelike.service.tee import poured
from glancelike.stores.base import BlobInfo, Cap
from glancelike.stores.guard import Guard, valid_key
from glancelike.streams import ChunkSource as ChunkSource
from glancelike.transfer import Inspection, Outcome, Transfer, Watcher
from glancelike.vfs import Mount

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob that is complete in its store but that no record names yet."""

    location: Location
    outcome: Outcome


def writable(context: Context, store: str | None) -> Mount:
    """Return the mount to write to; raise UnknownStore or Unsupported."""
    return context.mounts.target(store)


def check_size_known(mount: Mount, size: int | None) -> None:
    """Raise Unsupported where the store can't take data of unknown size."""
    if size is None and Cap.UNKNOWN_SIZE not in mount.store.capabilities:
        raise Unsupported("the store needs to know the size before the upload", store=mount.id)


# A Glance that was taken over gave its blobs bare ids.
_KEY = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(-[0-9a-f]{12})?")


def new_key(store: Guard, image_id: str, owner: str | None) -> str:
    """Name a blob: one key an attempt, under the owner where the store asks for it.

    A dead upload's leftover, or a late writer that has lost its lease,
    can't be in the way of the next. A key stays when the owner changes.
    Raises Unsupported for an owner that can't be part of a key.
    """
    name = f"{image_id}-{uuid.uuid4().hex[:12]}"
    if not (store.keys_by_owner and owner):
        return name
    key = f"{owner}/{name}"
    if "/" in owner or not valid_key(key):
        raise Unsupported(
            f"the store keeps images by owner, and {owner!r} can't be part of a key", store=store.id
        )
    return key


def image_of(store: Guard, key: str, *, of_glance: bool = False) -> str | None:
    """Return the image that this service made a key for, None where the key is somebody else's.

    ``of_glance``: or a Glance before it.
    """
    owner, slash, name = key.rpartition("/")
    if slash and not (store.keys_by_owner and owner and "/" not in owner):
        return None
    found = _KEY.fullmatch(name)
    return found[1] if found and (found[2] or of_glance) else None


def inspection_of(context: Context, image: Image) -> Inspection:
    """Return the inspection that the image's data has to pass."""
    return Inspection(
        image.disk_format,
        image.container_format,
        require_match=context.settings.require_image_format_match,
    )


@contextmanager
def ingested(
    context: Context,
    image: Image,
    mount: Mount,
    source: Source,
    *,
    size: int | None,
    algorithms: Sequence[str] | None = None,
    inspection: Inspection | None = None,
    watchers: Sequence[Watcher] = (),
) -> Iterator[Stored]:
    """Write the source to a new blob, and discard it if the block raises.

    ``algorithms`` None means those of the settings. Raises ImageTooLarge,
    FormatMismatch, UnsafeImage, SizeMismatch, StoreError, and what the
    source or a watcher raises.
    """
    settings = context.settings
    if size is not None and size > settings.image_size_cap:
        raise ImageTooLarge(f"Image is larger than image_size_cap, {settings.image_size_cap} bytes")
    location = Location(mount.id, new_key(mount.store, image.id, image.owner))
    with Transfer(
        source,
        algorithms=settings.algorithms if algorithms is None else algorithms,
        cap=settings.image_size_cap,
        inspection=inspection,
        watchers=watchers,
    ) as transfer:
        mount.store.write(location.key, transfer, size=size)
        with discarded_unless_named(context, location):
            yield Stored(location, transfer.finish())


@dataclass(frozen=True, slots=True)
class Spread:
    """Blobs with the same data in several stores, and the stores that failed."""

    locations: tuple[Location, ...]
    failed: Mapping[str, StoreError]
    outcome: Outcome


@contextmanager
def spread(
    context: Context,
    image: Image,
    mounts: Sequence[Mount],
    source: Source,
    *,
    size: int | None,
    algorithms: Sequence[str],
    inspection: Inspection | None = None,
    watchers: Sequence[Watcher] = (),
) -> Iterator[Spread]:
    """Write the source, read once, to a new blob in each store; as ``ingested`` otherwise.

    A store that fails doesn't hinder the others, and when all do there are
    no locations.
    """
    settings = context.settings
    if size is not None and size > settings.image_size_cap:
        raise ImageTooLarge(f"Image is larger than image_size_cap, {settings.image_size_cap} bytes")
    targets = {mount.id: Location(mount.id, new_key(mount.store, image.id, image.owner)) for mount in mounts}
    # Of all that has been begun: what a writer that failed left is a blob as well as any.
    begun = list(targets.values())

    def writer(mount: Mount) -> Callable[[Source], BlobInfo]:
        return lambda branch: mount.store.write(targets[mount.id].key, branch, size=size)

    with Transfer(
        source,
        algorithms=algorithms,
        cap=settings.image_size_cap,
        inspection=inspection,
        watchers=watchers,
    ) as transfer:
        try:
            written, failed = poured(transfer, {mount.id: writer(mount) for mount in mounts})
            begun = [targets[name] for name in written]
            outcome = transfer.finish() if written else Outcome(0, {}, None, None)
            yield Spread(tuple(begun), failed, outcome)
        except OutcomeUnknown:
            raise  # as in discarded_unless_named
        except BaseException:
            for location in begun:
                _discard_if_there(context, location)
            raise


def _discard_if_there(context: Context, location: Location) -> None:
    try:
        delete_blob(context, location)
    except BlobNotFound:
        pass  # never got its name
    except StoreError as error:
        LOG.warning("data left in store for gc: %s", error)


def told_by(context: Context, outcome: Outcome) -> dict[str, Any]:
    """Return what the record of an image says of its data, all but where it lies."""
    algorithm = context.settings.hashing_algorithm
    return {
        "size": outcome.size,
        "virtual_size": outcome.virtual_size,
        "hash_algo": algorithm,
        "hash_value": outcome.digests[algorithm],
        "checksum": outcome.digests.get("md5"),
    }


def check_same(image: Image, outcome: Outcome) -> None:
    """Raise DataMismatch unless size and digest are what the record says."""
    if image.size is not None and outcome.size != image.size:
        raise DataMismatch(f"Image {image.id}: {outcome.size} bytes instead of {image.size}")
    found = outcome.digests.get(image.hash_algo or "")
    if found is not None and image.hash_value is not None and found != image.hash_value:
        raise DataMismatch(f"Image {image.id}: the data's {image.hash_algo} isn't what the record says")


def delete_blob(context: Context, location: Location) -> None:
    """Delete a blob, unless its store keeps what it has; raise StoreError."""
    if deletable(context, location):
        context.mounts[location.store].store.delete(location.key)


def deletable(context: Context, location: Location) -> bool:
    """Tell whether this server may delete from the location's store; raise UnknownStore."""
    mount = context.mounts[location.store]
    return not mount.read_only and Cap.DELETE in mount.store.capabilities


@contextmanager
def discarded_unless_named(context: Context, location: Location) -> Iterator[None]:
    """Delete the bytes when the block that has them recorded raises.

    Not where the record may name them after all, because the registry went
    away while it committed: gc, which reads the record, deletes them if not.
    """
    try:
        yield
    except OutcomeUnknown:
        LOG.warning("%s in store %s is left to gc: it may be in use", location.key, location.store)
        raise
    except BaseException:
        discard(context, location)
        raise


def discard(context: Context, location: Location) -> None:
    """Delete bytes that no row names any more; what fails is left to gc."""
    try:
        delete_blob(context, location)
    except StoreError as error:
        LOG.warning("data left in store for gc: %s", error)
