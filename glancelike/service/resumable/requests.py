"""What callers may do with uploads in pieces."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType

from glancelike.errors import (
    ChecksumMismatch,
    Conflict,
    Forbidden,
    ImageTooLarge,
    InvalidInput,
    InvalidTransition,
    SizeMismatch,
    StaleUpload,
    UploadNotFound,
)
from glancelike.model import Caller, Image, Source, Status, Upload, UploadKind, UploadState, utcnow
from glancelike.service.context import AMEND_ATTEMPTS, Context
from glancelike.service.ingest import new_key, writable
from glancelike.service.resumable import deposit as places
from glancelike.service.resumable.deposit import Deposit
from glancelike.service.resumable.finish import UNDER_WAY, begin, finish
from glancelike.service.resumable.upkeep import drop, hold_room, lifetime, partial_size

# Names of digests, as tus writes them and as hashlib does.
CHECKSUMS: Mapping[str, str] = MappingProxyType(
    {"sha1": "sha1", "sha256": "sha256", "sha512": "sha512", "md5": "md5"}
)


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a piece must have as its digest: a name of CHECKSUMS and the value."""

    algorithm: str
    value: bytes


def create(
    context: Context,
    caller: Caller,
    image_id: str,
    *,
    length: int | None,
    kind: UploadKind = UploadKind.PLAIN,
    joins: tuple[str, ...] = (),
    metadata: str = "",
    store: str | None = None,
) -> Upload:
    """Begin an upload; see ImageService.create_upload."""
    image = image_for(context, caller, image_id)
    check_ready(image)
    mount = writable(context, store)
    if kind is UploadKind.FINAL:
        length = _joined_length(context, image_id, joins)
    check_length(context, length)
    now = utcnow()
    home = places.home_of(context, mount)
    upload = Upload(
        id=str(uuid.uuid4()),
        image_id=image_id,
        store=mount.id,
        home=home.id,
        key=new_key(home.store, image_id, image.owner),
        part_size=places.part_size(context.settings.image_size_cap if length is None else length),
        kind=kind,
        state=UploadState.FULL if _is_full(kind, length) else UploadState.OPEN,
        owner=image.owner,
        length=length,
        joins=joins,
        metadata=metadata,
        created_at=now,
        expires_at=now + lifetime(context),
    )
    upload = context.registry.create_upload(upload)
    try:
        if kind is not UploadKind.FINAL:
            hold(context, image, upload, length or 0)
    except BaseException:
        drop(context, upload)
        raise
    return finish(context, caller, image, upload) if upload.state is UploadState.FULL else upload


def _is_full(kind: UploadKind, length: int | None) -> bool:
    return kind is UploadKind.FINAL or (kind is UploadKind.PLAIN and length == 0)


def show(context: Context, caller: Caller, image_id: str, upload_id: str) -> Upload:
    """Return an upload of an image; see ImageService.show_upload."""
    for _attempt in range(AMEND_ATTEMPTS):
        image, upload = _in_pieces(context, caller, image_id, upload_id)
        with suppress(StaleUpload):
            if upload.state is UploadState.OPEN and upload.kind is not UploadKind.FINAL:
                # Who asks goes on from there, so whoever still writes must not move it any more.
                return context.registry.update_upload(upload, expect=upload.version)
            if upload.state is UploadState.FULL:
                # Its process died right here: who asks, wants it to go on.
                begin(context, caller, image, upload)
            return upload
    raise Conflict(f"Upload {upload_id} is being written to: try again")


def take(
    context: Context,
    caller: Caller,
    image_id: str,
    upload_id: str,
    source: Source,
    *,
    offset: int,
    size: int | None,
    length: int | None = None,
    checksum: Checksum | None = None,
) -> Upload:
    """Take the next bytes of an upload; see ImageService.continue_upload."""
    image, upload = _in_pieces(context, caller, image_id, upload_id)
    if upload.kind is UploadKind.FINAL:
        raise Forbidden(f"Upload {upload_id} joins others: it takes no bytes")
    if offset != upload.offset:
        raise Conflict(f"Upload {upload_id} has {upload.offset} bytes: it can't go on at {offset}")
    if upload.state in (UploadState.FINISHING, UploadState.DONE):
        if size == 0:
            return upload
        raise Conflict(f"Upload {upload_id} is complete")
    check_wanted(context, image, upload)
    upload = replace(upload, length=_agreed_length(context, upload, length))
    most = (context.settings.image_size_cap if upload.length is None else upload.length) - offset
    if size is not None and size > most:
        raise ImageTooLarge(f"Upload {upload_id}: {size} bytes more are too many, {most} are to come")
    hold(context, image, upload, offset + (size or 0))
    # Whoever still writes to this upload, most likely for a client that is gone, can't any more.
    deposit = Deposit(context, context.registry.update_upload(upload, expect=upload.version))
    watched = _Checked(source, checksum)
    try:
        _take_in(context, image, deposit, watched, most)
    except BaseException:
        deposit.back_out()
        raise
    if size is not None and watched.count < size:
        raise SizeMismatch(f"The request body broke off after {watched.count} of {size} bytes")
    done = deposit.upload
    return finish(context, caller, image, done) if done.state is UploadState.FULL else done


def _take_in(context: Context, image: Image, deposit: Deposit, source: _Checked, most: int) -> None:
    """Take all that comes; what is there when it breaks off is kept, unless it has a checksum."""
    while True:
        upload = deposit.upload
        wanted = min(upload.part_size - upload.tail_size, most - source.count)
        with places.spool(context) as piece:
            count, failure = places.fill(piece, source, wanted)
            if failure is None and source.count == most and source.read(1):
                raise InvalidInput(f"Upload {upload.id}: more came than the {most} bytes that were to come")
            if upload.length is None:
                hold(context, image, upload, upload.offset + count)
            deposit.add(piece, count)
        ended = failure is not None or count < wanted or source.count == most
        if source.checksum is None or (ended and failure is None and source.verified()):
            deposit.record()
        if failure is not None:
            raise failure
        if ended:
            break


def terminate(context: Context, caller: Caller, image_id: str, upload_id: str) -> None:
    """Drop an upload with its bytes; see ImageService.delete_upload."""
    for _attempt in range(AMEND_ATTEMPTS):
        _image, upload = found(context, caller, image_id, upload_id)
        if upload.state is UploadState.FINISHING:
            raise Conflict(f"Upload {upload_id} is complete, and about to be the image's data")
        try:
            drop(context, upload)
        except StaleUpload:
            continue
        return
    raise Conflict(f"Upload {upload_id} is being written to: try again")


class _Checked:
    """A source that counts, and knows whether it was what its checksum says."""

    def __init__(self, source: Source, checksum: Checksum | None) -> None:
        self._source = source
        self.checksum = checksum
        self.count = 0
        self._digest = None
        if checksum is not None:
            self._digest = hashlib.new(CHECKSUMS[checksum.algorithm], usedforsecurity=False)

    def read(self, size: int, /) -> bytes:
        block = self._source.read(size)
        self.count += len(block)
        if self._digest is not None:
            self._digest.update(block)
        return block

    def verified(self) -> bool:
        """Return True; raise ChecksumMismatch."""
        told, found = self.checksum, self._digest
        if told is not None and found is not None and found.digest() != told.value:
            raise ChecksumMismatch(f"the piece's {told.algorithm} isn't what Upload-Checksum says")
        return True


def image_for(context: Context, caller: Caller, image_id: str) -> Image:
    """Return an image that the caller may upload to; raise ImageNotFound, Forbidden."""
    image = context.get(caller, image_id)
    context.policy.check(caller, "upload_image", image)
    return image


def found(context: Context, caller: Caller, image_id: str, upload_id: str) -> tuple[Image, Upload]:
    """Return an upload that the caller may go on with, of whatever kind; raise UploadNotFound."""
    image = image_for(context, caller, image_id)
    upload = context.registry.get_upload(upload_id)
    if upload.image_id != image_id or (upload.expires_at <= utcnow() and upload.state is UploadState.OPEN):
        raise UploadNotFound(f"upload {upload_id!r} not found")
    return image, upload


def _in_pieces(context: Context, caller: Caller, image_id: str, upload_id: str) -> tuple[Image, Upload]:
    image, upload = found(context, caller, image_id, upload_id)
    if upload.kind is UploadKind.PRESIGNED:
        raise UploadNotFound(f"upload {upload_id!r} not found")
    return image, upload


def check_ready(image: Image) -> None:
    """Raise InvalidInput or InvalidTransition unless the image can get data."""
    if not (image.disk_format and image.container_format):
        raise InvalidInput(
            f"Image {image.id}: disk_format and container_format must be set prior to saving data."
        )
    if image.status is not Status.QUEUED:
        raise InvalidTransition(f"Image {image.id} is {image.status}: it takes no upload")


def check_wanted(context: Context, image: Image, upload: Upload) -> None:
    """Raise InvalidTransition where other data was faster; of what can't win any more nothing stays."""
    if image.status is Status.QUEUED:
        return
    if image.status not in UNDER_WAY:
        with suppress(StaleUpload):
            drop(context, upload)
    raise InvalidTransition(f"Image {image.id} is {image.status}: other data was faster")


def check_length(context: Context, length: int | None) -> None:
    """Raise ImageTooLarge."""
    if length is not None and length > context.settings.image_size_cap:
        raise ImageTooLarge(f"Image is larger than image_size_cap, {context.settings.image_size_cap} bytes")


def _agreed_length(context: Context, upload: Upload, told: int | None) -> int | None:
    if told is None or told == upload.length:
        return upload.length
    if upload.length is not None:
        raise InvalidInput(f"Upload {upload.id} is to have {upload.length} bytes, not {told}")
    if told < upload.offset:
        raise InvalidInput(f"Upload {upload.id} has {upload.offset} bytes already, more than {told}")
    check_length(context, told)
    return told


def _joined_length(context: Context, image_id: str, joins: tuple[str, ...]) -> int:
    if not joins:
        raise InvalidInput("a final upload has to name the partial ones")
    if len(set(joins)) != len(joins):
        raise InvalidInput("a final upload names a partial one twice")
    total = 0
    for each in joins:
        part = context.registry.get_upload(each)
        if part.image_id != image_id:
            raise UploadNotFound(f"upload {each!r} not found")
        if part.kind is not UploadKind.PARTIAL:
            raise InvalidInput(f"upload {each} isn't a partial one")
        if part.length is None or part.offset != part.length:
            raise Conflict(f"upload {each} isn't complete: it has {part.offset} bytes")
        total += part.length
    return total


def hold(context: Context, image: Image, upload: Upload, size: int) -> None:
    """Reserve room for the upload: its length, or what is known to come."""
    wanted = max(size, upload.length or 0)
    if upload.kind is UploadKind.PARTIAL:
        wanted = max(wanted, partial_size(context, image.id))
    hold_room(context, upload, image.owner, wanted)
