"""The process: one a cache directory, serving and filling its bases.

It ends by itself when nobody is connected and nothing is to be filled; a compute
worker keeps a connection, and starts it where there is none.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import IO

from glancelike.ending import Ending
from novalite.bases import filling, orders, trace
from novalite.bases.filling import Filler
from novalite.bases.nbd import Export, NbdServer
from novalite.bases.orders import Files, Order
from novalite.bases.serving import CompleteBase, FillingBase
from novalite.bases.settings import BasesSettings
from novalite.errors import ConfigError, NovaliteError
from novalite.images.http import HttpImages
from novalite.virt.disks import ImageCache

LOG = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_IDLE_SECONDS = 10.0
_TAKE_OVER_SECONDS = 10.0


class ImageSource:
    """An image's bytes from the image service."""

    def __init__(self, images: HttpImages, order: Order) -> None:
        self._images = images
        self._image = order.image

    def read(self, offset: int, length: int) -> bytes:
        """Return some bytes; raise ImageServiceDown, ImageMissing or ImageUnusable."""
        return self._images.read_range(self._image, offset, length)


class Bases:
    """All bases of a cache that aren't mere files."""

    def __init__(self, settings: BasesSettings) -> None:
        self._settings = settings
        self._directory = settings.directory
        self._cache = ImageCache(settings.directory)
        self._images = HttpImages(settings.glance)
        self._served: dict[str, CompleteBase | FillingBase] = {}
        self._fillers: dict[str, Filler] = {}
        self._asked: dict[str, float] = {}
        self._lock = threading.Lock()
        self.server = NbdServer(self._directory / orders.SOCKET, self.find)

    def open(self) -> None:
        """Serve, and go on with what an earlier process has left."""
        self._images.open()
        self.server.open()
        self.look()

    def close(self) -> None:
        """End all connections; what is there is kept."""
        self.server.close()
        with self._lock:
            for filler in self._fillers.values():
                filler.stop()
            for base in self._served.values():
                if isinstance(base, FillingBase):
                    base.close()  # ends waiting
            for filler in self._fillers.values():
                filler.thread.join(5.0)
        self._images.close()

    def find(self, name: str) -> Export | None:
        """Return what is exported under a name, opening it where it isn't."""
        key, _, token = name.rpartition(".")
        if not key or "/" in key:
            return None
        with self._lock:
            if name in self._served:
                self._asked[name] = time.monotonic()
                return self._served[name]
            order = orders.read(Files(self._directory, key).order)
            if order is None or order.key != key or order.token != token:
                return None
            return self._open(order)

    def look(self) -> bool:
        """Take up orders that nobody has asked for; tell whether there is something to do."""
        for order in orders.all_in(self._directory):
            if Files(self._directory, order.key).lazy.exists():
                self.find(order.export)
        with self._lock:
            for name in [name for name, filler in self._fillers.items() if not filler.thread.is_alive()]:
                del self._fillers[name]
            for name, base in list(self._served.items()):
                # One who has just asked for it isn't its client yet.
                idle = time.monotonic() - self._asked[name] > _IDLE_SECONDS
                if idle and name not in self._fillers and not self.server.clients(base):
                    base.close()
                    del self._served[name], self._asked[name]
            return bool(self._fillers)

    def _open(self, order: Order) -> Export | None:
        files = Files(self._directory, order.key)
        try:
            with self._cache.locked(order.key):
                if files.bad(order.token).exists():
                    filling.forget(files)
                    return None
                if self._cache.lookup(order.key) is not None:
                    filling.forget_lazy(files)  # an earlier process was killed when all was done
                    return self._serve(order, CompleteBase(files, order, files.base))
                if not files.lazy.exists():
                    LOG.warning("the base of image %s is gone", order.image_id)
                    return None
            base = self._made(files, order)
        except OSError as error:
            LOG.warning("the base of image %s can't be served: %s", order.image_id, error)
            return None
        filler = Filler(base, self._cache, self._settings.lazy, lambda text: self._tell_trace(order, text))
        self._fillers[order.export] = filler
        filler.start()
        return self._serve(order, base)

    def _made(self, files: Files, order: Order) -> CompleteBase | FillingBase:
        if order.local:
            return CompleteBase(files, order, files.lazy)
        source = ImageSource(self._images, order)
        lazy = self._settings.lazy
        base = FillingBase(files, order, source, lazy.read_timeout, lazy.missing_timeout)
        base.open()
        return base

    def _serve(self, order: Order, base: CompleteBase | FillingBase) -> Export:
        self._served[order.export] = base
        self._asked[order.export] = time.monotonic()
        return base

    def _tell_trace(self, order: Order, text: str) -> None:
        """Leave a trace with the image, for other hosts, where we may and there is none."""
        if order.trace:
            return
        try:
            self._images.tell_property(order.image, trace.PROPERTY, text)
        except NovaliteError as error:
            LOG.info("image %s: its boot's trace stays on this host: %s", order.image_id, error)


def run(settings: BasesSettings) -> int:
    """Serve until there is nothing to do, or SIGTERM; return the exit status."""
    settings.directory.mkdir(parents=True, exist_ok=True, mode=0o711)
    lock = _take(settings.directory)
    if lock is None:
        LOG.info("another process serves %s", settings.directory)
        return 0
    ended = Ending()
    with lock:
        bases = Bases(settings)
        bases.open()
        LOG.info("serving %s", settings.directory)
        try:
            busy_at = time.monotonic()
            while not ended.wait(_LOOK_SECONDS):
                if bases.look() or bases.server.clients():
                    busy_at = time.monotonic()
                elif time.monotonic() - busy_at > _IDLE_SECONDS:
                    LOG.info("there is nothing to do any more")
                    break
                if not (settings.directory / orders.LOCK).exists():
                    LOG.info("%s is gone", settings.directory)
                    break
        finally:
            bases.close()
    return 0


def _take(directory: Path) -> IO[str] | None:
    """Take the directory's lock, which one process has; None when it keeps it."""
    lock = (directory / orders.LOCK).open("a+")
    until = time.monotonic() + _TAKE_OVER_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > until or _answers(directory):
                lock.close()
                return None
            time.sleep(0.05)
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _answers(directory: Path) -> bool:
    from novalite.bases.keeper import connect

    connection = connect(directory)
    if connection is None:
        return False
    connection.close()
    return True


def main(argv: list[str] | None = None) -> int:
    """Run ``novalite-bases --config-file FILE``, or with ``--told`` on what standard input says."""
    arguments = sys.argv[1:] if argv is None else argv
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        if arguments == ["--told"]:
            settings = BasesSettings.from_json(sys.stdin.read())
            if os.fork():
                # Nobody's child: who started it needn't be there when it ends.
                os._exit(0)
            os.setsid()
        else:
            from novalite.config import load

            settings = BasesSettings.of(load(arguments))
        return run(settings)
    except (ConfigError, OSError) as error:
        print(f"novalite-bases: {error}", file=sys.stderr)  # noqa: T201
        return 2
