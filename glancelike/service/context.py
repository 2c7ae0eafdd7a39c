"""What all use cases share: the parts, the settings, leases, amending."""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from glancelike.errors import GlancelikeError, InvalidTransition, LeaseLost, StaleImage
from glancelike.model import Caller, Image, Viewer
from glancelike.policy import Policy
from glancelike.registry.base import ADMIN, Registry
from glancelike.vfs import MountTable

LOG = logging.getLogger(__name__)

# A compare-and-set that loses is tried again on the fresh record; with this
# many losses in a row something is wrong, not just busy.
AMEND_ATTEMPTS = 20

DISK_FORMATS = (
    "ami",
    "ari",
    "aki",
    "vhd",
    "vhdx",
    "vmdk",
    "raw",
    "qcow2",
    "vdi",
    "iso",
    "ploop",
    "gpt",
    "luks",
)
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and defaults of the service; names as Glance's options.

    ``image_size_cap`` in bytes. A quota of -1 means no limit.
    """

    image_size_cap: int = 1 << 40
    image_member_quota: int = 128
    image_property_quota: int = 128
    image_tag_quota: int = 128
    limit_param_default: int = 25
    api_limit_max: int = 1000
    hashing_algorithm: str = "sha256"
    compute_md5_checksum: bool = False
    require_image_format_match: bool = True
    disk_formats: tuple[str, ...] = DISK_FORMATS
    container_formats: tuple[str, ...] = CONTAINER_FORMATS
    upload_lease_seconds: float = 60.0

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The digests computed while data passes."""
        return (self.hashing_algorithm, *(("md5",) if self.compute_md5_checksum else ()))


class Leases:
    """Leases held by this process, renewed by one thread while held.

    A lease tells other processes that the work is being done. It is renewed
    from a thread, not from the work, since a slow peer may keep a read
    waiting for longer than a lease lasts.
    """

    def __init__(self, registry: Registry, seconds: float) -> None:
        self._registry = registry
        self._seconds = seconds
        self._held: dict[str, str] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._process = f"{socket.gethostname()}:{os.getpid()}"

    def acquire(self, name: str) -> str | None:
        """Take a lease and return its holder token, or None when it is taken."""
        holder = f"{self._process}:{uuid.uuid4().hex}"
        if not self._registry.acquire_lease(name, holder, self._seconds):
            return None
        with self._lock:
            self._held[name] = holder
            if self._thread is None:
                self._wake.clear()
                self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)
                self._thread.start()
        return holder

    def confirm(self, name: str, holder: str) -> None:
        """Raise LeaseLost unless the lease is still ours."""
        if not self._registry.renew_lease(name, holder, self._seconds):
            raise LeaseLost(f"{name}: another worker has taken the work over")

    def release(self, name: str, holder: str) -> None:
        """Give the lease back; where that fails it runs out by itself."""
        with self._lock:
            self._held.pop(name, None)
        try:
            self._registry.release_lease(name, holder)
        except GlancelikeError as error:
            LOG.warning("lease %s could not be released: %s", name, error)

    def stop(self) -> None:
        """Stop renewing; what is still held runs out by itself."""
        self._wake.set()
        thread = self._thread
        if thread is not None:
            thread.join()
            self._thread = None

    def _keep(self) -> None:
        while not self._wake.wait(self._seconds / 3):
            with self._lock:
                held = list(self._held.items())
            for name, holder in held:
                try:
                    self._registry.renew_lease(name, holder, self._seconds)
                except GlancelikeError as error:
                    LOG.warning("lease %s could not be renewed: %s", name, error)


class Context:
    """The parts the use cases work with."""

    def __init__(self, registry: Registry, mounts: MountTable, policy: Policy, settings: Settings) -> None:
        self.registry = registry
        self.mounts = mounts
        self.policy = policy
        self.settings = settings
        self.leases = Leases(registry, settings.upload_lease_seconds)
        self._opened = False

    def open(self) -> None:
        """Open the registry, then the stores; all or nothing; safe to call twice."""
        if self._opened:
            return
        self.registry.open()
        try:
            self.mounts.open()
        except BaseException:
            self.registry.close()
            raise
        self._opened = True

    def close(self) -> None:
        """Close everything; safe to call twice."""
        if not self._opened:
            return
        self._opened = False
        self.leases.stop()
        self.mounts.close()
        self.registry.close()

    def get(self, caller: Caller, image_id: str) -> Image:
        """Return the image if the caller may see it."""
        return self.registry.get(image_id, Viewer(caller.project, caller.admin))

    def amend(self, image_id: str, change: Callable[[Image], Image | None], viewer: Viewer = ADMIN) -> Image:
        """Change a record by compare-and-set, on the fresh record each time.

        ``change`` gets the current image and returns the new one, or None to
        leave it. It may be called several times. Returning the same image
        counts as a change: its version moves on, which shuts out whoever
        still works with the older one.
        """
        for _attempt in range(AMEND_ATTEMPTS):
            image = self.registry.get(image_id, viewer)
            changed = change(image)
            if changed is None:
                return image
            try:
                return self.registry.update(changed, expect=image.version)
            except StaleImage:
                continue
        raise InvalidTransition(f"Image {image_id} is being changed by too many at once: try again")
