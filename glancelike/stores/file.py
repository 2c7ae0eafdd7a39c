"""A store in a directory, crash-safe by construction.

::

    <datadir>/<key>                   keys of one segment, as Glance lays them out
    <datadir>/.2/<a>/<b>              keys of two segments, and so on: a tree for each
                                      depth, so that both "a" and "a/b" can be keys
    <datadir>/.tmp/<random>           being written; its writer holds a lock on it
    <datadir>/.uploads/<id>/<number>  complete parts of resumable uploads

A blob gets its name by link(2), which fails when the name is taken and
happens as a whole or not at all. What a killed writer leaves in ``.tmp``
the next ``open`` of any process removes. Blobs never change once named:
that is why ``copy`` may be a hard link. Joining the parts of an upload
needs the space of the blob once more until it is done, unless the file
system can share blocks.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from oslo_config import cfg

from glancelike.errors import (
    BlobExists,
    BlobNotFound,
    ConfigError,
    InvalidKey,
    InvalidRange,
    SizeMismatch,
    StoreFull,
    Unsupported,
)
from glancelike.stores.base import BlobInfo, Cap, PartInfo, Source, Store, Usage
from glancelike.stores.descriptors import (
    DIRECTORY,
    FILE,
    Blocks,
    absent,
    append,
    describe,
    entries,
    opened,
    subdirectory,
)

BLOCK = 1 << 20
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TREE = re.compile(r"\.(?:[2-9]|[1-9][0-9]+)")
_TEMP = re.compile(r"[0-9a-f]{32}(\.link)?")
_UPLOAD = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[0-9]{8}")
# Whatever the umask: images are the service's, not every local user's.
PRIVATE = 0o640
_NO_LINK = {errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV}


class FileStore(Store):
    """Keep each blob as one file below ``filesystem_store_datadir``.

    No symbolic link below the directory is ever followed.
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
            "filesystem_store_datadir",
            help="Directory the images are kept in; made when only its last part is missing.",
        ),
        cfg.IntOpt(
            "filesystem_store_chunk_size",
            default=BLOCK,
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
            help="Bytes of free space that uploads leave to others.",
        ),
    )

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        datadir = self.settings["filesystem_store_datadir"]
        if not datadir:
            raise ConfigError("filesystem_store_datadir isn't set: a file store needs a directory")
        self._path = Path(datadir).absolute()
        self._chunk: int = self.settings["filesystem_store_chunk_size"]
        self._fsync: Callable[[int], None] = (
            os.fsync if self.settings["filesystem_store_fsync"] else lambda fd: None
        )
        self._reserve: int = self.settings["filesystem_store_reserve"]
        try:
            self._mode = int(str(self.settings["filesystem_store_file_perm"]), 8)
        except ValueError as error:
            raise ConfigError(f"filesystem_store_file_perm isn't octal: {error}") from error
        self._root = self._tmp = self._uploads = -1

    @classmethod
    def settings_from_uri(cls, uri: str) -> dict[str, Any]:
        """Turn ``file:///srv/images`` into the directory's setting."""
        parts = urlsplit(uri)
        if parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment:
            raise ConfigError(
                f"{uri!r}: a file store is written with three slashes and an absolute path, "
                f"like file:///srv/images"
            )
        return {"filesystem_store_datadir": unquote(parts.path)}

    def public_properties(self) -> Mapping[str, Any]:
        return {"data_dir": str(self._path), "chunk_size": self._chunk, "thin_provisioning": False}

    def open(self) -> None:
        """Make what is missing, prove that blobs can be published, sweep.

        Raises ConfigError for a directory that is missing or can't be used.
        """
        try:
            with suppress(FileExistsError):
                self._path.mkdir()
            self._root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._tmp = subdirectory(".tmp", self._root)
            self._uploads = subdirectory(".uploads", self._root)
            self._fsync(self._root)
            self._sweep()
            with self._temp() as (_, name):
                os.link(name, f"{name}.link", src_dir_fd=self._tmp, dst_dir_fd=self._tmp)
                os.unlink(f"{name}.link", dir_fd=self._tmp)
        except OSError as error:
            self.close()
            raise ConfigError(
                f"filesystem_store_datadir {str(self._path)!r} can't be used: {error.strerror}"
            ) from error

    def close(self) -> None:
        for fd in (self._root, self._tmp, self._uploads):
            if fd >= 0:
                os.close(fd)
        self._root = self._tmp = self._uploads = -1

    def stat(self, key: str) -> BlobInfo:
        *above, name = _place(key)
        with absent(), self._dir(above) as parent:
            return describe(key, os.stat(name, dir_fd=parent, follow_symlinks=False))

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        fd, size = self._open_blob(key)
        try:
            if offset and offset >= size:
                raise InvalidRange(f"offset {offset} of {size} bytes")
            end = size if length is None else min(size, offset + length)
            if end - offset > self._chunk:
                os.posix_fadvise(fd, offset, end - offset, os.POSIX_FADV_SEQUENTIAL)
        except BaseException:
            os.close(fd)
            raise
        return Blocks(fd, offset, end, self._chunk)

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._check_absent(key)
        self._check_room(size or 0)
        with self._temp() as (fd, name):
            self._fill(fd, source)
            return self._publish(key, fd, self._tmp, name)

    def delete(self, key: str) -> None:
        """Remove the blob, and the directories that only it needed."""
        self.stat(key)
        *above, name = _place(key)
        with absent(), self._dir(above) as parent:
            os.unlink(name, dir_fd=parent)
        while len(above) > 1:
            name = above.pop()
            try:
                with self._dir(above) as parent:
                    os.rmdir(name, dir_fd=parent)
            except OSError:
                return  # it holds other blobs, or another delete was faster

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        for name in (".1", *sorted(entries(self._root, _TREE))):
            depth = int(name[1:])
            if depth <= prefix.count("/"):
                continue
            with suppress(BlobNotFound), absent(), opened(name if depth > 1 else ".", self._root) as tree:
                yield from self._walk(tree, "", depth, prefix)

    def copy(self, source_key: str, target_key: str, *, source: Store | None = None) -> BlobInfo:
        if source is not None:
            # A link would make one copy of two, which a second store is not for.
            raise Unsupported("a copy in another directory has to be written")
        fd, _ = self._open_blob(source_key)
        try:
            *above, name = _place(source_key)
            try:
                with absent(), self._dir(above) as parent:
                    return self._publish(target_key, fd, parent, name)
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
            with self._temp() as (target, name):
                append(target, fd)
                return self._publish(target_key, target, self._tmp, name)
        finally:
            os.close(fd)

    def local_path(self, key: str) -> Path:
        self.stat(key)
        return self._path.joinpath(*_place(key))

    def begin(self, key: str) -> str:
        self._check_absent(key)
        # The key's digest in the id binds the two without a file that a crash could leave half written.
        upload = uuid.uuid4().hex + _digest(key)
        os.mkdir(upload, 0o700, dir_fd=self._uploads)
        self._fsync(self._uploads)
        return upload

    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        with self._upload(key, upload) as parts:
            self._check_room(size)
            with self._temp() as (fd, name):
                stored = self._fill(fd, source)
                self._fsync(fd)
                with absent(f"upload {upload!r} is gone"):
                    os.rename(name, f"{number:08d}", src_dir_fd=self._tmp, dst_dir_fd=parts)
                self._fsync(parts)
                return PartInfo(number, stored)

    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        with self._upload(key, upload) as parts, absent(f"upload {upload!r} is gone"):
            return tuple(
                PartInfo(int(name), os.stat(name, dir_fd=parts).st_size)
                for name in sorted(entries(parts, _PART))
            )

    def complete(self, key: str, upload: str) -> BlobInfo:
        self._check_absent(key)
        with self._upload(key, upload) as parts:
            names = sorted(entries(parts, _PART))
            if not names or int(names[-1]) != len(names):
                raise SizeMismatch(f"parts {', '.join(names) or 'none'}: not numbered from 1 without a gap")
            with absent(f"upload {upload!r} is gone"):
                self._check_room(sum(os.stat(name, dir_fd=parts).st_size for name in names))
            with self._temp() as (target, temp):
                for name in names:
                    with absent(f"upload {upload!r} is gone"), opened(name, parts, FILE) as part:
                        append(target, part)
                info = self._publish(key, target, self._tmp, temp)
        with suppress(OSError):  # the blob is there, whatever becomes of the parts
            self.abort(key, upload)
        return info

    def abort(self, key: str, upload: str) -> None:
        with suppress(BlobNotFound), self._upload(key, upload):
            self._drop_upload(upload)

    def _drop_upload(self, upload: str) -> None:
        with suppress(FileNotFoundError), opened(upload, self._uploads) as parts:
            while True:
                for name in entries(parts, _PART):
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=parts)
                try:
                    os.rmdir(upload, dir_fd=self._uploads)
                except FileNotFoundError:
                    return
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:
                        raise
                    continue  # a part came in meanwhile
                return

    def sweep(self, before: datetime) -> int:
        """Remove what dead writers left, and uploads that got no part since ``before``."""
        self._sweep()
        swept = 0
        for upload in entries(self._uploads, _UPLOAD):
            with suppress(FileNotFoundError):
                if os.stat(upload, dir_fd=self._uploads).st_mtime < before.timestamp():
                    self._drop_upload(upload)
                    swept += 1
        return swept

    def usage(self) -> Usage:
        return Usage(sum(info.size for info in self.list()), self._free())

    @contextmanager
    def _dir(self, segments: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """Open a directory below the root, segment by segment."""
        with ExitStack() as stack:
            fd = self._root
            for segment in segments:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(segment, dir_fd=fd)
                    # Also when another process made it, which may have died before it got here.
                    self._fsync(fd)
                fd = stack.enter_context(opened(segment, fd))
            yield fd

    def _open_blob(self, key: str) -> tuple[int, int]:
        *above, name = _place(key)
        with absent(), self._dir(above) as parent:
            fd = os.open(name, FILE, dir_fd=parent)
        try:
            return fd, describe(key, os.fstat(fd)).size
        except BaseException:
            os.close(fd)
            raise

    @contextmanager
    def _upload(self, key: str, upload: str) -> Iterator[int]:
        """Open the directory of an upload; its id comes from outside."""
        if not (_UPLOAD.fullmatch(upload) and upload.endswith(_digest(key))):
            raise BlobNotFound(f"no upload {upload!r}")
        with absent(f"no upload {upload!r}"):
            fd = os.open(upload, DIRECTORY, dir_fd=self._uploads)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _temp(self) -> Iterator[tuple[int, str]]:
        """Make a locked file in ``.tmp``; the name is gone at the end."""
        while True:
            name = uuid.uuid4().hex
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE, dir_fd=self._tmp)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.fstat(fd).st_nlink == 0:
                    continue  # swept before it was locked
                yield fd, name
                return
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._tmp)
                os.close(fd)

    def _sweep(self) -> None:
        """Remove what killed writers left; the lock tells who is alive."""
        for name in entries(self._tmp, _TEMP):
            # Over NFS only what is open for writing can be locked.
            flags = FILE | os.O_RDWR
            with suppress(FileNotFoundError, BlockingIOError), opened(name, self._tmp, flags) as fd:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=self._tmp)

    def _fill(self, fd: int, source: Source) -> int:
        written = 0
        while block := source.read(self._chunk):
            if self._reserve:
                self._check_room(len(block))
            rest = memoryview(block)
            while rest:
                rest = rest[os.write(fd, rest) :]
            written += len(block)
        return written

    def _publish(self, key: str, fd: int, directory: int, name: str) -> BlobInfo:
        """Give a complete file its final name, durably; raise BlobExists."""
        if self._mode:
            os.fchmod(fd, self._mode)
        self._fsync(fd)
        *above, final = _place(key)
        while True:
            try:
                with self._dir(above, make=True) as parent:
                    os.link(name, final, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
                    self._fsync(parent)
                    return describe(key, os.fstat(fd))
            except FileExistsError as error:
                raise BlobExists("the blob is there already") from error
            except FileNotFoundError:
                # A delete next door removed the emptied directory: make it again. But not for ever,
                # when it's the file itself that is gone.
                os.stat(name, dir_fd=directory, follow_symlinks=False)

    def _walk(self, fd: int, above: str, depth: int, prefix: str) -> Iterator[BlobInfo]:
        with os.scandir(fd) as entries:
            for entry in entries:
                key = above + entry.name
                if not _SEGMENT.fullmatch(entry.name):
                    continue
                if depth == 1:
                    with suppress(BlobNotFound), absent():
                        if key.startswith(prefix):
                            yield describe(key, entry.stat(follow_symlinks=False))
                elif f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                    with suppress(BlobNotFound), absent(), opened(entry.name, fd) as below:
                        yield from self._walk(below, f"{key}/", depth - 1, prefix)

    def _check_absent(self, key: str) -> None:
        with suppress(BlobNotFound):
            self.stat(key)
            raise BlobExists("the blob is there already")

    def _check_room(self, size: int) -> None:
        free = self._free()
        if free is not None and size > free:
            raise StoreFull(f"{size} bytes don't fit: {free} are free")

    def _free(self) -> int | None:
        found = os.fstatvfs(self._root)
        if not found.f_blocks:
            return None  # some file systems can't tell
        return max(0, found.f_bavail * found.f_frsize - self._reserve)


def _place(key: str) -> list[str]:
    """Return the path of a key below the root; refuse what could leave it."""
    segments = key.split("/")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise InvalidKey("not a key")
    return segments if len(segments) == 1 else [f".{len(segments)}", *segments]


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]
