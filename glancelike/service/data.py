"""Use cases of image data: upload, read, open, delete the bytes, reap.

Order of failure: bytes first, then the row, on write; row first, then
bytes, on delete. A crash leaves at worst a blob that no row names, which
``gc`` finds; never a row without its data.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from glancelike import lifecycle
from glancelike.errors import (
    Forbidden,
    GlancelikeError,
    ImageNotFound,
    ImageTooLarge,
    InvalidRange,
    InvalidTransition,
    LeaseLost,
    NoImageData,
    StoreError,
    Unsupported,
)
from glancelike.model import Caller, Filter, Image, Location, Op, Query, SortKey, Status, StoreInfo
from glancelike.registry.base import ADMIN
from glancelike.service.context import Context
from glancelike.stores.base import Cap, Source
from glancelike.transfer import Inspection, Outcome, Transfer
from glancelike.vfs import ImageFile, Mount

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Download:
    """Data that may be read: ``length`` bytes from ``offset`` on, of ``size``.

    ``path`` is a local file that holds the whole image, where there is one:
    the best way to send it. ``chunks`` works always.
    """

    image: Image
    size: int
    offset: int
    length: int
    path: Path | None
    _context: Context

    def chunks(self) -> Iterator[bytes]:
        """Return the bytes in blocks; raises StoreError before the first."""
        if not self.length:
            return iter(())
        whole = self.offset == 0 and self.length == self.size
        return self._context.mounts.first(
            self.image.locations,
            lambda store, key: (
                store.read(key) if whole else store.read(key, offset=self.offset, length=self.length)
            ),
        )


def upload_lease(image_id: str) -> str:
    """Name the lease that an upload to the image holds."""
    return f"upload:{image_id}"


def upload(
    context: Context, caller: Caller, image_id: str, source: Source, *, size: int | None, store: str | None
) -> Image:
    """Take the image from queued to active, with its data; see ImageService."""
    image = context.get(caller, image_id)
    context.policy.check(caller, "upload_image", image)
    mount = _writable(context, store)
    if size is not None and size > context.settings.image_size_cap:
        raise ImageTooLarge(f"Image is larger than image_size_cap, {context.settings.image_size_cap} bytes")
    if size is None and Cap.UNKNOWN_SIZE not in mount.store.capabilities:
        raise Unsupported("the store needs to know the size before the upload", store=mount.id)
    if not (image.disk_format and image.container_format):
        raise InvalidTransition(
            f"Image {image_id} needs disk_format and container_format before its data can be uploaded"
        )
    if image.status is not Status.SAVING:
        lifecycle.check(image, Status.SAVING)
    lease = upload_lease(image_id)
    holder = context.leases.acquire(lease)
    if holder is None:
        raise InvalidTransition(f"Image {image_id} is being uploaded by somebody else")
    try:
        context.amend(image_id, _begin)
        try:
            return _store_data(context, image, mount, source, size, lease, holder)
        except BaseException:
            _give_up(context, image_id)
            raise
    finally:
        context.leases.release(lease, holder)


def _store_data(
    context: Context, image: Image, mount: Mount, source: Source, size: int | None, lease: str, holder: str
) -> Image:
    settings = context.settings
    inspection = Inspection(
        image.disk_format, image.container_format, require_match=settings.require_image_format_match
    )
    # A key of its own for each attempt: a dead upload's leftover, or a late
    # writer that has lost its lease, can't be in the way.
    key = f"{image.id}-{uuid.uuid4().hex[:12]}"
    with Transfer(
        source, algorithms=settings.algorithms, cap=settings.image_size_cap, inspection=inspection
    ) as transfer:
        mount.store.write(key, transfer, size=size)
        try:
            outcome = transfer.finish()
            return _activate(context, image.id, Location(mount.id, key), outcome, lease, holder)
        except BaseException:
            discard(context, Location(mount.id, key))
            raise


def _activate(
    context: Context, image_id: str, location: Location, outcome: Outcome, lease: str, holder: str
) -> Image:
    settings = context.settings

    def change(fresh: Image) -> Image:
        # Between reading the record and writing it the lease is confirmed:
        # had anybody taken over since, the record's version would differ.
        context.leases.confirm(lease, holder)
        return lifecycle.move(
            fresh,
            Status.ACTIVE,
            size=outcome.size,
            virtual_size=outcome.virtual_size,
            hash_algo=settings.hashing_algorithm,
            hash_value=outcome.digests[settings.hashing_algorithm],
            checksum=outcome.digests.get("md5"),
            locations=(location,),
        )

    return context.amend(image_id, change)


def _begin(image: Image) -> Image:
    # With the lease in hand, "saving" can only be what a dead upload left:
    # it is taken over by moving the version on.
    return image if image.status is Status.SAVING else lifecycle.move(image, Status.SAVING)


def _back_to_queued(image: Image) -> Image | None:
    return lifecycle.move(image, Status.QUEUED) if image.status is Status.SAVING else None


def _give_up(context: Context, image_id: str) -> None:
    """Return the image to queued; the upload's own error matters more than ours."""
    try:
        context.amend(image_id, _back_to_queued)
    except ImageNotFound:
        LOG.info("image %s was deleted during its upload", image_id)
    except GlancelikeError as error:
        LOG.warning("image %s stays saving until it is reaped: %s", image_id, error)


def _writable(context: Context, store: str | None) -> Mount:
    mount = context.mounts[store or context.mounts.default]
    if mount.read_only:
        raise Unsupported("the store is read-only", store=mount.id)
    return mount


def discard(context: Context, location: Location) -> None:
    """Delete bytes that no row names any more; what fails is left to gc."""
    try:
        context.mounts[location.store].store.delete(location.key)
    except StoreError as error:
        LOG.warning("data left in store for gc: %s", error)


def read(context: Context, caller: Caller, image_id: str, *, offset: int, length: int | None) -> Download:
    """Say how ``length`` bytes from ``offset`` on can be read."""
    image = context.get(caller, image_id)
    context.policy.check(caller, "download_image", image)
    if image.status is Status.DEACTIVATED and not caller.admin:
        raise Forbidden(f"Image {image_id} is deactivated: its data can't be downloaded")
    if not image.locations or image.size is None:
        raise NoImageData(f"Image {image_id} is {image.status} and has no data")
    if offset < 0 or (length is not None and length < 0) or (offset and offset >= image.size):
        raise InvalidRange(f"bytes from {offset} on don't lie in an image of {image.size} bytes")
    rest = image.size - offset
    path = context.mounts.local_path(image.locations)
    return Download(image, image.size, offset, rest if length is None else min(length, rest), path, context)


def open_file(context: Context, caller: Caller, image_id: str) -> ImageFile:
    """Open the data as a seekable file."""
    download = read(context, caller, image_id, offset=0, length=None)
    return ImageFile(context.mounts, download.image.locations, download.size, name=image_id)


def stores(context: Context, caller: Caller) -> tuple[StoreInfo, ...]:
    """List the mounted stores."""
    return tuple(
        StoreInfo(mount.id, mount.description, mount.id == context.mounts.default, mount.read_only)
        for mount in context.mounts
    )


def reap(context: Context) -> list[str]:
    """Return images whose upload died to queued."""
    query = Query(
        filters=(Filter("status", Op.EQ, Status.SAVING),),
        visibility="all",
        member_status="all",
        hidden=None,
        sort=(SortKey("id", descending=False),),
        limit=1000,
    )
    reaped = []
    while True:
        page = context.registry.list(query, ADMIN)
        busy = context.registry.leased([upload_lease(image.id) for image in page.images])
        for image in page.images:
            if upload_lease(image.id) not in busy and _reap_one(context, image.id):
                reaped.append(image.id)
        if page.next_marker is None:
            return reaped
        query = replace(query, marker=page.next_marker)


def _reap_one(context: Context, image_id: str) -> bool:
    lease = upload_lease(image_id)
    holder = context.leases.acquire(lease)
    if holder is None:
        return False
    try:
        context.amend(image_id, _back_to_queued)
    except (ImageNotFound, LeaseLost):
        return False
    finally:
        context.leases.release(lease, holder)
    LOG.warning("image %s: its upload died, it is queued again", image_id)
    return True
