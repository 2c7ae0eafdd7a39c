"""A store in one directory or several, crash-safe by construction.

::

    <datadir>/<key>           keys of one segment, as Glance lays them out
    <datadir>/.2/<a>/<b>      keys of two segments, and so on: a tree for each depth,
                              so that both "a" and "a/b" can be keys
    <datadir>/.tmp/<random>   being written; its writer holds a lock on it
    <datadir>/.uploads/<id>   a resumable upload: see ``uploads``
    <datadir>/.lock           held while a blob gets its name, where there are several directories

A blob gets its name by link(2), which fails when the name is taken and
happens as a whole or not at all. What a killed writer leaves in ``.tmp``
the next ``open`` of any process removes. Blobs never change once named:
that is why ``copy`` may be a hard link.

Of several directories none may get a key that another one has. So a blob
is linked under a lock on all of them, with a look into all: the lock ends
with its holder, and no source is read meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from oslo_config import cfg

from glancelike.errors import BlobExists, BlobNotFound, ConfigError, InvalidRange, StoreFull, Unsupported
from glancelike.stores.base import BlobInfo, Cap, PartInfo, Source, Store, Usage
from glancelike.stores.descriptors import Blocks
from glancelike.stores.file.directory import Directory, Manner, place
from glancelike.stores.file.uploads import Uploads

DATADIR, DATADIRS = "filesystem_store_datadir", "filesystem_store_datadirs"


class FileStore(Store):
    """Keep each blob as one file below ``filesystem_store_datadir``, or one of several.

    No symbolic link below a directory is ever followed.
    """

    schemes = ("file",)
    capabilities = (
        Cap.RANGE
        | Cap.WRITE
        | Cap.UNKNOWN_SIZE
        | Cap.DELETE
        | Cap.LIST
        | Cap.COPY
        | Cap.LOCAL
        | Cap.PARTS
        | Cap.USAGE
    )
    options = (
        cfg.StrOpt(
            DATADIR,
            help="Directory the images are kept in; made when only its last part is missing.",
        ),
        cfg.MultiStrOpt(
            DATADIRS,
            help="Instead of filesystem_store_datadir, once for each of several directories, which must "
            "exist: PATH or PATH:PRIORITY. An image goes where the priority (0 if there is none) is highest "
            "of those it fits into, then where most is free. All servers need the same list.",
        ),
        cfg.IntOpt(
            "filesystem_store_chunk_size",
            default=1 << 20,
            min=1,
            help="Bytes read or written at once.",
        ),
        cfg.IntOpt(
            "filesystem_store_file_perm",
            default=0,
            help="Permissions of image files, in octal digits such as 644; 0 lets owner and group read, "
            "as far as the umask does.",
        ),
        cfg.BoolOpt(
            "filesystem_store_fsync",
            default=True,
            help="Wait for the disk before an image counts as stored. Without it a power cut may "
            "leave images that are shorter than recorded.",
        ),
        cfg.IntOpt(
            "filesystem_store_reserve",
            default=0,
            min=0,
            help="Bytes of free space, in each directory, that uploads leave to others.",
        ),
        cfg.BoolOpt(
            "filesystem_thin_provisioning",
            default=True,
            help="Let runs of zeros, from 64 KiB on, take no space. Without it the space of an image whose "
            "size is known is taken before its data comes.",
        ),
    )

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        one, several = self.settings[DATADIR], self.settings[DATADIRS]
        if bool(one) == bool(several):
            both = f"set both, and needs one of {DATADIR} and {DATADIRS}"
            neither = f"isn't set, nor is {DATADIRS}: a file store needs a directory"
            raise ConfigError(f"{DATADIR} is {both}" if one else f"{DATADIR} {neither}")
        try:
            mode = int(str(self.settings["filesystem_store_file_perm"]), 8)
        except ValueError as error:
            raise ConfigError(f"filesystem_store_file_perm isn't octal: {error}") from error
        self._manner = Manner(
            chunk=self.settings["filesystem_store_chunk_size"],
            fsync=self.settings["filesystem_store_fsync"],
            reserve=self.settings["filesystem_store_reserve"],
            mode=mode,
            thin=self.settings["filesystem_thin_provisioning"],
        )
        option = DATADIR if one else DATADIRS
        self._directories = [
            Directory(Path(path).absolute(), self._manner, option=option, priority=priority)
            for path, priority in ([(one, 0)] if one else map(_prioritized, several))
        ]
        self._directories.sort(key=lambda each: -each.priority)
        if several:
            for directory in self._directories:
                directory.claim = self._claim
        self._uploads = [Uploads(directory) for directory in self._directories]

    @classmethod
    def settings_from_uri(cls, uri: str) -> dict[str, Any]:
        """Turn ``file:///srv/images`` into the directory's setting."""
        parts = urlsplit(uri)
        if parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment:
            raise ConfigError(
                f"{uri!r}: a file store is written with three slashes and an absolute path, "
                f"like file:///srv/images"
            )
        return {DATADIR: unquote(parts.path)}

    def public_properties(self) -> Mapping[str, Any]:
        paths = [str(each.path) for each in self._directories]
        return {
            "data_dir": paths[0] if self.settings[DATADIR] else paths,
            "chunk_size": self._manner.chunk,
            "thin_provisioning": self._manner.thin,
        }

    def open(self) -> None:
        try:
            for directory in self._directories:
                # One that is missing among several may be a disk that isn't mounted.
                directory.open(make=bool(self.settings[DATADIR]))
            if len({each.identity for each in self._directories}) < len(self._directories):
                raise ConfigError(f"{DATADIRS}: two of them are the same directory")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for directory in self._directories:
            directory.close()

    def stat(self, key: str) -> BlobInfo:
        return self._holder(key)[1]

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        fd, size = self._holder(key)[0].open_blob(key)
        try:
            if offset and offset >= size:
                raise InvalidRange(f"offset {offset} of {size} bytes")
            end = size if length is None else min(size, offset + length)
            if end - offset > self._manner.chunk:
                os.posix_fadvise(fd, offset, end - offset, os.POSIX_FADV_SEQUENTIAL)
        except BaseException:
            os.close(fd)
            raise
        return Blocks(fd, offset, end, self._manner.chunk)

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._check_absent(key)
        return self._roomy(size or 0)[0].write(key, source, size)

    def delete(self, key: str) -> None:
        self._holder(key)[0].delete(key)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        for directory in self._directories:
            yield from directory.list(prefix)

    def copy(self, source_key: str, target_key: str, *, source: Store | None = None) -> BlobInfo:
        if source is not None:
            # Shared blocks would make one copy of two, which a second store is not for.
            raise Unsupported("a copy in another store's directory has to be written")
        return self._holder(source_key)[0].copy(source_key, target_key)

    def local_path(self, key: str) -> Path:
        return self._holder(key)[0].path.joinpath(*place(key))

    def key_of_location(self, url: str) -> str | None:
        """Recognise ``file:///<datadir>/<image id>``, whose path Glance doesn't quote."""
        scheme, found, path = url.partition("://")
        if not found or scheme not in ("file", "filesystem"):
            return None
        where = Path(path)
        # By path first; realpath for a directory that one of the two knows by a link.
        for same in (Path.absolute, Path.resolve):
            if same(where.parent) in (same(each.path) for each in self._directories):
                return where.name
        return None

    def begin(self, key: str) -> str:
        self._check_absent(key)
        return self._roomy(0)[1].begin(key)

    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        return self._uploads_with(upload).put_part(key, upload, number, source, size)

    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        return self._uploads_with(upload).parts(key, upload)

    def complete(self, key: str, upload: str) -> BlobInfo:
        self._check_absent(key)
        return self._uploads_with(upload).complete(key, upload)

    def abort(self, key: str, upload: str) -> None:
        with suppress(BlobNotFound):
            self._uploads_with(upload).abort(key, upload)

    def sweep(self, before: datetime) -> int:
        """Remove what dead writers left, and uploads that got no part since ``before``."""
        for directory in self._directories:
            directory.sweep()
        return sum(uploads.sweep(before) for uploads in self._uploads)

    def usage(self) -> Usage:
        # Directories on one file system share what is free.
        free = {each.identity[0]: each.free() for each in self._directories}
        known = [size for size in free.values() if size is not None]
        return Usage(sum(info.size for info in self.list()), sum(known) if known else None)

    def _holder(self, key: str) -> tuple[Directory, BlobInfo]:
        """Find the directory that has a blob; raise BlobNotFound."""
        missing: BlobNotFound | None = None
        for directory in self._directories:
            try:
                return directory, directory.stat(key)
            except BlobNotFound as error:
                missing = missing or error
        assert missing is not None  # noqa: S101 - there is one directory at least
        raise missing

    def _roomy(self, size: int) -> tuple[Directory, Uploads]:
        """Choose where a new blob goes; raise StoreFull."""
        pairs = list(zip(self._directories, self._uploads, strict=True))
        if len(pairs) > 1:
            free = {pair: pair[0].free() for pair in pairs}
            # Of unknown size is one byte at least. What can't tell its space has some.
            fits = [pair for pair in pairs if (room := free[pair]) is None or room >= max(size, 1)]
            if not fits:
                most = max(room for room in free.values() if room is not None)
                raise StoreFull(f"{size} bytes don't fit: {most} are free in the emptiest directory")
            return max(fits, key=lambda pair: (pair[0].priority, free[pair] or 0))
        pairs[0][0].check_room(size)
        return pairs[0]

    def _uploads_with(self, upload: str) -> Uploads:
        for uploads in self._uploads:
            if uploads.knows(upload):
                return uploads
        raise BlobNotFound(f"no upload {upload!r}")

    def _check_absent(self, key: str) -> None:
        with suppress(BlobNotFound):
            self.stat(key)
            raise BlobExists("the blob is there already")

    @contextmanager
    def _claim(self, key: str) -> Iterator[None]:
        """Keep all others from naming blobs; raise BlobExists when a directory has the key."""
        with ExitStack() as stack:
            # In one order, or two processes could wait for each other. All of them, so that
            # servers whose lists differ, while one is added, still share a lock.
            for directory in sorted(self._directories, key=lambda each: each.path):
                stack.enter_context(directory.locked())
            self._check_absent(key)
            yield


def _prioritized(entry: str) -> tuple[str, int]:
    """Take ``/path:priority`` apart; raise ConfigError."""
    path, colon, priority = entry.rpartition(":")
    if not colon:
        return entry, 0
    if not path or not priority.removeprefix("-").isdecimal():
        raise ConfigError(f"{DATADIRS}: {entry!r} isn't PATH or PATH:PRIORITY, with a whole number")
    return path, int(priority)
