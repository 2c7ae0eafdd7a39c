"""Resumable uploads in a directory: parts in place where they come in order.

::

    .uploads/<id>/data                       parts 1, 2, 3 and so on, each behind the one before
    .uploads/<id>/<number>@<offset>+<size>   an empty file: this part of data is complete
    .uploads/<id>/<number>                   a part that came out of order, or once more
    .uploads/<id>/sealed                     data is, or is about to be, a blob: hands off
    .uploads/<id>.gone                       being removed

A part goes into ``data`` when all before it are there and nobody else is
writing to it, which a lock tells; its record is made once the disk has it,
so that what a killed writer leaves counts for nothing and is overwritten.
Other parts are files of their own, which count more than a record, and are
moved into ``data`` at the end. An upload in order is completed by one link.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from glancelike.errors import BlobNotFound, SizeMismatch, StoreFault
from glancelike.stores.base import BlobInfo, PartInfo, Source
from glancelike.stores.descriptors import DIRECTORY, FILE, absent, entries, opened
from glancelike.stores.file.directory import PRIVATE, Directory
from glancelike.stores.file.sparse import allocated, append

_UPLOAD = re.compile(r"[0-9a-f]{64}")
_DEAD = re.compile(r"[0-9a-f]{64}\.gone")
_PART = re.compile(r"[0-9]{8}")
_RECORD = re.compile(r"(?P<number>[0-9]{8})@(?P<offset>[0-9]{1,19})\+(?P<size>[0-9]{1,19})")
_DATA, _SEALED = "data", "sealed"
_ANY = re.compile(rf"{_PART.pattern}|{_RECORD.pattern}")
_GONE = "the upload is gone"
_NEW = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Survey:
    """What there is of an upload, by part number."""

    placed: dict[int, tuple[int, int]]  # offset and size in data
    apart: frozenset[int]  # files of their own

    @property
    def numbers(self) -> list[int]:
        return sorted(self.placed.keys() | self.apart)

    @property
    def good(self) -> int:
        """How many parts from the first on are in place, and count."""
        count = 0
        while count + 1 in self.placed and count + 1 not in self.apart:
            count += 1
        return count

    @property
    def next(self) -> int | None:
        """The part that may be put behind the others; None while some of them don't count."""
        number = self.good + 1
        return number if self.good == len(self.placed) and number not in self.apart else None

    def end(self, number: int) -> int:
        """Where a part in place ends; 0 for part 0."""
        return sum(self.placed[number]) if number else 0


class Uploads:
    """The unfinished uploads of a directory; the methods are those of the contract."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def begin(self, key: str) -> str:
        # The key's digest in the id binds the two without a file that a crash could leave half written.
        upload = uuid.uuid4().hex + _digest(key)
        os.mkdir(upload, 0o700, dir_fd=self._directory.uploads)
        self._directory.sync(self._directory.uploads)
        return upload

    def knows(self, upload: str) -> bool:
        """Tell whether the upload was begun here, and isn't over."""
        if not _UPLOAD.fullmatch(upload):
            return False
        try:
            os.stat(upload, dir_fd=self._directory.uploads, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def put_part(self, key: str, upload: str, number: int, source: Source, size: int) -> PartInfo:
        # What the source raises is none of absent()'s business, so that it's only around the rest.
        with self._opened(key, upload) as parts:
            self._directory.check_room(size)
            with self._tail(parts) as data:
                if data is not None:
                    found = _survey(parts)
                    end = found.end(found.good)
                    if found.next == number and os.fstat(data).st_size >= end:
                        return self._put_in_place(parts, data, end, number, source, size)
            return self._put_apart(parts, number, source, size)

    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        with self._opened(key, upload) as parts, absent(_GONE):
            found = _survey(parts)
            return tuple(PartInfo(number, _size(parts, found, number)) for number in found.numbers)

    def complete(self, key: str, upload: str) -> BlobInfo:
        with self._opened(key, upload) as parts, absent(_GONE):
            numbers = _survey(parts).numbers
            if not numbers or numbers[-1] != len(numbers):
                told = ", ".join(map(str, numbers)) or "none"
                raise SizeMismatch(f"parts {told}: not numbered from 1 without a gap")
            with self._tail(parts) as data:
                if data is None:
                    info = self._publish_copy(key, parts)
                else:
                    self._gather(parts, data)
                    self._mark(parts, _SEALED)
                    info = self._directory.publish(key, data, parts, _DATA)
        with suppress(OSError):  # the blob is there, whatever becomes of the parts
            self._drop(upload)
        return info

    def abort(self, key: str, upload: str) -> None:
        with suppress(BlobNotFound), self._opened(key, upload):
            self._drop(upload)

    def sweep(self, before: datetime) -> int:
        """Drop the uploads that got no part since ``before``; return how many."""
        swept = 0
        for dead in entries(self._directory.uploads, _DEAD):
            self._remove(dead)
        for upload in entries(self._directory.uploads, _UPLOAD):
            with suppress(FileNotFoundError):
                if os.stat(upload, dir_fd=self._directory.uploads).st_mtime < before.timestamp():
                    self._drop(upload)
                    swept += 1
        return swept

    def _put_in_place(
        self, parts: int, data: int, at: int, number: int, source: Source, size: int
    ) -> PartInfo:
        _cut(data, at)  # what a killed writer left
        try:
            stored = self._directory.fill(data, source, size, at=at)
            self._directory.sync(data)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(data, at)
            raise
        self._mark(parts, _record(number, at, stored))
        return PartInfo(number, stored)

    def _put_apart(self, parts: int, number: int, source: Source, size: int) -> PartInfo:
        with self._directory.temp() as (fd, name):
            stored = self._directory.fill(fd, source, size)
            self._keep(parts, fd, name, number)
            return PartInfo(number, stored)

    def _keep(self, parts: int, fd: int, name: str, number: int) -> None:
        """Make a temporary file a part, in place of what there was of it."""
        self._directory.sync(fd)
        with absent(_GONE):
            self._directory.rename_temp(name, parts, _apart(number))
        self._directory.sync(parts)

    def _gather(self, parts: int, data: int) -> None:
        """Bring all parts into ``data``. At each moment each part is complete, here or there."""
        found = _survey(parts)
        behind = [number for number in found.placed if number > found.good]
        for number in behind:
            if number not in found.apart:
                # A part before it was sent again, and may have another size now.
                with self._directory.temp() as (fd, name):
                    append(fd, 0, data, *found.placed[number])
                    self._keep(parts, fd, name, number)
        for number in sorted(behind, reverse=True):
            os.unlink(_record(number, *found.placed[number]), dir_fd=parts)
        self._directory.sync(parts)
        end = found.end(found.good)
        _cut(data, end)
        for number in found.numbers[found.good :]:
            with opened(_apart(number), parts, FILE) as part:
                self._directory.check_room(allocated(part))
                at, end = end, append(data, end, part)
            self._directory.sync(data)
            self._mark(parts, _record(number, at, end - at))
            os.unlink(_apart(number), dir_fd=parts)

    def _publish_copy(self, key: str, parts: int) -> BlobInfo:
        """Publish a copy, since ``data`` is somebody else's: a writer whose client hangs, say."""
        found, end = _survey(parts), 0
        with self._directory.temp() as (fd, name):
            for number in found.numbers:
                apart = number in found.apart
                with opened(_apart(number) if apart else _DATA, parts, FILE) as part:
                    span = (0, os.fstat(part).st_size) if apart else found.placed[number]
                    self._directory.check_room(min(span[1], allocated(part)))
                    end = append(fd, end, part, *span)
            return self._directory.publish_temp(key, fd, name)

    def _mark(self, parts: int, name: str) -> None:
        with absent(_GONE):
            os.close(os.open(name, _NEW, PRIVATE, dir_fd=parts))
        self._directory.sync(parts)

    @contextmanager
    def _opened(self, key: str, upload: str) -> Iterator[int]:
        """Open the directory of an upload; its id comes from outside."""
        if not (_UPLOAD.fullmatch(upload) and upload.endswith(_digest(key))):
            raise BlobNotFound(f"no upload {upload!r}")
        with absent(f"no upload {upload!r}"):
            fd = os.open(upload, DIRECTORY, dir_fd=self._directory.uploads)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _tail(self, parts: int) -> Iterator[int | None]:
        """Open ``data`` for this caller alone; None while it is another's, or a blob."""
        with absent(_GONE):
            fd = os.open(_DATA, _NEW, PRIVATE, dir_fd=parts)
        try:
            yield fd if _locked(fd) and _ours(fd, parts) else None
        finally:
            os.close(fd)

    def _drop(self, upload: str) -> None:
        """Have the upload gone at once, then remove what it was."""
        dead = f"{upload}.gone"
        with suppress(FileNotFoundError):
            os.rename(upload, dead, src_dir_fd=self._directory.uploads, dst_dir_fd=self._directory.uploads)
            self._remove(dead)

    def _remove(self, dead: str) -> None:
        with suppress(FileNotFoundError), opened(dead, self._directory.uploads) as parts:
            while True:
                # Before the seal: who finds none must find no blob under this name, either.
                for name in (_DATA, *entries(parts, _ANY), _SEALED):
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=parts)
                try:
                    os.rmdir(dead, dir_fd=self._directory.uploads)
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:
                        raise
                    continue  # a part came in meanwhile
                return


def _survey(parts: int) -> _Survey:
    with absent(_GONE):
        names = entries(parts, _ANY)
    records = [found for name in names if (found := _RECORD.fullmatch(name))]
    placed = {int(found["number"]): (int(found["offset"]), int(found["size"])) for found in records}
    return _Survey(placed, frozenset(int(name) for name in names if _PART.fullmatch(name)))


def _size(parts: int, found: _Survey, number: int) -> int:
    if number in found.apart:
        return os.stat(_apart(number), dir_fd=parts).st_size
    return found.placed[number][1]


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ours(fd: int, parts: int) -> bool:
    """Tell whether locked data is still the upload's; in this order, since a drop goes the other way."""
    try:
        os.stat(_SEALED, dir_fd=parts)
    except FileNotFoundError:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(fd), os.stat(_DATA, dir_fd=parts))
    return False


def _cut(data: int, end: int) -> None:
    if os.fstat(data).st_size < end:
        raise StoreFault(f"the upload's data ended before {end}, where its parts end")
    os.ftruncate(data, end)


def _apart(number: int) -> str:
    return f"{number:08d}"


def _record(number: int, offset: int, size: int) -> str:
    return f"{number:08d}@{offset}+{size}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]
