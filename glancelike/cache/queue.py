"""The queue of images that are fetched before anybody asks: an empty file each."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from glancelike.cache.directory import FILE, PRIVATE, lock, sync, touch


class Queue:
    """Image ids in the order they came, kept over restarts. Methods raise OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> None:
        """Make the directory."""
        with suppress(FileExistsError):
            self._path.mkdir(0o700)

    def add(self, image_id: str) -> None:
        """Put an image at the end, durably, unless it's in the queue."""
        with suppress(FileExistsError):
            fd = os.open(self._path / image_id, FILE | os.O_CREAT | os.O_EXCL, PRIVATE)
            try:
                touch(fd)
            finally:
                os.close(fd)
            sync(self._path)

    def list(self) -> tuple[str, ...]:
        """List the images in order."""
        found = []
        with os.scandir(self._path) as files:
            for each in files:
                with suppress(FileNotFoundError):
                    found.append((each.stat(follow_symlinks=False).st_mtime_ns, each.name))
        return tuple(image_id for _, image_id in sorted(found))

    def remove(self, image_ids: Collection[str] | None = None) -> None:
        """Take images from the queue, or all."""
        for image_id in self.list():
            if image_ids is None or image_id in image_ids:
                (self._path / image_id).unlink(missing_ok=True)

    @contextmanager
    def taken_up(self, image_id: str) -> Iterator[bool]:
        """Hold an image; False when another process does, or it's gone."""
        try:
            fd = os.open(self._path / image_id, FILE)
        except FileNotFoundError:
            yield False
            return
        try:
            yield lock(fd)
        finally:
            os.close(fd)
