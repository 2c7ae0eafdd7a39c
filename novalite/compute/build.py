"""From a server's record to what the virt driver needs of it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from novalite.config import Settings
from novalite.errors import ImageUnusable
from novalite.images import Images
from novalite.model import GIB, Server
from novalite.virt.base import BaseImage, InstanceSpec, Nic
from novalite.virt.configdrive import GuestFacts, GuestNetwork, openstack_files
from novalite.virt.disks import ImageCache


class BaseImages:
    """Verified base images, each downloaded once and kept while of use."""

    def __init__(self, settings: Settings, images: Images) -> None:
        self._settings = settings.image_cache
        self._images = images
        self._cache = ImageCache(settings.image_cache.directory)
        self._lock = threading.Lock()
        self._needed: Counter[Path] = Counter()
        self._last_used: dict[Path, float] = {}

    @contextlib.contextmanager
    def of(self, server: Server, check: Callable[[], None]) -> Iterator[BaseImage]:
        """Give the base of a server's image; it isn't pruned during the block.

        Raises ImageUnusable, ImageMissing, or what is retryable:
        ImageServiceDown and, when the disk is full, Unavailable.
        """
        image = server.image
        if image.disk_format is None:
            raise ImageUnusable(f"image {image.id} has no disk_format")
        digest = (image.hash_algo, image.hash_value) if image.hash_algo and image.hash_value else None
        base = self._cache.ensure(
            image.id,
            image.disk_format,
            lambda target: self._images.fetch(image, target, check),
            digest=digest,
            max_virtual_size=server.flavor.disk_gb * GIB,
        )
        with self._lock:
            self._needed[base.path] += 1
        try:
            yield base
        finally:
            with self._lock:
                self._needed[base.path] -= 1
                self._last_used[base.path] = time.monotonic()

    def prune(self) -> list[Path]:
        """Remove bases that nothing has used for the configured time."""
        if not self._settings.remove_unused:
            return []
        now = time.monotonic()
        with self._lock:
            for base in self._settings.directory.glob("*.base"):
                with contextlib.suppress(FileNotFoundError):  # another process prunes, too
                    if base.stat().st_nlink > 1 or base not in self._last_used:
                        self._last_used[base] = now
            fresh = {base for base, at in self._last_used.items() if now - at < self._settings.minimum_age}
            removed = self._cache.prune(fresh | {base for base, n in self._needed.items() if n})
            for base in removed:
                self._last_used.pop(base, None)
            return removed


def mac_of(server_id: str) -> str:
    """Make a server's MAC address: the same again at every attempt."""
    tail = hashlib.sha256(server_id.encode()).digest()[:3]
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in tail)


def spec_of(server: Server, base: BaseImage, settings: Settings) -> InstanceSpec:
    """Make the driver's order for a server."""
    kind = settings.network.kind
    unconnected = "none" in (kind, server.networks)
    nics = () if unconnected else (Nic(mac_of(server.id), kind, settings.network.source),)
    drive = server.config_drive or settings.force_config_drive
    return InstanceSpec(
        id=server.id,
        name=server.name,
        vcpus=server.flavor.vcpus,
        memory_mb=server.flavor.memory_mb,
        base=base,
        root_bytes=server.flavor.disk_gb * GIB,
        config_drive=openstack_files(facts_of(server, nics)) if drive else None,
        nics=nics,
        image_properties=server.image.properties,
    )


def facts_of(server: Server, nics: tuple[Nic, ...]) -> GuestFacts:
    """Tell what a guest learns about itself."""
    keys = {server.key_name: server.public_key} if server.key_name and server.public_key else {}
    return GuestFacts(
        uuid=server.id,
        name=server.name,
        hostname=server.hostname,
        availability_zone=server.zone or "",
        launch_index=server.launch_index,
        project_id=server.project,
        public_keys=keys,
        meta=server.metadata,
        user_data=base64.b64decode(server.user_data) if server.user_data else b"",
        networks=tuple(GuestNetwork(mac=nic.mac) for nic in nics),
        image_id=server.image.id,
        flavor=server.flavor.name,
    )
