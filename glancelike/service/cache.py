"""Use cases of the local image cache, and the thread that fills it ahead."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

from glancelike.cache import JOIN_SECONDS, ImageCache
from glancelike.errors import (
    GlancelikeError,
    ImageNotFound,
    InvalidInput,
    InvalidTransition,
    LimitExceeded,
    NotFound,
)
from glancelike.model import CachedImage, Caller, Image, Status
from glancelike.registry.base import ADMIN
from glancelike.service.context import Context
from glancelike.stores.base import Cap

LOG = logging.getLogger(__name__)

BATCH = 500
BUSY_SECONDS = 1.0  # between looks at an image that another process is fetching


@dataclass(frozen=True, slots=True)
class CacheState:
    """What is cached on this node, and what waits to be, in order."""

    cached: tuple[CachedImage, ...]
    queued: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many entries went, and how many bytes."""

    files: int
    size: int


def blocks(context: Context, image: Image, offset: int, length: int, *, local: bool) -> Iterator[bytes]:
    """Return ``length`` bytes of the data, by way of the cache where there is one.

    The first reader of the whole data brings it into the cache, unless it is
    ``local``, on this node's disk, anyway. Raises StoreError before the first
    block.
    """
    direct = _direct(context, image)
    if context.cache is None:
        return direct(offset, length)
    whole = length == image.size or not _ranged(context, image)
    return context.cache.read(image, offset, length, direct, fill=whole and not local)


def open_local(context: Context, image: Image) -> BinaryIO | None:
    """Open the image's complete data in the cache; None when it isn't there."""
    return None if context.cache is None else context.cache.open_local(image)


def forget(context: Context, image_id: str) -> None:
    """Drop what the cache has of a deleted image; what fails is left to ``clean``."""
    if context.cache is not None:
        try:
            context.cache.dequeue([image_id])
            context.cache.drop([image_id])
        except GlancelikeError as error:
            LOG.warning("%s stays in the cache until it is cleaned: %s", image_id, error)


def _direct(context: Context, image: Image) -> Callable[[int, int], Iterator[bytes]]:
    return lambda offset, length: context.mounts.read(image.locations, offset, length, size=image.size)


def _ranged(context: Context, image: Image) -> bool:
    """Tell whether a part can be had without what is before it."""
    listed = {mount.id: mount for mount in context.mounts}
    return any(
        Cap.RANGE in listed[location.store].store.capabilities
        for location in image.locations
        if location.store in listed
    )


class CacheService:
    """What administrators may do with this node's cache.

    Where no cache is configured everything raises NotFound, after policy.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._wake = threading.Event()
        self._untold = True  # whether other nodes may not know what is here
        if context.cache is not None:
            context.cache.added = self._added
            context.cache.removed = partial(self._removed, context.cache.node)

    @property
    def enabled(self) -> bool:
        """Tell whether there is a cache."""
        return self._context.cache is not None

    def state(self, caller: Caller) -> CacheState:
        """Return what is cached and queued here."""
        cache = self._checked(caller, "cache_list")
        return CacheState(cache.entries(), cache.queued())

    def queue(self, caller: Caller, image_id: str) -> None:
        """Have an active image fetched soon; nothing happens when it's here.

        Raises ImageNotFound, InvalidInput, InvalidTransition, LimitExceeded.
        """
        image = self._context.get(caller, image_id)
        cache = self._checked(caller, "cache_image", image)
        if image.status is not Status.ACTIVE:
            raise InvalidInput(f"Image {image_id} is {image.status}: only active images can be cached")
        reason = cache.check_cacheable(image)
        if reason is not None:
            kind = InvalidTransition if image.hash_value is None else LimitExceeded
            raise kind(f"Image {image_id} can't be cached: {reason}")
        if not _is_cached(cache, image_id):
            cache.enqueue(image_id)
            self._wake.set()

    def delete(self, caller: Caller, image_id: str) -> None:
        """Take an image from cache and queue; raise ImageNotFound when nobody knows it."""
        image = None
        try:
            image = self._context.get(caller, image_id)
        except ImageNotFound:
            # Only who sees everything knows that it is gone, not just out of sight.
            if not (caller.admin and self._holds(image_id)):
                raise
        cache = self._checked(caller, "cache_delete", image)
        cache.dequeue([image_id])
        cache.drop([image_id])

    def _holds(self, image_id: str) -> bool:
        cache = self._context.cache
        return cache is not None and (image_id in cache.queued() or _is_cached(cache, image_id))

    def clear(self, caller: Caller, *, cached: bool = True, queued: bool = True) -> None:
        """Empty the cache, the queue or both."""
        cache = self._checked(caller, "cache_delete")
        if queued:
            cache.dequeue()
        if cached:
            cache.drop()

    def nodes(self, caller: Caller, image_id: str) -> tuple[str, ...]:
        """Return the nodes that have the image in their cache, sorted."""
        cache = self._checked(caller, "list_cached_nodes")
        self._context.get(caller, image_id)
        told = set(self._context.registry.cached_nodes(image_id)) - {cache.node}
        here = {cache.node} if _is_cached(cache, image_id) else set()
        return tuple(sorted(told | here))

    def clean(self, caller: Caller) -> None:
        """Remove stalled files and what belongs to deleted images."""
        self._clean(self._checked(caller, "cache_clean"))

    def prune(self, caller: Caller) -> Pruned:
        """Evict the least recently used images until the rest fits."""
        return Pruned(*self._checked(caller, "cache_prune").prune())

    def _checked(self, caller: Caller, action: str, image: Image | None = None) -> ImageCache:
        self._context.policy.check(caller, action, image)
        if self._context.cache is None:
            raise NotFound("Caching via API is not supported at this site.")
        return self._context.cache

    # Beside the requests

    @contextmanager
    def kept(self, interval: float) -> Iterator[None]:
        """Fetch what is queued, in a thread, and clean every ``interval`` seconds."""
        cache = self._context.cache
        if cache is None:
            yield
            return
        stop = threading.Event()

        def run() -> None:
            due = time.monotonic()
            while not stop.is_set():
                busy = False
                try:
                    if time.monotonic() >= due:
                        due = time.monotonic() + interval
                        self._look_after(cache)
                    busy = self._prefetch(cache, stop)
                except GlancelikeError as error:
                    LOG.warning("image cache: %s", error)
                self._wake.wait(BUSY_SECONDS if busy else interval)
                self._wake.clear()

        thread = threading.Thread(target=run, name="cache-keeper", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            self._wake.set()
            cache.stop()
            thread.join(JOIN_SECONDS)

    def _look_after(self, cache: ImageCache) -> None:
        self._tell(cache)
        self._clean(cache)
        cache.prune()

    def _prefetch(self, cache: ImageCache, stop: threading.Event) -> bool:
        """Fetch what is queued; True when another process is at some of it."""
        busy = False
        for image_id in cache.queued():
            if stop.is_set():
                break
            with cache.taken_up(image_id) as mine:
                if not mine:
                    busy = True
                    continue
                image = self._wanted(cache, image_id)
                if image is None or cache.fetch(image, _direct(self._context, image)):
                    cache.dequeue([image_id])
        return busy

    def _wanted(self, cache: ImageCache, image_id: str) -> Image | None:
        try:
            image = self._context.registry.get(image_id, ADMIN)
        except ImageNotFound:
            return None
        if image.status is not Status.ACTIVE:
            return None
        reason = cache.check_cacheable(image)
        if reason is not None:
            LOG.warning("image cache: %s isn't fetched: %s", image_id, reason)
            return None
        return replace(image, locations=self._context.mounts.ordered(image.locations))

    def _clean(self, cache: ImageCache) -> None:
        cache.clean()
        cached = [entry.image_id for entry in cache.entries()]
        for start in range(0, len(cached), BATCH):
            batch = cached[start : start + BATCH]
            gone = set(batch) - set(self._context.registry.locations_of(batch))
            if gone:
                cache.drop(gone)

    # What other nodes know

    def _tell(self, cache: ImageCache) -> None:
        if self._untold:
            self._untold = False
            for entry in cache.entries():
                self._added(entry)

    def _added(self, cached: CachedImage) -> None:
        try:
            self._context.registry.put_cached(cached)
        except GlancelikeError as error:
            self._untold = True
            LOG.warning("image cache: other nodes don't know of %s yet: %s", cached.image_id, error)

    def _removed(self, node: str, image_ids: Collection[str]) -> None:
        try:
            self._context.registry.delete_cached(node, image_ids)
        except GlancelikeError as error:
            LOG.warning("image cache: other nodes don't know what went: %s", error)


def _is_cached(cache: ImageCache, image_id: str) -> bool:
    return any(entry.image_id == image_id for entry in cache.entries())
