"""Make copies of images' data in other stores, and move it between them.

Where the two stores have a backend in common that copies, the bytes don't
pass through here, and only their number is checked: the digest is what the
record says, until the copy is verified or ``read_back`` reads it at once.
Else the data is read once and written once, and both are checked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

from glancelike.errors import (
    BlobInUse,
    Conflict,
    DataMismatch,
    ImageNotFound,
    InvalidTransition,
    NotFound,
    StoreError,
    Unsupported,
)
from glancelike.model import Image, Location, Status
from glancelike.registry.base import ADMIN
from glancelike.service.context import Context, upload_lease
from glancelike.service.ingest import (
    Stored,
    check_same,
    deletable,
    delete_blob,
    discard,
    discarded_unless_named,
    ingested,
    new_key,
)
from glancelike.stores.base import Cap
from glancelike.streams import ChunkSource
from glancelike.transfer import BLOCK, Outcome, Transfer, Watcher
from glancelike.vfs import Mount

LOG = logging.getLogger(__name__)

COPIED = frozenset({Status.ACTIVE, Status.DEACTIVATED})


@contextmanager
def copied(
    context: Context,
    image: Image,
    mount: Mount,
    sources: Sequence[Location],
    *,
    watchers: Sequence[Watcher] = (),
    read_back: bool = False,
) -> Iterator[Stored]:
    """Copy an image's data to a new blob, and discard it if the block raises.

    A source whose data isn't what the record says is passed over while
    another is left. Raises DataMismatch, StoreError, and what a watcher does.
    """
    read_back = read_back or context.settings.copy_read_back
    stored = _by_the_stores(context, image, mount, sources, watchers, read_back=read_back)
    if stored is not None:
        with discarded_unless_named(context, stored.location):
            yield stored
        return
    with ExitStack() as stack:
        for left in range(len(sources), 0, -1):
            try:
                stored = stack.enter_context(_through_here(context, image, mount, sources[-left:], watchers))
                break
            except DataMismatch as error:
                if left == 1:
                    raise
                LOG.warning("copy of image %s to store %s: %s", image.id, mount.id, error)
        if stored is None:
            raise NotFound(f"Image {image.id} has no data to copy")
        yield stored


def _by_the_stores(
    context: Context,
    image: Image,
    mount: Mount,
    sources: Sequence[Location],
    watchers: Sequence[Watcher],
    *,
    read_back: bool,
) -> Stored | None:
    """Have the target's backend copy; None where it can't, for whatever reason."""
    if Cap.COPY not in mount.store.capabilities:
        return None
    for source in sources:
        target = Location(mount.id, new_key(mount.store, image.id, image.owner))
        try:
            theirs = context.mounts[source.store].store
            if type(theirs.driver) is not type(mount.store.driver):
                continue
            info = mount.store.copy(source.key, target.key, source=theirs)
            if info.size != image.size:
                raise DataMismatch(f"Image {image.id}: {info.size} bytes instead of {image.size}")
            if read_back:
                check_data(context, image, target, watchers)
        except Unsupported:
            continue
        except (StoreError, DataMismatch) as error:
            LOG.warning("store %s didn't copy image %s by itself: %s", mount.id, image.id, error)
            discard(context, target)
            continue
        digests = {image.hash_algo: image.hash_value} if image.hash_algo and image.hash_value else {}
        return Stored(target, Outcome(info.size, digests, None, image.virtual_size))
    return None


@contextmanager
def _through_here(
    context: Context, image: Image, mount: Mount, sources: Sequence[Location], watchers: Sequence[Watcher]
) -> Iterator[Stored]:
    algorithms = (image.hash_algo,) if image.hash_algo else ()
    with (
        closing(ChunkSource(lambda: context.mounts.read(sources, size=image.size))) as source,
        ingested(
            context, image, mount, source, size=image.size, algorithms=algorithms, watchers=watchers
        ) as stored,
    ):
        check_same(image, stored.outcome)
        yield stored


def check_data(context: Context, image: Image, location: Location, watchers: Sequence[Watcher] = ()) -> None:
    """Read all of a copy; raise DataMismatch unless it is what the record says, or StoreError."""
    store = context.mounts[location.store].store
    algorithms = (image.hash_algo,) if image.hash_algo and image.hash_value else ()
    with (
        closing(ChunkSource(lambda: store.read(location.key))) as source,
        Transfer(source, algorithms=algorithms, watchers=watchers) as transfer,
    ):
        while transfer.read(BLOCK):
            pass
        check_same(image, transfer.finish())


@contextmanager
def only_here(context: Context, image_id: str) -> Iterator[None]:
    """Do for an image what only one process may; raise Conflict when another does.

    It is the lease of uploads, which nobody else takes of an image that has
    its data: so ``gc`` spares what is being brought.
    """
    lease = upload_lease(image_id)
    holder = context.leases.acquire(lease)
    if holder is None:
        raise Conflict(f"Image {image_id} is being copied by another process")
    try:
        yield
    finally:
        context.leases.release(lease, holder)


def move(context: Context, image_id: str, source: str, target: str) -> Image:
    """Move an image's data from a store to another; see ImageService.move_image.

    The record names the old copy until it names the new one.
    """
    image = context.registry.get(image_id, ADMIN)
    old = _copy_in(image, source)
    mount = context.mounts.target(target)
    if not deletable(context, old):
        raise Unsupported("the store keeps what it has, so nothing can be moved out of it", store=source)
    with only_here(context, image_id):
        if any(location.store == target for location in image.locations):
            moved = context.amend(image_id, lambda fresh: _without(fresh, old))
        else:
            sources = (old, *(each for each in context.mounts.ordered(image.locations) if each != old))
            with copied(context, image, mount, sources) as stored:
                moved = context.amend(image_id, lambda fresh: _moved(fresh, old, stored.location))
        _delete_old(context, image_id, old)
    return moved


def _moved(image: Image, old: Location, new: Location) -> Image:
    if any(location.store == new.store for location in image.locations):
        raise Conflict(f"Image {image.id} has come to store {new.store} by other means: move it again")
    return replaced(image, old, new)


def replaced(image: Image, old: Location, new: Location) -> Image:
    """Return the image with another location in the place of one; raise InvalidTransition."""
    _check_named(image, old)
    new = replace(new, metadata=old.metadata)
    return replace(image, locations=tuple(new if each == old else each for each in image.locations))


def _without(image: Image, old: Location) -> Image:
    _check_named(image, old)
    if len(image.locations) == 1:
        raise Conflict(f"Image {image.id} is in store {old.store} only by now")
    return replace(image, locations=tuple(each for each in image.locations if each != old))


def _check_named(image: Image, location: Location) -> None:
    if image.status not in COPIED or location not in image.locations:
        raise InvalidTransition(f"Image {image.id} isn't any more where it was in store {location.store}")


def _copy_in(image: Image, store: str) -> Location:
    if image.status not in COPIED:
        raise Conflict(f"Image {image.id} is {image.status}: only one in use can be moved")
    for location in image.locations:
        if location.store == store:
            return location
    raise NotFound(f"Image {image.id} is not stored in store {store}.")


def _delete_old(context: Context, image_id: str, old: Location) -> None:
    try:
        delete_blob(context, old)
    except BlobInUse:
        # Its store doesn't let it go: it has to stay on record.
        try:
            context.amend(image_id, lambda fresh: replace(fresh, locations=(*fresh.locations, old)))
        except ImageNotFound:
            LOG.warning("image %s was deleted, but its data in store %s is in use", image_id, old.store)
        raise
    except StoreError as error:
        LOG.warning("data left in store for gc: %s", error)
