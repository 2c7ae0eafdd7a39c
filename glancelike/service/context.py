"""What all use cases share: the parts, the settings, leases, amending."""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from glancelike import lifecycle
from glancelike.cache import ImageCache
from glancelike.custom_schema import CustomSchema
from glancelike.errors import GlancelikeError, ImageNotFound, InvalidTransition, LeaseLost, StaleImage
from glancelike.importing.base import ImportPlugin
from glancelike.model import Caller, Image, Viewer
from glancelike.notifications import Notifier, Silence
from glancelike.policy import Policy
from glancelike.protections import Protections
from glancelike.registry.base import ADMIN, Registry
from glancelike.service.quotas import RESOURCES, LimitSource, Quotas, SameForAll
from glancelike.signatures import Certificates, NoCertificates, is_signed, verification_of
from glancelike.transfer import Watcher
from glancelike.urlrules import FetchLimits, UrlRules
from glancelike.vfs import MountTable

if TYPE_CHECKING:
    from glancelike.outbound.opener import Opener

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
    image_location_quota: int = 10
    show_multiple_locations: bool = False
    show_image_direct_url: bool = False
    do_secure_hash: bool = True
    http_retries: int = 3
    limit_param_default: int = 25
    api_limit_max: int = 1000
    user_storage_quota: int = 0  # bytes a project; 0: no limit
    image_size_total: int = -1  # MiB a project, as image_stage_total
    image_stage_total: int = -1
    image_count_total: int = -1
    image_count_uploading: int = -1
    hashing_algorithm: str = "sha256"
    compute_md5_checksum: bool = False
    require_image_format_match: bool = True
    disk_formats: tuple[str, ...] = DISK_FORMATS
    container_formats: tuple[str, ...] = CONTAINER_FORMATS
    upload_lease_seconds: float = 60.0
    resumable_upload_lifetime: int = 72  # hours
    presigned_upload_expires: int = 0  # seconds; 0: off
    delayed_delete: bool = False
    scrub_time: int = 0  # seconds
    protections: Protections = field(default_factory=Protections)
    custom_schema: CustomSchema = field(default_factory=CustomSchema)
    task_time_to_live: int = 48  # hours
    enabled_import_methods: tuple[str, ...] = ("glance-direct", "web-download", "copy-image")
    import_work_directory: str | None = None  # None: the system's for temporary files
    url_rules: UrlRules = field(default_factory=UrlRules)
    fetch_limits: FetchLimits = field(default_factory=FetchLimits)
    copy_read_back: bool = False
    replicas: int = 1
    replica_stores: tuple[str, ...] = ()  # none: all writable ones
    replication_interval: int = 600  # seconds
    verify_interval: int = 0  # hours; 0: never
    verify_rate: int = 50  # MiB a second; 0: no limit
    verify_repair: bool = True
    presigned_download_expires: int = 0  # seconds; 0: none
    glance_download_properties: tuple[str, ...] = ("hw_", "trait:", "os_distro", "os_secure_boot", "os_type")

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The digests computed while data passes."""
        return (self.hashing_algorithm, *(("md5",) if self.compute_md5_checksum else ()))


def upload_lease(image_id: str) -> str:
    """Name the lease that an upload to the image holds."""
    return f"upload:{image_id}"


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
        self._others: list[Callable[[], None]] = []
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

    def regain(self, name: str, holder: str) -> None:
        """Have the lease again though it ran out; raise LeaseLost if somebody else has it by now."""
        if not self._registry.acquire_lease(name, holder, self._seconds):
            raise LeaseLost(f"{name}: another worker has taken the work over")

    def release(self, name: str, holder: str) -> None:
        """Give the lease back; where that fails it runs out by itself."""
        with self._lock:
            if self._held.get(name) == holder:  # else it was lost, to another in this very process
                del self._held[name]
        try:
            self._registry.release_lease(name, holder)
        except GlancelikeError as error:
            LOG.warning("lease %s could not be released: %s", name, error)

    def attend(self, keep: Callable[[], None]) -> None:
        """Have something else kept alive whenever leases are renewed."""
        self._others.append(keep)

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
            for keep in self._others:
                try:
                    keep()
                except GlancelikeError as error:
                    LOG.warning("what is reserved could not be extended: %s", error)
            for name, holder in held:
                try:
                    self._registry.renew_lease(name, holder, self._seconds)
                except GlancelikeError as error:
                    LOG.warning("lease %s could not be renewed: %s", name, error)


def configured(settings: Settings) -> LimitSource | None:
    """Return the limits that the settings set for each project, if any."""
    limits = {
        kind: getattr(settings, resource) * unit
        for resource, (kind, unit) in RESOURCES.items()
        if getattr(settings, resource) >= 0
    }
    if settings.user_storage_quota > 0:
        limits["total"] = min(limits.get("total", settings.user_storage_quota), settings.user_storage_quota)
    return SameForAll(limits) if limits else None


class Context:
    """The parts the use cases work with."""

    def __init__(
        self,
        registry: Registry,
        mounts: MountTable,
        policy: Policy,
        settings: Settings,
        *,
        import_plugins: Sequence[ImportPlugin] = (),
        cache: ImageCache | None = None,
        limits: LimitSource | None = None,
        certificates: Certificates | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self.registry = registry
        self.certificates = certificates or NoCertificates()
        self._notifier = notifier or Silence()
        self.cache = cache
        self.import_plugins = tuple(import_plugins)
        self.mounts = mounts
        self.policy = policy
        self.settings = settings
        self.leases = Leases(registry, settings.upload_lease_seconds)
        self.quotas = Quotas(registry, limits or configured(settings), settings.upload_lease_seconds / 2)
        self.leases.attend(self.quotas.keep)
        # Replaced by whoever runs tasks.
        self.wake_runner: Callable[[], None] = lambda: None
        self._opened: ExitStack | None = None

    def open(self) -> None:
        """Open all the parts or none; safe to call twice."""
        if self._opened is not None:
            return
        parts = (self.registry, self.cache, self.mounts, self._notifier, *self.import_plugins)
        with ExitStack() as stack:
            for part in parts:
                if part is not None:
                    part.open()
                    stack.callback(part.close)
            self._opened = stack.pop_all()

    def close(self) -> None:
        """Close everything; safe to call twice."""
        opened, self._opened = self._opened, None
        if opened is not None:
            self.leases.stop()
            opened.close()

    def get(self, caller: Caller, image_id: str) -> Image:
        """Return the image if the caller may see it."""
        return self.registry.get(image_id, Viewer(caller.project, caller.admin))

    def amend(
        self,
        image_id: str,
        change: Callable[[Image], Image | None],
        viewer: Viewer = ADMIN,
        *,
        settles: str | None = None,
    ) -> Image:
        """Change a record by compare-and-set, on the fresh record each time.

        ``change`` gets the current image and returns the new one, or None to
        leave it. It may be called several times. Returning the same image
        counts as a change: its version moves on, which shuts out whoever
        still works with the older one. ``settles`` is a reservation that
        the new record counts for.
        """
        for _attempt in range(AMEND_ATTEMPTS):
            image = self.registry.get(image_id, viewer)
            changed = change(image)
            if changed is None:
                if settles is not None:
                    self.registry.release_reservation(settles)
                return image
            try:
                return self.registry.update(changed, expect=image.version, settles=settles)
            except StaleImage:
                continue
        raise InvalidTransition(f"Image {image_id} is being changed by too many at once: try again")

    def queue_again(self, image_id: str, lease: str, holder: str) -> None:
        """Queue an image again whose data never came; raise LeaseLost when others bring it by now."""

        def change(image: Image) -> Image | None:
            # As on the way to active: had anybody taken over since, the version would differ.
            self.leases.regain(lease, holder)
            return lifecycle.queued_again(image)

        self.amend(image_id, change)

    def give_up(self, image_id: str, lease: str, holder: str) -> None:
        """Queue an image again on the way out of a failure, whose own error matters more than ours."""
        try:
            self.queue_again(image_id, lease, holder)
        except ImageNotFound:
            LOG.info("image %s was deleted while its data was on its way", image_id)
        except LeaseLost:
            LOG.info("image %s is left to who has taken it over", image_id)
        except GlancelikeError as error:
            LOG.warning("image %s stays as it is until it is reaped: %s", image_id, error)

    @cached_property
    def opener(self) -> Opener:
        """What opens the URLs that callers give."""
        from glancelike.outbound.opener import Opener  # with urllib3, which few calls need

        return Opener(self.settings.url_rules, self.settings.fetch_limits)

    def notify(self, event: str, payload: Any, *, error: bool = False) -> None:
        """Tell whoever listens what has happened; returns at once, never raises."""
        self._notifier.emit(event, payload, error=error)

    def needs_token(self, image: Image) -> bool:
        """Tell whether ``watchers_of`` will need the caller's own token."""
        return self.certificates.needs_token and is_signed(image)

    def watchers_of(self, image: Image, caller: Caller) -> tuple[Watcher, ...]:
        """Return what has to see the image's data on its way into a store.

        Raises InvalidSignature where the image is signed and that can't be
        verified, Unreachable where the key manager is away.
        """
        verification = verification_of(image, self.certificates, caller)
        return (verification,) if verification is not None else ()
