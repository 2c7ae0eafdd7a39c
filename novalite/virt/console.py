"""Serial logs: read their end, and keep them from filling the disk."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE_AND_PUNCH_HOLE = 0x01 | 0x02  # from linux/falloc.h


def read_tail(log: Path, count: int) -> bytes:
    """Return the last ``count`` bytes of a log, reading no more than these.

    virtlogd, where it is in charge, moves a full log aside to NAME.0: the end
    may begin there. Raises FileNotFoundError when there is no log.
    """
    tail = _file_tail(log, count)
    older = log.with_name(f"{log.name}.0")
    if len(tail) < count and older.exists():
        tail = _file_tail(older, count - len(tail)) + tail
    return tail


def _file_tail(path: Path, count: int) -> bytes:
    with path.open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - count))
        # what bound() freed reads as zeros
        return log.read(count).lstrip(b"\0") if count > 0 else b""


def bound(log: Path, keep: int) -> None:
    """Give the disk back all but about the last ``keep`` bytes of a log.

    The hypervisor goes on appending meanwhile and loses nothing: the file
    keeps its length and only its front becomes a hole. A file system that
    can't do that keeps it all. Raises OSError.
    """
    stat = log.stat()
    if stat.st_blocks * 512 <= 2 * keep or stat.st_size <= keep:
        return
    descriptor = os.open(log, os.O_RDWR)
    try:
        _LIBC.fallocate(
            descriptor,
            _KEEP_SIZE_AND_PUNCH_HOLE,
            ctypes.c_long(0),
            ctypes.c_long(stat.st_size - keep),
        )
    finally:
        os.close(descriptor)
