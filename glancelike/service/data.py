"""Use cases of image data: upload, read, open.

Order of failure: bytes first, then the row, on write; row first, then
bytes, on delete. A crash leaves at worst a blob that no row names, which
``gc`` finds; never a row without its data.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from glancelike import lifecycle
from glancelike.errors import (
    BlobNotFound,
    Forbidden,
    ImageNotFound,
    ImageTooLarge,
    InvalidInput,
    InvalidRange,
    InvalidTransition,
    LeaseLost,
    NoImageData,
    StoreError,
)
from glancelike.model import Amounts, Caller, Image, Location, Status
from glancelike.notifications import image_payload, transfer_payload
from glancelike.service import cache, replication
from glancelike.service.context import Context, upload_lease
from glancelike.service.ingest import check_size_known, ingested, inspection_of, told_by, writable
from glancelike.service.quotas import Reservation
from glancelike.stores.base import Cap, Source
from glancelike.streams import Verified
from glancelike.transfer import Outcome
from glancelike.vfs import ImageFile, Mount

LOG = logging.getLogger(__name__)

SERVED = frozenset({Status.ACTIVE, Status.DEACTIVATED})


@dataclass(frozen=True, slots=True)
class Download:
    """Data that may be read: ``length`` bytes from ``offset`` on, of ``size``.

    ``path`` is the store's local file that holds the whole image, where
    there is one. The best way to send data is ``open_local``, where that
    gives a file; ``chunks`` works always.
    """

    image: Image
    size: int
    offset: int
    length: int
    path: Path | None
    _context: Context
    _caller: Caller

    def report(self, sent: int) -> None:
        """Tell whoever listens that ``sent`` bytes have gone to the caller."""
        told = {
            "bytes_sent": sent,
            "image_id": self.image.id,
            "owner_id": self.image.owner,
            "receiver_tenant_id": self._caller.project,
            "receiver_user_id": self._caller.user,
        }
        self._context.notify("image.send", told, error=sent != self.length)

    def chunks(self) -> Iterator[bytes]:
        """Return the bytes in blocks; raises ImageNotFound or StoreError before the first."""
        if not self.length:
            return iter(())
        image = self.image
        try:
            blocks = self._blocks(image)
        except BlobNotFound:
            # Deleted since the record was read, or moved to another store.
            image = self._context.get(self._caller, image.id)
            if image.locations == self.image.locations:
                raise
            blocks = self._blocks(image)
        if self.length == self.size and image.hash_algo and image.hash_value and self._foreign():
            return Verified(blocks, image.hash_algo, image.hash_value)
        return blocks

    def _blocks(self, image: Image) -> Iterator[bytes]:
        local = self.path is not None
        return cache.blocks(self._context, image, self.offset, self.length, local=local)

    def presigned(self) -> str | None:
        """Return a URL of the whole data in a store, good for a while for whoever has it.

        None where the setting, the image's status, or its stores don't allow
        that. Once given out it can't be taken back, whatever becomes of the image.
        """
        context, expires = self._context, self._context.settings.presigned_download_expires
        if not expires or not self.size or self.image.status is not Status.ACTIVE:
            return None
        for location in context.mounts.likely(self.image.locations):
            try:
                store = context.mounts[location.store].store
                if Cap.PRESIGN in store.capabilities:
                    return store.presign(location.key, "GET", expires)
            except StoreError as error:
                LOG.warning("image %s: no URL: %s", self.image.id, error)
        return None

    def _foreign(self) -> bool:
        """Tell whether the data may lie where others can change it."""
        stores = {mount.id for mount in self._context.mounts if Cap.URLS in mount.store.capabilities}
        return any(location.store in stores for location in self.image.locations)

    def open_local(self) -> BinaryIO | None:
        """Open a local file of the whole image, at ``offset``: the store's or the cache's.

        Raises ImageNotFound when it was deleted just now.
        """
        try:
            file = (
                self.path.open("rb") if self.path is not None else cache.open_local(self._context, self.image)
            )
        except FileNotFoundError as error:
            raise ImageNotFound(f"Image {self.image.id} was deleted just now") from error
        if file is not None:
            file.seek(self.offset)
        return file


def upload(
    context: Context, caller: Caller, image_id: str, source: Source, *, size: int | None, store: str | None
) -> Image:
    """Take the image from queued to active, with its data; see ImageService."""
    image = context.get(caller, image_id)
    context.policy.check(caller, "upload_image", image)
    mount = writable(context, store)
    if size is not None and size > context.settings.image_size_cap:
        raise ImageTooLarge(f"Image is larger than image_size_cap, {context.settings.image_size_cap} bytes")
    check_size_known(mount, size)
    _begin(image)  # raises what the upload would, with nothing taken yet
    lease = upload_lease(image_id)
    holder = context.leases.acquire(lease)
    if holder is None:
        raise InvalidTransition(f"Image {image_id} is being uploaded by somebody else")
    try:
        admitted = context.quotas.admitted
        # Looked at again: what is there to take over is known with the lease in hand.
        image = context.get(caller, image_id)
        with admitted(image.owner, Amounts(total=size or 0), name=f"upload:{image_id}") as room:
            counts = Amounts(uploading=0 if image.status is Status.SAVING else 1)
            with admitted(image.owner, counts, name=f"uploading:{image_id}") as begun:
                saving = context.amend(image_id, _begin, settles=begun.settles)
            context.notify("image.prepare", transfer_payload(saving, mount.id))
            try:
                active = _store_data(context, caller, saving, mount, source, size, lease, holder, room)
            except BaseException as error:
                context.give_up(image_id, lease, holder)
                said = f"Image {image_id}: the upload failed: {error or type(error).__name__}"
                context.notify("image.upload", said, error=True)
                raise
            context.notify("image.upload", transfer_payload(active))
            context.notify("image.activate", image_payload(active))
            replication.wanted(context, active)
            return active
    finally:
        context.leases.release(lease, holder)


def _store_data(
    context: Context,
    caller: Caller,
    image: Image,
    mount: Mount,
    source: Source,
    size: int | None,
    lease: str,
    holder: str,
    room: Reservation,
) -> Image:
    inspection = inspection_of(context, image)
    watchers = (*context.watchers_of(image, caller), *room.watchers("total", size))
    with ingested(
        context, image, mount, source, size=size, inspection=inspection, watchers=watchers
    ) as stored:
        return _activate(context, image.id, stored.location, stored.outcome, lease, holder, room)


def _activate(
    context: Context,
    image_id: str,
    location: Location,
    outcome: Outcome,
    lease: str,
    holder: str,
    room: Reservation,
) -> Image:
    def change(fresh: Image) -> Image:
        # Between reading the record and writing it the lease is confirmed:
        # had anybody taken over since, the record's version would differ.
        context.leases.confirm(lease, holder)
        if fresh.status is not Status.SAVING:
            raise LeaseLost(f"Image {image_id} is {fresh.status} by now")
        room.confirm(Amounts(total=outcome.size))
        return lifecycle.move(fresh, Status.ACTIVE, locations=(location,), **told_by(context, outcome))

    return context.amend(image_id, change, settles=room.settles)


def _begin(image: Image) -> Image:
    if not (image.disk_format and image.container_format):
        raise InvalidInput(
            f"Image {image.id}: disk_format and container_format must be set prior to saving data."
        )
    # With the lease in hand, "saving" can only be what a dead upload left:
    # it is taken over by moving the version on.
    return image if image.status is Status.SAVING else lifecycle.move(image, Status.SAVING)


def read(
    context: Context,
    caller: Caller,
    image_id: str,
    *,
    offset: int,
    length: int | None,
    prefer: Sequence[str] = (),
) -> Download:
    """Say how ``length`` bytes from ``offset`` on can be read."""
    image = context.get(caller, image_id)
    context.policy.check(caller, "download_image", image)
    if prefer:
        context.policy.check(caller, "download_from_store", image)
        for store in prefer:
            context.mounts.listed(store)
    if image.status is Status.DEACTIVATED and not caller.admin:
        raise Forbidden(f"Image {image_id} is deactivated: its data can't be downloaded")
    if image.status not in SERVED or not image.locations or image.size is None:
        raise NoImageData(f"Image {image_id} is {image.status} and has no data")
    if offset < 0 or (length is not None and length < 0) or (offset and offset >= image.size):
        raise InvalidRange(f"bytes from {offset} on don't lie in an image of {image.size} bytes")
    size, rest = image.size, image.size - offset
    locations = context.mounts.ordered(image.locations, prefer)
    image = replace(image, locations=locations)
    # Where a store is asked for, another one's file isn't good enough.
    path = context.mounts.local_path(locations[:1] if prefer else locations, size)
    some = rest if length is None else min(length, rest)
    return Download(image, size, offset, some, path, context, caller)


def open_file(context: Context, caller: Caller, image_id: str) -> ImageFile:
    """Open the data as a seekable file."""
    download = read(context, caller, image_id, offset=0, length=None)
    return ImageFile(context.mounts, download.image.locations, download.size, name=image_id)
