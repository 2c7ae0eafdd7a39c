"""The pool: images opened, published, hidden and removed.

An image is written under a temporary name, gets its protected snapshot,
and then its final name. Removing goes the same way back: the name goes
first, with it the blob, then the data. So an image that has a key's name is
complete, and what a killed process leaves has a temporary name.

librbd's rename looks whether the name is taken and then takes it, which
isn't one step: of two that race both may succeed. So names are given and
taken under a lock in the cluster, one of ``LOCKS`` by the name's hash; that
of a killed process runs out after ``LOCK_SECONDS``.

A rename is three steps inside librbd. A process killed between them leaves
an image with two names, the one that a listing shows and the one that it is
opened by; ``PUBLISHED_AS`` in its metadata tells ``discard`` of the other.

A full pool takes no new object, so none with a temporary name either. What
is removed there goes into RBD's trash, marked by ``REMOVED``, and from there
at once. librbd itself takes that way for all that it removes; so the object
that holds the trash, and the locks, are made while there is room.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from glancelike.errors import (
    BlobInUse,
    BlobNotFound,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from glancelike.stores.base import BlobInfo
from glancelike_store_rbd.bindings import Ceph
from glancelike_store_rbd.names import SNAPSHOT, TEMPORARY, image_of, temporary

log = logging.getLogger(__name__)

PUBLISHED_AS = "glancelike.name"
REMOVED = "glancelike.removed"
TRASH = "rbd_trash"
LOCKS = 64
LOCK_SECONDS = 60
_FULL = {"full", "full_quota"}


class Pool:
    """One pool of a connected cluster; its methods raise StoreErrors."""

    def __init__(self, ceph: Ceph, cluster: Any, ioctx: Any, *, order: int) -> None:
        self.ceph = ceph
        self.cluster = cluster
        self.ioctx = ioctx
        self._order = order
        self._rbd = ceph.rbd.RBD()

    def prepare(self) -> None:
        """Make the objects that removing needs, once; what may only read needs none."""
        names = [*(_lock(number) for number in range(LOCKS)), TRASH]
        with suppress(StoreFull, StoreDenied), self.ceph.translated():
            try:
                self.ioctx.stat(names[-1])
            except self.ceph.rados.ObjectNotFound:
                for name in names:
                    with self.ceph.rados.WriteOpCtx() as operation:
                        operation.new(0)  # no matter whether it is there
                        self.ioctx.operate_write_op(operation, name)

    @contextmanager
    def opened(self, name: str, *, snapshot: str | None = None, writable: bool = False) -> Iterator[Any]:
        """Open an image for a while; raise BlobNotFound."""
        with self._closing(self.open(name, snapshot=snapshot, writable=writable)) as image:
            yield image

    @contextmanager
    def _closing(self, image: Any) -> Iterator[Any]:
        try:
            yield image
        finally:
            with self.ceph.translated():
                image.close()

    def open(self, name: str, *, snapshot: str | None = None, writable: bool = False) -> Any:
        """Open an image, which the caller closes; raise BlobNotFound."""
        with self.ceph.translated():
            return self.ceph.rbd.Image(self.ioctx, name, snapshot=snapshot, read_only=not writable)

    def names(self) -> list[str]:
        """List the names of all images."""
        with self.ceph.translated():
            found: list[str] = self._rbd.list(self.ioctx)
        return found

    def describe(self, key: str) -> BlobInfo:
        """Tell of the blob; raise BlobNotFound, also for an image without the snapshot."""
        with self.opened(image_of(key), snapshot=SNAPSHOT) as image, self.ceph.translated():
            return BlobInfo(key, image.size(), modified=image.create_timestamp().replace(tzinfo=UTC))

    def create(self, size: int) -> str:
        """Make an empty image of ``size`` bytes and return its temporary name."""
        name = temporary()
        with self.ceph.translated():
            self._rbd.create(
                self.ioctx, name, size, order=self._order, features=self.ceph.rbd.RBD_FEATURE_LAYERING
            )
        return name

    def publish(self, name: str, final: str) -> None:
        """Give a complete image its final name; raise BlobExists."""
        with self.opened(name, writable=True) as image, self.ceph.translated():
            image.create_snap(SNAPSHOT)
            image.protect_snap(SNAPSHOT)
        with self.locked(final):
            self.rename(name, final)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock on a name; raise StoreUnavailable when others don't let go of it."""
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:2]) % LOCKS
        place, cookie = _lock(number), uuid.uuid4().hex
        deadline = time.monotonic() + 3 * LOCK_SECONDS
        while True:
            try:
                with self.ceph.translated():
                    self.ioctx.lock_exclusive(place, "name", cookie, "", LOCK_SECONDS)
                break
            except BlobInUse as error:
                if time.monotonic() > deadline:
                    raise StoreUnavailable("the lock on the blob's name stays taken") from error
                time.sleep(0.02)
        try:
            yield
        finally:
            # It may have run out: then it isn't this one's any more.
            with suppress(BlobNotFound), self.ceph.translated():
                self.ioctx.unlock(place, "name", cookie)

    def rename(self, name: str, final: str, *, known_as: str | None = None) -> None:
        """Rename an image, under the lock; raise BlobExists when the name is taken."""
        with self.opened(name, writable=True) as image, self.ceph.translated():
            image.metadata_set(PUBLISHED_AS, known_as or final)
        with self.ceph.translated():
            self._rbd.rename(self.ioctx, name, final)

    def hide(self, name: str) -> str:
        """Take a blob's name away and return the temporary one that its image has now.

        Raises BlobInUse while there are clones; nothing has changed then.
        """
        hidden = temporary()
        with self.locked(name):
            self._check_unused(name)
            self.rename(name, hidden, known_as=name)
        return hidden

    def remove(self, name: str) -> None:
        """Remove a blob's image without another name for it, as a full pool needs it.

        Raises BlobInUse while there are clones; nothing has changed then.
        """
        with self.locked(name):
            self._check_unused(name)
            with self.opened(name, writable=True) as image, self.ceph.translated():
                own: str = image.id()
                image.metadata_set(REMOVED, name)
            with self.ceph.translated():
                self._rbd.trash_move(self.ioctx, name, 0)
        try:
            self.purge(own)
        except StoreError as error:
            log.warning(
                "image %s in the trash of pool %s is left to be swept: %s", name, self.ioctx.name, error
            )

    def trash(self, before: datetime) -> Iterator[str]:
        """Iterate over the ids of images whose removal, begun before that time, was cut short."""
        with self.ceph.translated():
            entries = list(self._rbd.trash_list(self.ioctx))
        for entry in entries:
            if entry["deletion_time"].replace(tzinfo=UTC) >= before:
                continue
            if entry["name"].startswith(TEMPORARY) or self._marked(entry["id"]):
                yield entry["id"]

    def _marked(self, image_id: str) -> bool:
        """Tell whether an image came into the trash by ``remove``."""
        with suppress(BlobNotFound), self._by_id(image_id) as image, self.ceph.translated():
            return any(name == REMOVED for name, _ in image.metadata_list())
        return False

    def purge(self, image_id: str) -> None:
        """Remove an image that is in the trash."""
        with suppress(BlobNotFound), self._by_id(image_id) as image, self.ceph.translated():
            self._strip_snapshots(image)
        with suppress(BlobNotFound), self.ceph.translated():
            self._rbd.trash_remove(self.ioctx, image_id, True)

    @contextmanager
    def _by_id(self, image_id: str) -> Iterator[Any]:
        with self.ceph.translated():
            image = self.ceph.rbd.Image(self.ioctx, image_id=image_id)
        with self._closing(image):
            yield image

    def _check_unused(self, name: str) -> None:
        """Raise BlobInUse when there are clones; else keep others from coming."""
        with self.opened(name, snapshot=SNAPSHOT) as image, self.ceph.translated():
            if any(True for _ in image.list_children()):
                raise BlobInUse("the blob has clones: disks of servers or volumes that share its data")
        with self.opened(name, writable=True) as image, self.ceph.translated():
            # Fails when a clone has come meanwhile.
            _unprotect(self.ceph, image, SNAPSHOT)

    def discard(self, name: str) -> None:
        """Remove an image that is no blob, and its other name if a rename was cut short."""
        with suppress(BlobNotFound):
            self._strip(name)
        with suppress(BlobNotFound), self.ceph.translated():
            self._rbd.remove(self.ioctx, name)

    def _strip(self, name: str) -> None:
        """Remove what keeps an image from being removed."""
        with self.opened(name, writable=True) as image, self.ceph.translated():
            own = image.id()
            other = None
            with suppress(KeyError, self.ceph.rbd.ImageNotFound):
                other = image.metadata_get(PUBLISHED_AS)
            self._strip_snapshots(image)
        if other is None or other == name:
            return
        with suppress(BlobNotFound):
            with self.opened(other) as image, self.ceph.translated():
                same = image.id() == own
            if same:
                with self.ceph.translated():
                    self._rbd.remove(self.ioctx, other)

    def _strip_snapshots(self, image: Any) -> None:
        for snapshot in list(image.list_snaps()):
            _unprotect(self.ceph, image, snapshot["name"])
            image.remove_snap(snapshot["name"])

    def try_clone(self) -> str:
        """Clone a small image, as a server that boots does; return ``ok`` or why not."""
        parent, child = self.create(1 << 20), temporary()
        try:
            with self.opened(parent, writable=True) as image, self.ceph.translated():
                image.create_snap(SNAPSHOT)
                image.protect_snap(SNAPSHOT)
            with self.ceph.translated():
                self._rbd.clone(self.ioctx, parent, SNAPSHOT, self.ioctx, child)
        except StoreError as error:
            return str(error)
        finally:
            self.leave(child)
            self.leave(parent)
        return "ok"

    def leave(self, name: str) -> None:
        """Discard an image as well as can be: what stays, ``sweep`` removes."""
        try:
            self.discard(name)
        except StoreError as error:
            log.warning("image %s of pool %s is left to be swept: %s", name, self.ioctx.name, error)

    def abandoned(self, name: str, before: datetime) -> bool:
        """Tell whether an image is from before that time and no living client has it open."""
        try:
            with self.opened(name) as image, self.ceph.translated():
                made = image.create_timestamp().replace(tzinfo=UTC)
                return made < before and not any(True for _ in image.watchers_list())
        except BlobNotFound:
            # Only its name is left, of a removal that was cut short.
            return True

    def check_id(self, name: str, image_id: str) -> None:
        """Raise BlobNotFound unless ``name`` is still that image's: one round trip."""
        with self.ceph.translated():
            # What "RBD image format 2" says of the object that ties names to ids.
            found: bytes = self.ioctx.read(f"rbd_id.{name}")
        if found[4:].decode() != image_id:
            raise BlobNotFound("another blob has come in its place")

    def check_room(self) -> None:
        """Raise StoreFull when the cluster lets nobody write into the pool: there a write would wait."""
        if any(_FULL & set(pool["flags_names"].split(",")) for pool in self._details()):
            raise StoreFull("the pool has reached its quota, or the cluster is full")

    def _details(self) -> list[dict[str, Any]]:
        pools = self.ask({"prefix": "osd pool ls", "detail": "detail"})
        return [pool for pool in pools if pool["pool_name"] == self.ioctx.name]

    def free(self) -> int | None:
        """Tell the bytes that fit in yet; None when no manager counts them."""
        answer = self.ask({"prefix": "df"})
        if not answer["stats"]["total_bytes"]:
            return None
        own = [pool["stats"]["max_avail"] for pool in answer["pools"] if pool["name"] == self.ioctx.name]
        return int(own[0]) if own else None

    def ask(self, command: dict[str, str]) -> Any:
        """Send a command to a monitor and return its answer."""
        with self.ceph.translated():
            status, answer, said = self.cluster.mon_command(json.dumps({**command, "format": "json"}), b"")
            if status < 0:
                raise self.ceph.rados.OSError(said or command["prefix"], errno=-status)
        return json.loads(answer)


def _lock(number: int) -> str:
    return f"glancelike.lock.{number:02d}"


def _unprotect(ceph: Ceph, image: Any, snapshot: str) -> None:
    try:
        # Already, when another process has the same in mind: then rename decides.
        with suppress(ceph.rbd.InvalidArgument):
            image.unprotect_snap(snapshot)
    except ceph.rbd.ImageBusy as error:
        raise BlobInUse("the blob has clones: disks of servers or volumes that share its data") from error
