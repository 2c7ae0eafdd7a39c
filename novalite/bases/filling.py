"""Completing a base behind its guests' back, so that the image service may go away.

First what a trace says the boot will read, then, when the boot has become quiet,
all the rest in order. A complete file is hashed from its first byte to its last;
then it is an entry of the image cache, or it is discarded and said to be bad.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from novalite.bases import orders, trace
from novalite.bases.copying import BLOCK, LazyFile
from novalite.bases.serving import CompleteBase, FillingBase
from novalite.config import LazySettings
from novalite.errors import ImageUnusable, NovaliteError
from novalite.images import translated, verifier_of
from novalite.virt import disks
from novalite.virt.disks import ImageCache

LOG = logging.getLogger(__name__)

_STEP = (4 << 20) // BLOCK
_HASHED_AT_ONCE = 1 << 20
#: A base that nobody boots from within this time is filled all the same.
_NO_BOOT_SECONDS = 10.0
#: A boot takes no longer, or reads for ever.
_LONGEST_BOOT = 120.0
_DISK_FULL_SECONDS = 5.0


class _StoppedError(Exception):
    """The process is to end."""


class Filler:
    """Fills one base in a thread of its own."""

    def __init__(
        self,
        base: FillingBase | CompleteBase,
        cache: ImageCache,
        settings: LazySettings,
        tell_trace: Callable[[str], None] = lambda text: None,
    ) -> None:
        """``tell_trace`` is called once with what a boot has read."""
        self._base = base
        self._cache = cache
        self._settings = settings
        self._tell_trace = tell_trace
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"fill-{base.order.image_id}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    def stop(self) -> None:
        """End soon; what is there is kept."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._complete()
                return
            except _StoppedError:
                return
            except OSError as error:  # the disk is full, most likely
                LOG.warning("image %s can't be kept: %s", self._base.order.image_id, error)
            except NovaliteError as error:
                if self._stop.is_set():
                    return
                LOG.warning("image %s: %s", self._base.order.image_id, error)
            except Exception:
                LOG.exception("filling image %s went wrong", self._base.order.image_id)
            self._stop.wait(_DISK_FULL_SECONDS)

    def _complete(self) -> None:
        base, order = self._base, self._base.order
        if isinstance(base, FillingBase):
            for first, count in trace.runs(order.trace, base.file.blocks):
                for at in range(first, first + count, _STEP):
                    self._step(base.file, at, min(_STEP, first + count - at))
            if base.file.missing:
                self._await_boot(base)
            self._fill(base.file)
        try:
            self._verify()
            adopt(base, self._cache)
        except ImageUnusable as error:
            why = f"image {order.image_id} came with wrong data and was discarded: {error}"
            discard(base, self._cache, why)

    def _await_boot(self, base: FillingBase) -> None:
        """Wait until a boot has read what it reads; keep and tell what that was."""
        began, recorder = time.monotonic(), base.recorder
        while True:
            now = time.monotonic()
            if recorder.began is None:
                if now - began > _NO_BOOT_SECONDS:
                    return
            elif now - recorder.last > self._settings.fill_delay or now - recorder.began > _LONGEST_BOOT:
                break
            if self._stop.wait(0.05):
                raise _StoppedError
        if self._settings.boot_trace:
            text = recorder.text()
            orders.write_json(base.files.trace, {"trace": text})
            self._tell_trace(text)

    def _fill(self, file: LazyFile) -> None:
        """Fetch all that is missing, no faster than allowed, and guests first."""
        at: int | None = 0
        while (at := file.next_missing(at or 0)) is not None:
            began = time.monotonic()
            self._step(file, at, _STEP)
            if self._settings.fill_rate:
                pause = _STEP * BLOCK / self._settings.fill_rate - (time.monotonic() - began)
                self._stop.wait(max(0.0, pause))
            elif file.waiting:
                self._stop.wait(0.02)
        file.commit()
        LOG.info("image %s is here as a whole", self._base.order.image_id)

    def _step(self, file: LazyFile, first: int, count: int) -> None:
        if self._stop.is_set() or not current(self._base):
            raise _StoppedError
        try:
            file.fill(first, count, lambda: self._stop.is_set() or self._forsaken(file))
        except NovaliteError:
            if not self._stop.is_set() and not self._forsaken(file):
                raise
        if self._stop.is_set() or self._forget_forsaken(file):
            raise _StoppedError

    def _forsaken(self, file: LazyFile) -> bool:
        """Tell whether the rest is lost, and no guest has what there is."""
        return file.lost and file.links <= 1

    def _forget_forsaken(self, file: LazyFile) -> bool:
        if not self._forsaken(file):
            return False
        with self._cache.locked(self._base.order.key):
            if not self._forsaken(file):
                return False  # a guest has come
            if current(self._base):
                forget(self._base.files)
        LOG.warning("image %s is given up: it is lost, and no guest has it", self._base.order.image_id)
        return True

    def _verify(self) -> None:
        order = self._base.order
        verifier = verifier_of(order.image)
        with translated(order.image_id), self._base.files.lazy.open("rb") as file:
            while block := file.read(_HASHED_AT_ONCE):
                if self._stop.is_set():
                    raise _StoppedError
                verifier.add(block)
            verifier.finish()


def current(base: FillingBase | CompleteBase) -> bool:
    """Tell whether the base is still wanted: its order may have been removed, and another written."""
    order = orders.read(base.files.order)
    return order is not None and order.token == base.order.token


def adopt(base: FillingBase | CompleteBase, cache: ImageCache) -> None:
    """Make a verified base an entry of the cache; its guests go on with the same file.

    It is inspected once more, now as a whole. Raises ImageUnusable.
    """
    files, order = base.files, base.order
    with cache.locked(order.key):
        if not current(base):
            return
        if cache.lookup(order.key) is None:
            if isinstance(base, FillingBase):  # not a store's own file
                files.lazy.chmod(0o444)
                base.file.sync()
            qemu_format, virtual_size = disks.inspect(files.lazy, order.disk_format)
            files.base.unlink(missing_ok=True)
            os.link(files.lazy, files.base)
            cache.record(order.key, order.image_id, qemu_format, virtual_size, local=order.local)
        forget_lazy(files)
    LOG.info("image %s is complete and verified", order.image_id)


def discard(base: FillingBase | CompleteBase, cache: ImageCache, why: str) -> None:
    """Give a base up whose bytes are wrong: its guests read nothing more of it.

    Why is kept for the compute worker, with the file's inode, by which it finds
    the guests. It is written first: a crash then leaves the rest to be removed.
    """
    files, order = base.files, base.order
    LOG.error("%s", why)
    base.bad = why
    bad = {"image": order.image_id, "why": why, "inode": base.inode}
    with cache.locked(order.key):
        orders.write_json(files.bad(order.token), bad)
        if current(base):
            forget(files)


def forget(files: orders.Files) -> None:
    """Remove all that is of a base not yet complete."""
    files.order.unlink(missing_ok=True)
    forget_lazy(files)


def forget_lazy(files: orders.Files) -> None:
    """Remove what is only of use while a base is filled."""
    for path in (files.trouble, files.journal, files.lazy):
        path.unlink(missing_ok=True)
