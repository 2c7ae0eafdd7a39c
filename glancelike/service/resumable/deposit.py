"""Where the bytes of an upload lie: whole parts, and a tail of small blobs.

A store takes parts of some MiB, clients send pieces of any size. What
doesn't make a part yet is kept as blobs of its own, joined as they get
more: each is larger than the next one, so a byte is written again only as
often as the tail doubles, however small the pieces are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from tempfile import SpooledTemporaryFile
from typing import IO

from glancelike.errors import (
    BlobNotFound,
    Conflict,
    StaleUpload,
    StoreError,
    StoreFull,
    UnknownStore,
    Unsupported,
    UploadNotFound,
)
from glancelike.model import Location, Source, Upload, UploadKind, UploadState
from glancelike.service.context import Context
from glancelike.service.ingest import new_key
from glancelike.service.resumable.sources import Joined
from glancelike.stores.base import Cap
from glancelike.stores.guard import MAX_PARTS, Guard
from glancelike.streams import ChunkSource
from glancelike.transfer import BLOCK
from glancelike.vfs import Mount

LOG = logging.getLogger(__name__)

MIB = 1 << 20
LEAST_PART = 8 * MIB  # object stores take 5 MiB at least
IN_MEMORY = LEAST_PART  # of a piece that is coming in; larger parts go through a temporary file
NEEDED = Cap.PARTS | Cap.WRITE | Cap.DELETE


def home_of(context: Context, target: Mount) -> Mount:
    """Return the mount that takes the parts: the target, or else the staging store; raise Unsupported."""
    if NEEDED in target.store.capabilities:
        return target
    try:
        if NEEDED in context.mounts.staging.store.capabilities:
            return context.mounts.staging
    except UnknownStore:
        pass
    raise Unsupported("neither the store nor the staging store can take uploads in pieces", store=target.id)


def part_size(length: int) -> int:
    """Return the size of the parts for so many bytes at most."""
    return max(LEAST_PART, -(-length // (MAX_PARTS * MIB)) * MIB)


@contextmanager
def spool(context: Context) -> Iterator[IO[bytes]]:
    """Hold a piece until it is known how long it is, since what comes may break off."""
    directory = context.settings.import_work_directory
    with SpooledTemporaryFile(max_size=IN_MEMORY, dir=directory) as file:
        yield file


def fill(file: IO[bytes], source: Source, most: int) -> tuple[int, Exception | None]:
    """Copy up to ``most`` bytes; return how many, and what the source raised."""
    count = 0
    while count < most:
        try:
            block = source.read(min(BLOCK, most - count))
        except Exception as error:  # noqa: BLE001 - what came before it is kept
            return count, error
        if not block:
            break
        try:
            file.write(block)
        except OSError as error:
            raise StoreFull(f"no room for a piece of an upload on its way: {error.strerror}") from error
        count += len(block)
    return count, None


def tail_of(store: Guard, tail: tuple[tuple[str, int], ...]) -> list[Source]:
    """Return the blobs of a tail as sources."""
    # Bound at once: the lambda is called later.
    return [ChunkSource(lambda key=key: store.read(key)) for key, _size in tail]  # type: ignore[misc]


class Deposit:
    """The bytes of one request on their way into an upload.

    ``upload`` is as it will be; ``record`` makes that true, unless somebody
    has taken the upload over. Until then nothing of it is visible, and
    ``back_out`` leaves no trace.
    """

    def __init__(self, context: Context, upload: Upload) -> None:
        self._context = context
        self._store = context.mounts[upload.home].store
        self._recorded = upload
        self._fresh: list[str] = []  # blobs that no record names yet
        self._spent: list[str] = []  # blobs that the next record won't name any more
        self.upload = upload

    def add(self, piece: IO[bytes], size: int) -> None:
        """Put the next bytes, not more than are left of a part."""
        piece.seek(0)
        if self.upload.tail_size + size == self.upload.part_size:
            self._put_part(piece)
        elif size:
            self._lengthen_tail(piece, size)

    def record(self) -> None:
        """Make what was put durable; raise StaleUpload or UploadNotFound, and keep nothing then."""
        upload = self.upload
        if upload.kind is UploadKind.PLAIN and upload.offset == upload.length:
            upload = replace(upload, state=UploadState.FULL)
        try:
            upload = self._context.registry.update_upload(upload, expect=self._recorded.version)
        except (StaleUpload, UploadNotFound):
            self.back_out()
            raise
        except BaseException:
            # It may have been recorded all the same; what wasn't is left to gc.
            self._fresh.clear()
            raise
        self._recorded = self.upload = upload
        self._fresh.clear()
        self._delete(self._spent)

    def back_out(self) -> None:
        """Remove what wasn't recorded; parts are written over by the next to come."""
        self.upload = self._recorded
        self._spent.clear()
        self._delete(self._fresh)

    def _put_part(self, piece: IO[bytes]) -> None:
        upload = self._begun()
        source = Joined([*tail_of(self._store, upload.tail), piece])
        try:
            self._store.put_part(
                upload.key, str(upload.session), upload.parts + 1, source, size=upload.part_size
            )
        except BlobNotFound as error:
            raise UploadNotFound(f"Upload {upload.id} was dropped") from error
        finally:
            source.close()
        self._spent += [key for key, _size in upload.tail]
        self.upload = replace(upload, parts=upload.parts + 1, tail=())

    def _begun(self) -> Upload:
        """Return the upload with a session of the store's."""
        if self.upload.session is None:
            session = self._store.begin(self.upload.key)
            try:
                self._recorded = self._context.registry.update_upload(
                    replace(self._recorded, session=session), expect=self._recorded.version
                )
            except (StaleUpload, UploadNotFound):
                self._store.abort(self.upload.key, session)
                raise
            self.upload = replace(self.upload, session=session)
        return self.upload

    def _lengthen_tail(self, piece: IO[bytes], size: int) -> None:
        tail = list(self.upload.tail)
        joined: list[tuple[str, int]] = []
        while tail and tail[-1][1] <= size:
            joined.insert(0, tail.pop())
            size += joined[0][1]
        key = new_key(self._store, self.upload.image_id, self.upload.owner)
        source = Joined([*tail_of(self._store, tuple(joined)), piece])
        self._fresh.append(key)
        try:
            self._store.write(key, source, size=size)
        finally:
            source.close()
        self._spent += [old for old, _size in joined]
        self.upload = replace(self.upload, tail=(*tail, (key, size)))

    def _delete(self, keys: list[str]) -> None:
        while keys:
            delete_quietly(self._context, Location(self.upload.home, keys.pop()))


def delete_quietly(context: Context, location: Location) -> None:
    """Delete a blob that may be there; what fails is left to gc."""
    try:
        context.mounts[location.store].store.delete(location.key)
    except BlobNotFound:
        pass
    except StoreError as error:
        LOG.warning("data of an upload left in its store: %s", error)


def joined(context: Context, upload: Upload) -> Location:
    """Join the parts of a complete upload into the blob under its key, if that isn't done yet.

    Raises Conflict when the store hasn't what the record says, StoreError.
    """
    store = context.mounts[upload.home].store
    location = Location(upload.home, upload.key)
    try:
        found = store.stat(upload.key).size
    except BlobNotFound:
        found = _join(store, upload)
    if found != upload.length:
        raise Conflict(f"Upload {upload.id}: its parts have {found} bytes, not {upload.length}: begin again")
    return location


def _join(store: Guard, upload: Upload) -> int:
    session = str(upload.session)
    try:
        if upload.tail:
            with_tail = Joined(tail_of(store, upload.tail))
            try:
                store.put_part(upload.key, session, upload.parts + 1, with_tail, size=upload.tail_size)
            finally:
                with_tail.close()
        there = [part.size for part in store.parts(upload.key, session)]
        rest = [upload.tail_size] if upload.tail else []
        if there != [upload.part_size] * upload.parts + rest:
            # Such as parts of a piece that was taken back and never came again.
            return sum(there)
        return store.complete(upload.key, session).size
    except BlobNotFound as error:
        raise Conflict(f"Upload {upload.id}: its store has lost it: begin again") from error


def content(context: Context, upload: Upload) -> list[Source]:
    """Return all bytes of a complete upload that has its own, as sources."""
    store = context.mounts[upload.home].store
    if upload.session is None:
        return tail_of(store, upload.tail)
    key = joined(context, upload).key
    return [ChunkSource(lambda: store.read(key))]
