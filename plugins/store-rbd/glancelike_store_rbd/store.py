"""The driver: each blob is an RBD image with a protected snapshot.

An image can be booted from, by cloning its snapshot, without copying it.
Publishing is a rename, which see in ``pool``; names are in ``names``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from glancelike.errors import (
    BlobExists,
    BlobInUse,
    BlobNotFound,
    ConfigError,
    InvalidInput,
    InvalidRange,
    StoreDenied,
    StoreFault,
    StoreFull,
    Unsupported,
)
from glancelike.stores.base import BlobInfo, Cap, Source, Store, Usage
from glancelike_store_rbd.bindings import Ceph, load
from glancelike_store_rbd.bytestreams import Blocks, Writer, gathered
from glancelike_store_rbd.names import SNAPSHOT, TEMPORARY, image_of, key_of, key_of_url, temporary, url_of
from glancelike_store_rbd.options import MIB, OPTIONS
from glancelike_store_rbd.pool import Pool


class RbdStore(Store):
    """Keep each blob as an image in the pool ``rbd_store_pool``."""

    schemes = ("rbd",)
    capabilities = (
        Cap.RANGE | Cap.WRITE | Cap.UNKNOWN_SIZE | Cap.DELETE | Cap.LIST | Cap.COPY | Cap.USAGE | Cap.URLS
    )
    options = OPTIONS

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        chunk: int = self.settings["rbd_store_chunk_size"]
        if chunk & (chunk - 1):
            raise ConfigError(f"rbd_store_chunk_size is {chunk}: it must be a power of two")
        self._order = (chunk * MIB).bit_length() - 1
        self._thin: bool = self.settings["rbd_thin_provisioning"]
        self._name: str = self.settings["rbd_store_pool"]
        self._fsid = ""
        self._pool: Pool | None = None

    @classmethod
    def settings_from_uri(cls, uri: str) -> dict[str, Any]:
        """Turn ``rbd://pool?user=…&conf=…`` into settings; user and conf may be left out."""
        parts = urlsplit(uri)
        query = parse_qs(parts.query, keep_blank_values=True)
        if not parts.netloc or parts.path.strip("/") or parts.fragment or set(query) - {"user", "conf"}:
            raise ConfigError(
                f"{uri!r}: an rbd store is written like rbd://images?user=glance&conf=/etc/ceph/ceph.conf"
            )
        settings = {"rbd_store_pool": unquote(parts.netloc)}
        for name, option in (("user", "rbd_store_user"), ("conf", "rbd_store_ceph_conf")):
            if name in query:
                settings[option] = query[name][-1]
        return settings

    def open(self) -> None:
        """Connect, and see that the pool is there and can be read.

        Raises ConfigError, StoreDenied or StoreUnavailable.
        """
        ceph = load()
        cluster = self._connected(ceph)
        try:
            with ceph.translated():
                self._fsid = cluster.get_fsid()
                try:
                    ioctx = cluster.open_ioctx(self._name)
                except ceph.rados.ObjectNotFound as error:
                    raise ConfigError(
                        f"rbd_store_pool {self._name!r}: the cluster has no such pool"
                    ) from error
            # A write into a full pool fails then; else it waits until there is room.
            ioctx.set_osdmap_full_try()
            self._pool = Pool(ceph, cluster, ioctx, order=self._order)
            self._pool.names()
            self._pool.prepare()
        except BaseException:
            self._pool = None
            cluster.shutdown()
            raise

    def _connected(self, ceph: Ceph) -> Any:
        conf = self.settings["rbd_store_ceph_conf"]
        patience: int = self.settings["rbd_store_timeout"]
        limits = dict.fromkeys(
            ("client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout"), str(patience)
        )
        # Blocks come whole and in order: a cache would only hold them once more.
        limits["rbd_cache"] = "false"
        try:
            cluster = ceph.rados.Rados(conffile=conf, rados_id=self.settings["rbd_store_user"], conf=limits)
        except ceph.errors as error:
            raise ConfigError(f"rbd_store_ceph_conf {conf!r} can't be used: {error}") from error
        try:
            with ceph.translated():
                cluster.connect(timeout=self.settings["rados_connect_timeout"] or patience)
        except (BlobNotFound, StoreDenied) as error:
            cluster.shutdown()
            who = f"rbd_store_ceph_conf {conf!r}, rbd_store_user {self.settings['rbd_store_user']!r}"
            if isinstance(error, StoreDenied):
                raise StoreDenied(f"{who}: the cluster refuses the user or the key ({error})") from error
            raise ConfigError(
                f"{who}: no monitor is found, or no keyring with the user's key ({error})"
            ) from error
        except BaseException:
            cluster.shutdown()
            raise
        return cluster

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.ioctx.close()
            pool.cluster.shutdown()

    @property
    def pool(self) -> Pool:
        """The pool, of an open store."""
        if self._pool is None:
            raise StoreFault("the store isn't open")
        return self._pool

    def stat(self, key: str) -> BlobInfo:
        return self.pool.describe(key)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        pool, name = self.pool, image_of(key)
        image = pool.open(name, snapshot=SNAPSHOT)
        try:
            with pool.ceph.translated():
                size, own = image.size(), image.id()
            if offset and offset >= size:
                raise InvalidRange(f"offset {offset} of {size} bytes")
        except BaseException:
            image.close()
            raise

        def check(last: bool) -> None:
            try:
                pool.check_id(name, own)
                if last:
                    # Others remove the snapshot first, and the name at the end.
                    with pool.opened(name, snapshot=SNAPSHOT):
                        pass
            except BlobNotFound as error:
                raise StoreFault("the blob was removed while it was read") from error

        return Blocks(pool.ceph, image, offset, size if length is None else min(size, offset + length), check)

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._check_absent(key)
        self.pool.check_room()
        name = self.pool.create(size or 0)
        try:
            stored = self._fill(name, source, size)
            self.pool.publish(name, image_of(key))
        except BaseException:
            self.pool.leave(name)
            raise
        return BlobInfo(key, stored)

    def _fill(self, name: str, source: Source, size: int | None) -> int:
        with self.pool.opened(name, writable=True) as image:
            writer = Writer(self.pool.ceph, image, size, thin=self._thin)
            try:
                for block in gathered(source):
                    writer.write(block)
                return writer.finish()
            except BaseException:
                writer.abandon()
                raise

    def delete(self, key: str) -> None:
        self.stat(key)
        name = image_of(key)
        try:
            # The name goes first: what follows may be cut short.
            hidden = self.pool.hide(name)
        except StoreFull:
            self.pool.remove(name)
        else:
            self.pool.leave(hidden)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        for name in self.pool.names():
            key = key_of(name)
            if key is not None and key.startswith(prefix):
                # Others write under the final name: without the snapshot it isn't complete.
                with suppress(BlobNotFound):
                    yield self.stat(key)

    def copy(self, source_key: str, target_key: str, *, source: Store | None = None) -> BlobInfo:
        theirs = self._peer(source)
        ceph, target = self.pool.ceph, temporary()
        original = image_of(source_key)
        with theirs.opened(original, snapshot=SNAPSHOT) as image:
            self._check_absent(target_key)
            self.pool.check_room()
            try:
                with ceph.translated():
                    own, size = image.id(), image.size()
                    # Not a clone: that would keep the original from being removed.
                    layering = ceph.rbd.RBD_FEATURE_LAYERING
                    image.copy(self.pool.ioctx, target, features=layering, order=self._order)
                theirs.check_id(original, own)
                self.pool.publish(target, image_of(target_key))
            except BaseException:
                self.pool.leave(target)
                raise
        return BlobInfo(target_key, size)

    def _peer(self, source: Store | None) -> Pool:
        if source is None:
            return self.pool
        if not isinstance(source, RbdStore) or source._fsid != self._fsid:
            raise Unsupported("the other store is in another cluster")
        return source.pool

    def sweep(self, before: datetime) -> int:
        swept = 0
        for name in self.pool.names():
            if name.startswith(TEMPORARY) and self.pool.abandoned(name, before):
                try:
                    self.pool.discard(name)
                except BlobInUse:
                    continue
                swept += 1
        for image_id in self.pool.trash(before):
            self.pool.purge(image_id)
            swept += 1
        return swept

    def probe(self) -> Mapping[str, str]:
        """Try what compute does with images, and whether anybody counts free space."""
        return {
            "clone": self.pool.try_clone(),
            "free space": "ok" if self.pool.free() is not None else "no manager counts it",
        }

    def usage(self) -> Usage:
        return Usage(sum(info.size for info in self.list()), self.pool.free())

    def public_properties(self) -> Mapping[str, Any]:
        return {
            "pool": self._name,
            "fsid": self._fsid,
            "chunk_size": 1 << self._order,
            "thin_provisioning": self._thin,
        }

    def key_of(self, url: str) -> str:
        return key_of_url(url, self._fsid, self._name)

    def url_of(self, key: str) -> str:
        return url_of(key, self._fsid, self._name)

    def key_of_location(self, url: str) -> str | None:
        """Recognise ``rbd://fsid/pool/image/snap``, and the older ``rbd://image`` of this pool."""
        scheme, _, rest = url.partition("://")
        if scheme != "rbd":
            return None
        if "/" not in rest:
            return key_of(unquote(rest))
        try:
            return self.key_of(url)
        except InvalidInput:
            return None

    def _check_absent(self, key: str) -> None:
        with suppress(BlobNotFound):
            self.stat(key)
            raise BlobExists("the blob is there already")
