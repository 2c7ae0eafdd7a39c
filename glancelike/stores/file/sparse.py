"""Holes: runs of zeros that take no space, when data is written and when it is copied."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable, Iterator

from glancelike.errors import StoreFault
from glancelike.stores.base import Source

# What is compared, and left out, at once: coarse enough that looking costs nothing beside writing,
# and a multiple of every file system's blocks.
GRAIN = 64 << 10
BLOCK = 1 << 20
_ZEROS = bytes(GRAIN)
_FICLONE: int = getattr(fcntl, "FICLONE", 0x40049409)
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_COPY_RANGE = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def data_spans(block: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Yield the spans of a block that aren't zeros; ``at`` is its place in the file."""
    start = here = 0
    while here < len(block):
        step = min(len(block) - here, GRAIN - (at + here) % GRAIN)
        if block.startswith(_ZEROS if step == GRAIN else _ZEROS[:step], here):
            if start < here:
                yield start, here
            start = here + step
        here += step
    if start < here:
        yield start, here


def fill(
    fd: int, source: Source, *, at: int, chunk: int, thin: bool, check: Callable[[int], None]
) -> tuple[int, int]:
    """Write a whole source from ``at`` on, the file's end; return the new end, and the bytes that came.

    With ``thin`` runs of zeros become holes. ``check`` is asked before so
    many bytes are written.
    """
    end = at
    while block := source.read(chunk):
        view = memoryview(block)
        for start, stop in data_spans(block, end) if thin else ((0, len(block)),):
            check(stop - start)
            _write(fd, view[start:stop], end + start)
        end += len(block)
    os.ftruncate(fd, end)  # also when it ends in a hole, or when more was preallocated
    return end, end - at


def append(target: int, at: int, source: int, start: int = 0, size: int | None = None) -> int:
    """Copy ``size`` bytes of a file, or all, to the end ``at`` of another; return the new end.

    Holes stay holes, and the kernel shares the blocks where it can.
    """
    stop = os.fstat(source).st_size if size is None else start + size
    here = start
    while here < stop:
        try:
            data = os.lseek(source, here, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # nothing but a hole is left
        if data >= stop:
            break
        here = min(stop, os.lseek(source, data, os.SEEK_HOLE))
        _copy(source, data, target, at + data - start, here - data)
    end = at + stop - start
    os.ftruncate(target, end)
    return end


def allocated(fd: int) -> int:
    """Tell the bytes that a file takes on the disk."""
    return os.fstat(fd).st_blocks * 512


def clone(target: int, source: int) -> bool:
    """Share all blocks of a file with an empty one; tell whether the file system can do that."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _FULL:
            raise
        return False
    return True


def preallocate(fd: int, at: int, size: int) -> None:
    """Take the space for ``size`` bytes now, where the file system can.

    Not posix_fallocate, which writes to each block where it can't.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if size and libc.fallocate(fd, _KEEP_SIZE, ctypes.c_int64(at), ctypes.c_int64(size)):
        number = ctypes.get_errno()
        if number in _FULL:
            raise OSError(number, os.strerror(number))


def _write(fd: int, rest: memoryview, at: int) -> None:
    while rest:
        written = os.pwrite(fd, rest, at)
        rest = rest[written:]
        at += written


def _copy(source: int, start: int, target: int, at: int, size: int) -> None:
    while size:
        try:
            copied = os.copy_file_range(source, target, min(size, 1 << 30), start, at)
        except OSError as error:
            if error.errno not in _NO_COPY_RANGE:
                raise
            block = os.pread(source, min(size, BLOCK), start)
            _write(target, memoryview(block), at)
            copied = len(block)
        if not copied:
            raise StoreFault(f"the file ended at {start}, {size} bytes more were expected")
        start, at, size = start + copied, at + copied, size - copied
