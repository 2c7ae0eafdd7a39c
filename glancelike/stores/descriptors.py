"""File descriptors, directories and links, as the file store needs them.

Everything is opened relative to an open directory and follows no symbolic
link.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Self

from glancelike.errors import BlobNotFound, StoreFault
from glancelike.stores.base import BlobInfo

# NONBLOCK: a FIFO that somebody put there must not hang the server.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
DIRECTORY = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECTORY


class Blocks:
    """The iterator over an open file; owns the descriptor.

    Not a generator: closing one that was never advanced runs none of its code.
    """

    def __init__(self, fd: int, at: int, end: int, chunk: int) -> None:
        self._fd = fd
        self._at = at
        self._end = end
        self._chunk = chunk

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._fd < 0 or self._at >= self._end:
            self.close()
            raise StopIteration
        block = os.pread(self._fd, min(self._chunk, self._end - self._at), self._at)
        if not block:
            raise StoreFault(f"the file ended at {self._at}, it had {self._end} bytes")
        self._at += len(block)
        return block

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


def describe(key: str, found: os.stat_result) -> BlobInfo:
    """Describe a file as a blob; BlobNotFound when it isn't a plain file."""
    if not stat.S_ISREG(found.st_mode):
        raise BlobNotFound("what lies there isn't a blob")
    # ctime, as link() moves it: a copy is as new as it is, which gc's age limit counts on.
    return BlobInfo(
        key,
        found.st_size,
        modified=datetime.fromtimestamp(found.st_ctime, UTC),
        etag=f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}",
    )


def entries(directory: int, pattern: re.Pattern[str]) -> list[str]:
    """List the names in a directory that match as a whole."""
    # Opened anew: scanning through a shared descriptor shares the position between threads.
    with opened(".", directory) as fd:
        names = os.listdir(fd)  # noqa: PTH208 - pathlib has no descriptors
        return [name for name in names if pattern.fullmatch(name)]


@contextmanager
def opened(name: str, directory: int, flags: int = DIRECTORY) -> Iterator[int]:
    """Open something in a directory for the length of a ``with``."""
    fd = os.open(name, flags, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)


def subdirectory(name: str, root: int) -> int:
    """Open a private directory, made if missing."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=root)
    return os.open(name, DIRECTORY, dir_fd=root)


@contextmanager
def absent(message: str = "no such blob") -> Iterator[None]:
    """Turn what says that a path leads nowhere into BlobNotFound."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BlobNotFound(message) from error
    except OSError as error:
        if error.errno == errno.ELOOP:  # a symbolic link, which O_NOFOLLOW refuses
            raise BlobNotFound(message) from error
        raise
