"""What the compute worker does before a guest boots from a base that isn't complete.

The image is inspected before QEMU sees anything of it: its first bytes by our
own inspectors, then what ``qemu-img info`` reads of it, under limits and with the
format named. Only then is there an order that a guest can be given.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from novalite.bases import filling, orders, trace
from novalite.bases.copying import make_sparse
from novalite.bases.keeper import Keeper
from novalite.bases.orders import Files, Order
from novalite.bases.settings import BasesSettings
from novalite.errors import ImageUnusable, Unavailable, Unsupported
from novalite.images import LocalImages
from novalite.images.http import HttpImages
from novalite.model import ImageInfo
from novalite.virt import disks, qemuimg
from novalite.virt.base import BaseImage, NbdExport
from novalite.virt.disks import ImageCache

LOG = logging.getLogger(__name__)

_SECTOR = 512
#: A unix socket's address has 108 bytes, its end included.
_SOCKET_PATH_BYTES = 107


class LazyBases:
    """Bases that guests boot from while they're filled."""

    def __init__(
        self, settings: BasesSettings, images: HttpImages, cache: ImageCache, keeper: Keeper
    ) -> None:
        self._settings = settings
        self._images = images
        self._cache = cache
        self._keeper = keeper

    def suits(self, image: ImageInfo) -> bool:
        """Tell whether an image can be booted from so, and is worth it."""
        return (
            self._settings.lazy.enabled
            and image.disk_format in disks.UNCONVERTED
            and image.size is not None
            and image.size >= max(1, self._settings.lazy.minimum)
            and bool(image.hash_algo and image.hash_value)
            and len(bytes(self._cache.directory / orders.SOCKET)) <= _SOCKET_PATH_BYTES
        )

    def ensure(self, image: ImageInfo, key: str, user: str, max_virtual_size: int) -> BaseImage | None:
        """Return a base that a guest can boot from at once; None when it has to be fetched.

        The file is kept by a link for ``user``, a server's id, until ``release`` is called.
        Raises ImageUnusable, FlavorTooSmall, and Unavailable.
        """
        if not self.suits(image):
            return None
        files = Files(self._cache.directory, key)
        with failing_as_unavailable(files.directory), self._cache.locked(key):
            order = orders.read(files.order)
            base = self._cache.lookup(key)
            if base is None and (order is None or not files.lazy.exists()):
                try:
                    order = self._begin(image, files)
                except Unsupported as error:
                    LOG.info("image %s is fetched as a whole: %s", image.id, error)
                    return None
            elif base is not None:
                return None
            assert order is not None  # noqa: S101 - for the type checker
            link = files.used_by(user)
            link.unlink(missing_ok=True)
            os.link(files.lazy, link)
        export = NbdExport(files.directory / orders.SOCKET, order.export)
        size = order.virtual_size
        if not size:
            self._keeper.keep()
            size = self._inspect(image, files, order, export)
        disks.check_size(image.id, size, max_virtual_size)
        self._keeper.keep()
        return BaseImage(path=link, format=order.format, virtual_size=size, nbd=export)

    def _begin(self, image: ImageInfo, files: Files) -> Order:
        """Look at the image's first bytes, and order it."""
        assert image.size is not None  # noqa: S101 - it suits
        assert image.disk_format is not None  # noqa: S101
        head = self._head(image, min(image.size, disks.HEADER_BYTES))
        try:
            qemu_format = disks.inspect_header(io.BytesIO(head), image.disk_format)
        except ImageUnusable as error:
            raise ImageUnusable(f"image {image.id}: {error}") from error
        # qemu-img has yet to tell the size of a disk that isn't the file itself
        size = -(-image.size // _SECTOR) * _SECTOR if qemu_format == "raw" else 0
        order = Order.of(image, files.key, qemu_format, size, trace=self._trace_of(image, files))
        files.order.unlink(missing_ok=True)
        # What was inspected is what guests will read.
        make_sparse(files.lazy, files.journal, order.size, head)
        orders.write(files, order)
        LOG.info("image %s: guests boot from it while it is fetched", image.id)
        return order

    def _head(self, image: ImageInfo, length: int) -> bytes:
        head = b""
        while len(head) < length:
            head += self._images.read_range(image, len(head), length - len(head))
        return head

    def _trace_of(self, image: ImageInfo, files: Files) -> str:
        if not self._settings.lazy.boot_trace:
            return ""
        kept = orders.read_json(files.trace) or {}
        return str(image.properties.get(trace.PROPERTY) or kept.get("trace") or "")[: trace.LARGEST]

    def _inspect(self, image: ImageInfo, files: Files, order: Order, export: NbdExport) -> int:
        """Ask qemu-img about an image whose header passed; keep what it tells."""
        try:
            size = disks.inspect_told(qemuimg.info(export.url, order.format))
        except ImageUnusable as error:
            with self._cache.locked(files.key):
                filling.forget(files)
            raise ImageUnusable(f"image {image.id}: {error}") from error
        with self._cache.locked(files.key):
            current = orders.read(files.order)
            if current is not None and current.token == order.token:
                orders.write(files, current.sized(size))
        return size


class LocalBases:
    """Bases that are a store's own files, on a file system of this host.

    They are linked, so that the store can't take them away, and never written to.
    Guests boot at once; the process hashes the file meanwhile.
    """

    def __init__(
        self, settings: BasesSettings, images: LocalImages, cache: ImageCache, keeper: Keeper
    ) -> None:
        stores = settings.local_stores.items()
        self._stores = {store: Path(os.path.realpath(directory)) for store, directory in stores}
        self._images = images
        self._cache = cache
        self._keeper = keeper

    def ensure(self, image: ImageInfo, key: str, user: str, max_virtual_size: int) -> BaseImage | None:
        """Return a base that is the store's own file; None when there is none that can be.

        The file is kept by a link for ``user`` until ``release`` is called.
        """
        path = self._found(image)
        if path is None:
            return None
        files = Files(self._cache.directory, key)
        with failing_as_unavailable(files.directory), self._cache.locked(key):
            if self._cache.lookup(key) is not None:
                return None
            order = orders.read(files.order)
            if order is None or not files.lazy.exists():
                order = self._begin(image, files, path)
            elif not order.local:
                return None
            if order is None:
                return None
            link = files.used_by(user)
            link.unlink(missing_ok=True)
            os.link(files.lazy, link)
        disks.check_size(image.id, order.virtual_size, max_virtual_size)
        self._keeper.keep()
        return BaseImage(path=link, format=order.format, virtual_size=order.virtual_size)

    def _found(self, image: ImageInfo) -> Path | None:
        suits = image.disk_format in disks.UNCONVERTED and image.hash_algo and image.hash_value
        if not self._stores or not suits:
            return None
        for store, told in self._images.files_of(image):
            path = Path(os.path.realpath(self._stores.get(store, Path("/")) / told))
            # What isn't in a directory that is named here is somebody else's, whatever a location says.
            if any(path.is_relative_to(each) for each in self._stores.values()) and path.is_file():
                if path.stat().st_size == image.size:
                    return path
                LOG.warning("image %s: %s hasn't the image's size", image.id, path)
        return None

    def _begin(self, image: ImageInfo, files: Files, path: Path) -> Order | None:
        assert image.disk_format is not None  # noqa: S101
        filling.forget(files)
        try:
            os.link(path, files.lazy)
        except OSError as error:
            LOG.info("image %s can't be used where it lies: %s", image.id, error)
            return None
        try:
            qemu_format, size = disks.inspect(files.lazy, image.disk_format)
        except ImageUnusable as error:
            files.lazy.unlink()
            raise ImageUnusable(f"image {image.id}: {error}") from error
        order = Order.of(image, files.key, qemu_format, size, local=True)
        orders.write(files, order)
        return order


def release(directory: Path, key: str, user: str) -> None:
    """Remove the link that kept a base for a server; no error where there is none."""
    Files(directory, key).used_by(user).unlink(missing_ok=True)


@contextlib.contextmanager
def failing_as_unavailable(directory: Path) -> Iterator[None]:
    """Say of the cache's disk what it says."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"image cache {directory}: {error}") from error
