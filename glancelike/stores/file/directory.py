"""One directory of blobs: how they lie there, how they come and how they go."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from glancelike.errors import BlobExists, BlobNotFound, ConfigError, InvalidKey, StoreFull
from glancelike.stores.base import BlobInfo, Source
from glancelike.stores.descriptors import FILE, absent, describe, entries, opened, subdirectory
from glancelike.stores.file.sparse import allocated, append, clone, fill, preallocate

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TREE = re.compile(r"\.(?:[2-9]|[1-9][0-9]+)")
_TEMP = re.compile(r"[0-9a-f]{32}(\.link)?")
_LOCK = ".lock"
# Whatever the umask: images are the service's, not every local user's.
PRIVATE = 0o640
_NO_LINK = {errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV}


@dataclass(frozen=True, slots=True)
class Manner:
    """How blobs are written. ``mode`` 0 leaves permissions to the umask."""

    chunk: int
    fsync: bool
    reserve: int
    mode: int
    thin: bool


class Directory:
    """Keeps each blob as one file. No symbolic link below ``path`` is ever followed.

    ``claim`` is entered around the one step that gives a blob its name, and
    may raise BlobExists.
    """

    def __init__(self, path: Path, manner: Manner, *, option: str, priority: int = 0) -> None:
        self.path = path
        self.manner = manner
        self.priority = priority
        self.claim: Callable[[str], AbstractContextManager[None]] = lambda key: nullcontext()
        self.uploads = -1  # the directory of unfinished uploads
        self._option = option
        self._root = self._tmp = -1

    def open(self, *, make: bool) -> None:
        """Make what is missing, prove that blobs can be published, sweep.

        Raises ConfigError for a directory that is missing or can't be used.
        """
        try:
            if make:
                with suppress(FileExistsError):
                    self.path.mkdir()
            self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._tmp = subdirectory(".tmp", self._root)
            self.uploads = subdirectory(".uploads", self._root)
            self.sync(self._root)
            self.sweep()
            with self.temp() as (_, name):
                os.link(name, f"{name}.link", src_dir_fd=self._tmp, dst_dir_fd=self._tmp)
                os.unlink(f"{name}.link", dir_fd=self._tmp)
        except OSError as error:
            self.close()
            raise ConfigError(f"{self._option} {str(self.path)!r} can't be used: {error.strerror}") from error

    def close(self) -> None:
        """Close what is open."""
        for fd in (self._root, self._tmp, self.uploads):
            if fd >= 0:
                os.close(fd)
        self._root = self._tmp = self.uploads = -1

    @property
    def identity(self) -> tuple[int, int]:
        """Tell the file system, and the directory in it."""
        found = os.fstat(self._root)
        return found.st_dev, found.st_ino

    def sync(self, fd: int) -> None:
        """Wait until the disk has it, unless told not to."""
        if self.manner.fsync:
            os.fsync(fd)

    # Blobs

    def stat(self, key: str) -> BlobInfo:
        """Describe the blob; raise BlobNotFound when there is none."""
        *above, name = place(key)
        with absent(), self._dir(above) as parent:
            return describe(key, os.stat(name, dir_fd=parent, follow_symlinks=False))

    def open_blob(self, key: str) -> tuple[int, int]:
        """Open the blob; return the descriptor and the size."""
        *above, name = place(key)
        with absent(), self._dir(above) as parent:
            fd = os.open(name, FILE, dir_fd=parent)
        try:
            return fd, describe(key, os.fstat(fd)).size
        except BaseException:
            os.close(fd)
            raise

    def write(self, key: str, source: Source, size: int | None) -> BlobInfo:
        """Store all of ``source`` as a new blob."""
        with self.temp() as (fd, name):
            self.fill(fd, source, size)
            return self.publish_temp(key, fd, name)

    def delete(self, key: str) -> None:
        """Remove the blob, and the directories that only it needed."""
        self.stat(key)
        *above, name = place(key)
        with absent(), self._dir(above) as parent:
            os.unlink(name, dir_fd=parent)
        while len(above) > 1:
            name = above.pop()
            try:
                with self._dir(above) as parent:
                    os.rmdir(name, dir_fd=parent)
            except OSError:
                return  # it holds other blobs, or another delete was faster

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """Iterate over the blobs whose key starts with ``prefix``."""
        for name in (".1", *sorted(entries(self._root, _TREE))):
            depth = int(name[1:])
            if depth <= prefix.count("/"):
                continue
            with suppress(BlobNotFound), absent(), opened(name if depth > 1 else ".", self._root) as tree:
                yield from self._walk(tree, "", depth, prefix)

    def copy(self, source_key: str, target_key: str) -> BlobInfo:
        """Copy a blob: share its blocks, else link it, else copy its data."""
        fd, _ = self.open_blob(source_key)
        try:
            with self.temp() as (target, temp):
                if clone(target, fd):
                    return self.publish_temp(target_key, target, temp)
                *above, name = place(source_key)
                try:
                    # Blobs never change, so that two may be one file.
                    with absent(), self._dir(above) as parent:
                        return self.publish(target_key, fd, parent, name)
                except OSError as error:
                    if error.errno not in _NO_LINK:
                        raise
                self.check_room(allocated(fd))
                append(target, 0, fd)
                return self.publish_temp(target_key, target, temp)
        finally:
            os.close(fd)

    # Parts of writing, which uploads use, too

    @contextmanager
    def temp(self) -> Iterator[tuple[int, str]]:
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

    def rename_temp(self, name: str, directory: int, target: str) -> None:
        """Move a temporary file to another directory, in place of what is there."""
        os.rename(name, target, src_dir_fd=self._tmp, dst_dir_fd=directory)

    def sweep(self) -> None:
        """Remove what killed writers left; the lock tells who is alive."""
        for name in entries(self._tmp, _TEMP):
            # Over NFS only what is open for writing can be locked.
            flags = FILE | os.O_RDWR
            with suppress(FileNotFoundError, BlockingIOError), opened(name, self._tmp, flags) as fd:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=self._tmp)

    def fill(self, fd: int, source: Source, size: int | None, *, at: int = 0) -> int:
        """Write a source to a file from its end ``at`` on; return how many bytes came."""
        if size is not None and not self.manner.thin:
            preallocate(fd, at, size)
        check = self.check_room if self.manner.reserve else lambda size: None
        _, came = fill(fd, source, at=at, chunk=self.manner.chunk, thin=self.manner.thin, check=check)
        return came

    def publish(self, key: str, fd: int, directory: int, name: str) -> BlobInfo:
        """Give a complete file its final name, durably; raise BlobExists."""
        if self.manner.mode:
            os.fchmod(fd, self.manner.mode)
        self.sync(fd)
        *above, final = place(key)
        while True:
            try:
                with self._dir(above, make=True) as parent:
                    with self.claim(key):
                        os.link(name, final, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
                    self.sync(parent)
                    return describe(key, os.fstat(fd))
            except FileExistsError as error:
                raise BlobExists("the blob is there already") from error
            except FileNotFoundError:
                # A delete next door removed the emptied directory: make it again. But not for ever,
                # when it's the file itself that is gone.
                os.stat(name, dir_fd=directory, follow_symlinks=False)

    def publish_temp(self, key: str, fd: int, name: str) -> BlobInfo:
        """Publish a temporary file."""
        return self.publish(key, fd, self._tmp, name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all others, of any process, from doing what they do under this lock."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(_LOCK, flags, PRIVATE, dir_fd=self._root)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def check_room(self, size: int) -> None:
        """Raise StoreFull when ``size`` bytes don't fit."""
        free = self.free()
        if free is not None and size > free:
            raise StoreFull(f"{size} bytes don't fit: {free} are free")

    def free(self) -> int | None:
        """Tell the bytes that may be written, None where the file system can't."""
        found = os.fstatvfs(self._root)
        if not found.f_blocks:
            return None
        return max(0, found.f_bavail * found.f_frsize - self.manner.reserve)

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
                    self.sync(fd)
                fd = stack.enter_context(opened(segment, fd))
            yield fd

    def _walk(self, fd: int, above: str, depth: int, prefix: str) -> Iterator[BlobInfo]:
        segment, slash, _ = prefix[len(above) :].partition("/")
        if slash and depth > 1:
            # The prefix names the directory, so that the others need no look.
            if _SEGMENT.fullmatch(segment):
                with suppress(BlobNotFound), absent(), opened(segment, fd) as below:
                    yield from self._walk(below, f"{above}{segment}/", depth - 1, prefix)
            return
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


def place(key: str) -> list[str]:
    """Return the path of a key below the root; refuse what could leave it."""
    segments = key.split("/")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise InvalidKey("not a key")
    return segments if len(segments) == 1 else [f".{len(segments)}", *segments]
