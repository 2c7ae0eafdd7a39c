"""From a server's record to what the virt driver needs of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from novalite.bases.keeper import Keeper
from novalite.bases.lazy import LazyBases, LocalBases, release
from novalite.bases.settings import BasesSettings
from novalite.config import Settings
from novalite.db.records import image_of
from novalite.errors import ImageUnusable
from novalite.guestdata.drive import drive_files
from novalite.guestdata.facts import facts_of, nics_of
from novalite.images import Images, LocalImages
from novalite.images.http import HttpImages
from novalite.model import (
    BOOT_FILES_OF,
    GIB,
    LARGEST_BOOT_FILE,
    MIB,
    Caller,
    ImageInfo,
    Server,
    check_boot_file,
)
from novalite.virt.base import BaseImage, BootFiles, InstanceSpec
from novalite.virt.disks import ImageCache, key_of

#: A scheduler keeps as many for each host: 64 KiB of memory.
_MOST_TOLD = 1000


class BaseImages:
    """Verified base images, each downloaded once and kept while of use."""

    def __init__(self, settings: Settings, images: Images, keeper: Keeper, *, nbd: bool) -> None:
        """``nbd`` says that guests can be given bases that the keeper's process serves."""
        self._settings = settings.image_cache
        self._instances_path = settings.instances_path
        self._images = images
        self._cache = ImageCache(settings.image_cache.directory)
        self._early: list[LazyBases | LocalBases] = []
        told = BasesSettings.of(settings)
        if isinstance(images, LocalImages):
            self._early.append(LocalBases(told, images, self._cache, keeper))
        if nbd and isinstance(images, HttpImages):
            self._early.append(LazyBases(told, images, self._cache, keeper))
        self._lock = threading.Lock()
        self._needed: Counter[Path] = Counter()
        self._last_used: dict[Path, float] = {}

    @property
    def early(self) -> bool:
        """Whether guests may boot from bases that aren't verified yet."""
        lazy = self._settings.lazy.enabled and any(isinstance(each, LazyBases) for each in self._early)
        return bool(lazy or self._settings.local_stores)

    @contextlib.contextmanager
    def of(self, server: Server, check: Callable[[], None]) -> Iterator[BaseImage]:
        """Give the base of a server's image; it isn't pruned during the block.

        A kernel and a ramdisk that the image names come with it. Raises
        ImageUnusable, ImageMissing, or what is retryable: ImageServiceDown
        and, when the disk is full, Unavailable.
        """
        with self.boot_files(server, check) as boot, self._disk(server, check) as base:
            yield replace(base, boot=boot)

    @contextlib.contextmanager
    def boot_files(self, server: Server, check: Callable[[], None]) -> Iterator[BootFiles | None]:
        """Give the kernel and the ramdisk that a server's image names, or None; raises what ``of`` does."""
        boot = self._boot_files(server.image, check)
        with contextlib.ExitStack() as stack:
            for path in () if boot is None else filter(None, (boot.kernel, boot.ramdisk)):
                stack.enter_context(self._keeping(path))
            yield boot

    @contextlib.contextmanager
    def _disk(self, server: Server, check: Callable[[], None]) -> Iterator[BaseImage]:
        image = server.image
        if image.disk_format is None:
            raise ImageUnusable(f"image {image.id} has no disk_format")
        key = key_of(image.id, image.disk_format, _digest(image))
        limit = server.flavor.disk_gb * GIB
        try:
            for early in self._early if self._linkable() else ():
                base = early.ensure(image, key, server.id, limit)
                if base is not None:
                    yield base
                    return
            base = self._fetched(image, check, limit)
            with self._keeping(base.path):
                yield base
        finally:
            release(self._cache.directory, key, server.id)

    def _linkable(self) -> bool:
        """Tell whether an instance's directory can hold a link to a base, which is what keeps it."""
        places = (self._settings.directory, self._instances_path)
        for place in places:
            place.mkdir(parents=True, exist_ok=True, mode=0o711)
        return len({place.stat().st_dev for place in places}) == 1

    def precache(self, image: ImageInfo, check: Callable[[], None] = lambda: None) -> BaseImage:
        """Fetch an image's base that a later boot finds; raises what ``of`` does."""
        return replace(self._fetched(image, check, 0), boot=self._boot_files(image, check))

    def _boot_files(self, image: ImageInfo, check: Callable[[], None]) -> BootFiles | None:
        """Fetch the kernel and the ramdisk that an image names; whether its owner may have them was asked."""
        found: dict[str, Path] = {}
        for name, kind in BOOT_FILES_OF.items():
            if image_id := image.properties.get(name):
                named = self._images.show(image_id, Caller.administrator())
                check_boot_file(named, kind)
                found[kind] = self._fetched(replace(named, disk_format=kind), check, LARGEST_BOOT_FILE).path
        if "aki" not in found:
            return None
        return BootFiles(found["aki"], found.get("ari"), image.properties.get("os_command_line", ""))

    def _fetched(self, image: ImageInfo, check: Callable[[], None], limit: int) -> BaseImage:
        if image.disk_format is None:
            raise ImageUnusable(f"image {image.id} has no disk_format")
        return self._cache.ensure(
            image.id,
            image.disk_format,
            lambda target: self._images.fetch(image, target, check),
            digest=_digest(image),
            max_virtual_size=limit,
        )

    @contextlib.contextmanager
    def _keeping(self, path: Path) -> Iterator[None]:
        with self._lock:
            self._needed[path] += 1
        try:
            yield
        finally:
            with self._lock:
                self._needed[path] -= 1
                self._last_used[path] = time.monotonic()

    def told(self) -> list[str]:
        """Return the ids of the images that a boot needn't fetch, of very many the latest used."""
        return self._cache.images()[:_MOST_TOLD]

    def prune(self) -> list[Path]:
        """Remove bases that nothing has used for the configured time, or for which there is no room."""
        if not self._settings.remove_unused:
            return []
        now = time.monotonic()
        with self._lock:
            for base in self._settings.directory.glob("*.base"):
                with contextlib.suppress(FileNotFoundError):  # another process prunes, too
                    if base.stat().st_nlink > 1 or base not in self._last_used:
                        self._last_used[base] = now
            fresh = {base for base, at in self._last_used.items() if now - at < self._settings.minimum_age}
            needed = {base for base, n in self._needed.items() if n}
            removed = self._cache.prune(fresh | needed)
            removed += self._make_room(fresh - set(removed), needed)
            for base in removed:
                self._last_used.pop(base, None)
            return removed

    def _make_room(self, young: set[Path], needed: set[Path]) -> list[Path]:
        """Remove the least recently used of the young until the rest fits; the lock is held."""
        removed: list[Path] = []
        order = sorted(young, key=lambda base: self._last_used[base])
        for base in order:
            if not self._settings.max_size or self._cache.size() <= self._settings.max_size:
                break
            removed += self._cache.prune(needed | young - {base})
            young = young - {base}
        return removed


def _digest(image: ImageInfo) -> tuple[str, str] | None:
    return (image.hash_algo, image.hash_value) if image.hash_algo and image.hash_value else None


def with_image(server: Server) -> Server:
    """Return a server as booting from the image of its task, where that names one."""
    told = server.task_args.get("image")
    return replace(server, image=image_of(told)) if told else server


def spec_of(server: Server, base: BaseImage, settings: Settings) -> InstanceSpec:
    """Make the driver's order for a server."""
    drive = server.config_drive or settings.force_config_drive
    return InstanceSpec(
        id=server.id,
        name=server.name,
        vcpus=server.flavor.vcpus,
        memory_mb=server.flavor.memory_mb,
        base=base,
        root_bytes=server.flavor.disk_gb * GIB,
        swap_bytes=server.flavor.swap_mb * MIB,
        ephemeral_bytes=server.flavor.ephemeral_gb * GIB,
        config_drive=drive_files(facts_of(server, settings.network)) if drive else None,
        nics=nics_of(server, settings.network),
        image_properties=server.image.properties,
    )
