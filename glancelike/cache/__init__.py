"""A node's cache of image data whose store isn't local.

The first reader of an image starts one thread that fetches it from its
store into a growing file, as fast as the store gives it; that reader and
all that come meanwhile, in any process of the node, read the growing file.
So many first downloads are one fetch, and a reader that is slow or goes
away is nobody's concern. When all is there and its digest is the record's,
the file becomes an entry. Whatever goes wrong with the cache, a download
goes on from its store.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from glancelike import streams
from glancelike.cache.blocks import BLOCK, CachedBlocks, Direct
from glancelike.cache.directory import Claim, Directory, Entry, Key, Refusal, key_of, translated
from glancelike.cache.queue import Queue
from glancelike.errors import ConfigError, DataMismatch, GlancelikeError
from glancelike.model import CachedImage, Image
from glancelike.transfer import Transfer

LOG = logging.getLogger(__name__)

JOIN_SECONDS = 5.0
# Images that a process fetches at once for its readers; more are read from
# their stores, so that many downloads begun and left can't swamp the disk.
MOST_FILLS = 8


class ImageCache:
    """The cache in ``directory``, of up to ``max_size`` bytes.

    ``node`` names it to other nodes. ``added`` and ``removed`` are called
    when entries come and go; they must not raise.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_size: int = 10 << 30,
        stall_time: float = 86400.0,
        node: str = "localhost",
    ) -> None:
        self.node = node
        self.added: Callable[[CachedImage], object] = lambda cached: None
        self.removed: Callable[[Sequence[str]], object] = lambda image_ids: None
        self._directory = Directory(directory.absolute(), max_size)
        self._queue = Queue(self._directory.path / "queue")
        self._stall_time = stall_time
        self._stopping = threading.Event()
        self._fills = threading.BoundedSemaphore(MOST_FILLS)
        self._threads: set[threading.Thread] = set()

    def open(self) -> None:
        """Make the directory; raise ConfigError when it can't be used."""
        self._stopping.clear()
        try:
            self._directory.open()
            self._queue.open()
        except OSError as error:
            raise ConfigError(
                f"image_cache_dir {str(self._directory.path)!r} can't be used: {error.strerror}"
            ) from error

    def stop(self) -> None:
        """Leave what is being filled to other processes."""
        self._stopping.set()

    def close(self) -> None:
        """Stop, and wait a moment for what is being filled."""
        self.stop()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    # Reading

    def open_local(self, image: Image) -> BinaryIO | None:
        """Open the image's complete data; None when it isn't cached."""
        key = key_of(image)
        try:
            fd = None if key is None else self._directory.open_entry(key)
        except OSError as error:
            LOG.warning("image cache: %s is read from its store: %s", image.id, error)
            return None
        if fd is None or key is None:
            return None
        self._directory.note_use(key)
        return os.fdopen(fd, "rb")

    def read(
        self, image: Image, offset: int, length: int, direct: Direct, *, fill: bool = True
    ) -> Iterator[bytes]:
        """Return ``length`` bytes from ``offset`` on, from the cache or from ``direct``.

        A miss starts to fill the cache where ``fill`` says so. Raises what
        ``direct`` raises, before the first block.
        """
        key = key_of(image)
        if key is None or key.size > self._directory.max_size:
            return direct(offset, length)
        try:
            fd = self._open(key, image, offset, direct, fill=fill)
        except OSError as error:
            LOG.warning("image cache: %s is read from its store: %s", image.id, error)
            fd = None
        if fd is None:
            return direct(offset, length)

        def successor(died: bool) -> int | None:
            return self._open_growing(key, image, direct, fill=died)

        return CachedBlocks(fd, offset, offset + length, successor=successor, direct=direct).prime()

    def _open(self, key: Key, image: Image, offset: int, direct: Direct, *, fill: bool) -> int | None:
        fd = self._directory.open_entry(key)
        if fd is not None:
            self._directory.note_use(key)
            return fd
        fd = self._open_growing(key, image, direct, fill=fill)
        # A part that is far from here yet is had faster from the store.
        if fd is not None and not fill and os.fstat(fd).st_size <= offset:
            os.close(fd)
            return None
        return fd

    def _open_growing(self, key: Key, image: Image, direct: Direct, *, fill: bool) -> int | None:
        if fill:
            self._start(key, image, direct)
        fd = self._directory.follow(key)
        # What was growing until just now may be an entry by now.
        return self._directory.open_entry(key) if fd is None else fd

    # Filling

    def fetch(self, image: Image, direct: Direct) -> bool:
        """Bring the image into the cache; tell whether it is there now.

        False when it is being filled by somebody else, or can't be.
        """
        key = key_of(image)
        if key is None:
            return False
        with translated():
            claim = self._claim(key)
        if isinstance(claim, Claim):
            return self._fill(claim.fd, key, image, direct)
        return claim is Refusal.THERE

    def check_cacheable(self, image: Image) -> str | None:
        """Return why the image can't be cached at all, None when it can."""
        key = key_of(image)
        if key is None:
            return "it has no digest that could be verified"
        if key.size > self._directory.max_size:
            return f"it is larger than image_cache_max_size, {self._directory.max_size} bytes"
        return None

    def _claim(self, key: Key) -> Claim | Refusal:
        claim = self._directory.claim(key)
        if claim is Refusal.FULL:
            LOG.warning("image cache: no room for the %d bytes of %s", key.size, key.image_id)
        elif isinstance(claim, Claim) and claim.evicted:
            self.removed(claim.evicted)
        return claim

    def _start(self, key: Key, image: Image, direct: Direct) -> None:
        """Fill the file in a thread, unless somebody does."""
        if not self._fills.acquire(blocking=False):
            return
        try:
            claim = self._claim(key)
        except BaseException:
            self._fills.release()
            raise
        if not isinstance(claim, Claim):
            self._fills.release()
            return

        def run() -> None:
            try:
                self._fill(claim.fd, key, image, direct)
            finally:
                self._fills.release()
                self._threads.discard(thread)

        thread = threading.Thread(target=run, name=f"cache-{key.image_id}", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:
            self._threads.discard(thread)
            self._fills.release()
            os.close(claim.fd)
            LOG.warning("image cache: %s isn't cached: %s", key.image_id, error)

    def _fill(self, fd: int, key: Key, image: Image, direct: Direct) -> bool:
        """Fill a claimed file and publish it; what fails is logged."""
        try:
            if not self._pour(fd, key, image, direct):
                return False
            published = self._directory.publish(fd, key)
        except Exception as error:
            # Also a driver's bug: left as if we had died, readers would try it for ever.
            trace = not isinstance(error, (GlancelikeError, OSError))
            LOG.warning("image cache: %s isn't cached: %s", key.image_id, error, exc_info=trace)
            try:
                self._directory.discard(fd, key)
            except OSError as also:
                LOG.warning("image cache: incomplete %s is left: %s", key.name, also)
            return False
        finally:
            os.close(fd)
        if published:
            with suppress(OSError):  # what is left in the queue is found to be here
                self._queue.remove([key.image_id])
            now = datetime.now(UTC)
            self.added(CachedImage(self.node, key.image_id, key.size, 0, now, now))
        return published

    def _pour(self, fd: int, key: Key, image: Image, direct: Direct) -> bool:
        """Write all the data; False when we are stopping, DataMismatch when it isn't the record's."""
        algorithm = str(image.hash_algo)
        source = streams.ChunkSource(lambda: direct(0, key.size))
        try:
            with Transfer(source, algorithms=(algorithm,)) as transfer:
                while block := transfer.read(BLOCK):
                    if self._stopping.is_set():
                        return False
                    _write(fd, block)
                outcome = transfer.finish()
        finally:
            source.close()
        if outcome.size != key.size or outcome.digests[algorithm] != str(image.hash_value).lower():
            raise DataMismatch("the store's data isn't what the record says: size or digest differ")
        return True

    # What administrators ask for

    def entries(self) -> tuple[CachedImage, ...]:
        """List what is cached on this node."""
        with translated():
            return tuple(self._told(entry) for entry in self._directory.entries())

    def _told(self, entry: Entry) -> CachedImage:
        return CachedImage(
            self.node,
            entry.key.image_id,
            entry.key.size,
            entry.hits,
            datetime.fromtimestamp(entry.last_accessed, UTC),
            datetime.fromtimestamp(entry.last_modified, UTC),
        )

    def drop(self, image_ids: Collection[str] | None = None) -> None:
        """Remove entries, and what is being filled, of these images or of all."""
        with translated():
            gone = self._directory.drop(image_ids)
        if gone:
            self.removed(gone)

    def prune(self) -> tuple[int, int]:
        """Evict until the rest fits; return the number of files and of bytes."""
        with translated():
            gone = self._directory.prune()
        if gone:
            self.removed([entry.key.image_id for entry in gone])
        return len(gone), sum(entry.key.size for entry in gone)

    def clean(self) -> None:
        """Remove what nobody fills any more."""
        with translated():
            self._directory.clean(self._stall_time)

    # The queue

    def enqueue(self, image_id: str) -> None:
        """Have an image fetched before anybody asks for it."""
        with translated():
            self._queue.add(image_id)

    def queued(self) -> tuple[str, ...]:
        """List the images that wait to be fetched, in order."""
        with translated():
            return self._queue.list()

    def dequeue(self, image_ids: Collection[str] | None = None) -> None:
        """Take images from the queue, or all."""
        with translated():
            self._queue.remove(image_ids)

    @contextmanager
    def taken_up(self, image_id: str) -> Iterator[bool]:
        """Hold a queued image; False when another process fetches it just now."""
        with translated(), self._queue.taken_up(image_id) as mine:
            yield mine


def _write(fd: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(fd, rest) :]
