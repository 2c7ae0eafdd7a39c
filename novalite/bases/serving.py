"""One base as its guests see it: an export, complete or not."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

from novalite.bases import orders
from novalite.bases.copying import LazyFile, Source
from novalite.bases.orders import Files, Order
from novalite.bases.trace import Recorder
from novalite.errors import NovaliteError

LOG = logging.getLogger(__name__)

_SECTOR = 512


def _whole_sectors(size: int) -> int:
    """Return a size as QEMU sees it: on one that ends within a sector its NBD client waits for ever."""
    return -(-size // _SECTOR) * _SECTOR


class CompleteBase:
    """A base whose file is complete: it is only read, and an open handle keeps it."""

    def __init__(self, files: Files, order: Order, path: Path) -> None:
        self.files = files
        self.order = order
        self.size = _whole_sectors(order.size)
        self.bad = ""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
        self._file = -1

    @property
    def inode(self) -> int:
        return os.fstat(self._file).st_ino

    def has(self, _offset: int, _length: int) -> bool:
        """Tell that no read waits."""
        return True

    def read(self, offset: int, length: int) -> bytes:
        """Return some of its bytes; raise OSError once it is known to be wrong."""
        if self.bad:
            raise OSError(errno.EIO, self.bad)
        return os.pread(self._file, length, offset).ljust(length, b"\0")


class FillingBase:
    """A base that isn't complete, or not verified: what a guest asks for is fetched."""

    def __init__(
        self, files: Files, order: Order, source: Source, read_seconds: float, patience: float = 60.0
    ) -> None:
        """Seconds: ``read_seconds`` a guest's read waits, ``patience`` is that of ``LazyFile``."""
        self.files = files
        self.order = order
        self.size = _whole_sectors(order.size)
        self.recorder = Recorder()
        self.bad = ""
        self._read_seconds = read_seconds
        self.file = LazyFile(files.lazy, files.journal, order.size, source, self._tell, patience)

    def open(self) -> None:
        """Open its files."""
        self.files.trouble.unlink(missing_ok=True)  # an earlier process's
        self.file.open()

    def close(self) -> None:
        """Close its files; reads under way fail."""
        self.file.close()

    @property
    def inode(self) -> int:
        return self.file.inode

    def has(self, offset: int, length: int) -> bool:
        """Tell whether a read is answered at once."""
        return bool(self.bad) or self.file.has(offset, self._within(offset, length))

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes, fetched where they aren't there.

        Raises OSError when they can't be had for too long, and always once the
        base is known to be wrong.
        """
        if self.bad:
            raise OSError(errno.EIO, self.bad)
        self.recorder.add(offset, length)
        try:
            seconds = 0.0 if self.file.lost else self._read_seconds
            data = self.file.read(offset, self._within(offset, length), seconds)
        except NovaliteError as error:
            raise OSError(errno.EIO, str(error)) from error
        if self.bad:
            raise OSError(errno.EIO, self.bad)
        return data.ljust(length, b"\0")

    def _within(self, offset: int, length: int) -> int:
        """Return how much of a read lies in the file: the last sector may not be whole."""
        return max(0, min(length, self.order.size - offset))

    def _tell(self, why: str, lost: bool) -> None:
        """Keep beside the base why it can't be gone on with, and whether it ever can."""
        if not why:
            LOG.info("image %s: its data comes again", self.order.image_id)
            self.files.trouble.unlink(missing_ok=True)
            return
        becomes = "are given up" if lost else "wait"
        LOG.warning("image %s: %s; guests that need more of it %s", self.order.image_id, why, becomes)
        told: dict[str, Any] = {"image": self.order.image_id, "why": why, "lost": lost}
        try:
            orders.write_json(self.files.trouble, told)
        except OSError as error:
            LOG.warning("that can't be kept: %s", error)
