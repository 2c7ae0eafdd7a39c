"""Frozen values that pass between the layers of novalite.

Times are aware datetimes in UTC with microseconds. Memory is MiB and disk
is GiB (as in the Compute API reference,
https://docs.openstack.org/api-ref/compute/); image sizes are bytes.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from novalite.errors import ImageUnusable

MIB = 1024**2
GIB = 1024**3


def utcnow() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


class VmState(enum.StrEnum):
    """What a server is, apart from what is being done to it."""

    BUILDING = "building"
    ACTIVE = "active"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    RESCUED = "rescued"
    RESIZED = "resized"
    SHELVED = "shelved"
    SHELVED_OFFLOADED = "shelved_offloaded"
    ERROR = "error"
    DELETED = "deleted"


class TaskState(enum.StrEnum):
    """What is being done to a server; a worker owes the end of it.

    A server without a task needs nobody. One with a task is unfinished
    work, found and driven on by the scheduler (``SCHEDULING`` of a server
    without a host, and ``OF_SCHEDULER``) or by the compute manager of its
    host (all others).
    """

    SCHEDULING = "scheduling"
    SPAWNING = "spawning"
    POWERING_ON = "powering-on"
    POWERING_OFF = "powering-off"
    REBOOTING = "rebooting"
    REBOOTING_HARD = "rebooting_hard"
    PAUSING = "pausing"
    UNPAUSING = "unpausing"
    SUSPENDING = "suspending"
    RESUMING = "resuming"
    REBUILDING = "rebuilding"
    RESCUING = "rescuing"
    UNRESCUING = "unrescuing"
    IMAGE_SNAPSHOT = "image_snapshot"
    IMAGE_BACKUP = "image_backup"
    RESIZE_PREP = "resize_prep"
    RESIZE_MIGRATING = "resize_migrating"
    RESIZE_MIGRATED = "resize_migrated"
    RESIZE_FINISH = "resize_finish"
    RESIZE_CONFIRMING = "resize_confirming"
    RESIZE_REVERTING = "resize_reverting"
    SHELVING = "shelving"
    SHELVING_OFFLOADING = "shelving_offloading"
    UNSHELVING = "unshelving"
    EVACUATING = "evacuating"
    REBUILD_SPAWNING = "rebuild_spawning"
    LIVE_PREP = "live_prep"
    LIVE_LEAVING = "live_leaving"
    LIVE_PREPARING = "live_preparing"
    MIGRATING = "migrating"
    LIVE_ARRIVED = "live_arrived"
    LIVE_CANCELLING = "live_cancelling"
    DELETING = "deleting"


#: Tasks of servers that have a host, for which the scheduler is to find room.
OF_SCHEDULER = (TaskState.RESIZE_PREP, TaskState.EVACUATING, TaskState.LIVE_PREP)
#: While one of these goes on the guest runs on the one host or the other; nobody but their worker touches it.
LIVE = (
    *(TaskState.LIVE_LEAVING, TaskState.LIVE_PREPARING, TaskState.MIGRATING, TaskState.LIVE_ARRIVED),
    TaskState.LIVE_CANCELLING,
)
#: What ``task_args`` say of a live migration that is to end soon, at the price of a pause.
FORCE_COMPLETE = "force_complete"

# Keys of ``Server.kept``.
RESIZED_FROM = "resized_from"
SHELVED_IMAGE = "shelved_image"


class Status(enum.StrEnum):
    """What the Compute API shows as ``status``."""

    BUILD = "BUILD"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    SUSPENDED = "SUSPENDED"
    SHUTOFF = "SHUTOFF"
    RESCUE = "RESCUE"
    REBUILD = "REBUILD"
    RESIZE = "RESIZE"
    VERIFY_RESIZE = "VERIFY_RESIZE"
    REVERT_RESIZE = "REVERT_RESIZE"
    SHELVED = "SHELVED"
    SHELVED_OFFLOADED = "SHELVED_OFFLOADED"
    REBOOT = "REBOOT"
    HARD_REBOOT = "HARD_REBOOT"
    MIGRATING = "MIGRATING"
    ERROR = "ERROR"
    DELETED = "DELETED"


STATUS_OF_STATE = {
    VmState.BUILDING: Status.BUILD,
    VmState.ACTIVE: Status.ACTIVE,
    VmState.PAUSED: Status.PAUSED,
    VmState.SUSPENDED: Status.SUSPENDED,
    VmState.STOPPED: Status.SHUTOFF,
    VmState.RESCUED: Status.RESCUE,
    VmState.RESIZED: Status.VERIFY_RESIZE,
    VmState.SHELVED: Status.SHELVED,
    VmState.SHELVED_OFFLOADED: Status.SHELVED_OFFLOADED,
    VmState.ERROR: Status.ERROR,
    VmState.DELETED: Status.DELETED,
}
# What a task shows instead, whatever the server is.
STATUS_OF_TASK = {
    TaskState.REBOOTING: Status.REBOOT,
    TaskState.REBOOTING_HARD: Status.HARD_REBOOT,
    TaskState.REBUILDING: Status.REBUILD,
    TaskState.EVACUATING: Status.REBUILD,
    TaskState.LIVE_PREP: Status.MIGRATING,
    **dict.fromkeys(LIVE, Status.MIGRATING),
    TaskState.REBUILD_SPAWNING: Status.REBUILD,
    TaskState.RESIZE_PREP: Status.RESIZE,
    TaskState.RESIZE_MIGRATING: Status.RESIZE,
    TaskState.RESIZE_MIGRATED: Status.RESIZE,
    TaskState.RESIZE_FINISH: Status.RESIZE,
    TaskState.RESIZE_REVERTING: Status.REVERT_RESIZE,
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Whether ``admin`` is true, the policy says, and what that means.

    ``token`` is what the caller authenticated with, for image services
    that decide by it; it is never shown or stored. ``service_roles`` are
    those of the service that passes a request on.
    """

    user: str | None = None
    project: str | None = None
    roles: frozenset[str] = frozenset()
    admin: bool = False
    request_id: str | None = None
    token: str | None = field(default=None, repr=False, compare=False)
    service_roles: frozenset[str] = frozenset()
    system_scope: str | None = None

    @classmethod
    def of(cls, other: Any, *, token: str | None = None) -> Caller:
        """Take over a caller of another package with the same attributes."""
        return cls(
            *(other.user, other.project, frozenset(other.roles), bool(other.admin), other.request_id, token),
            service_roles=frozenset(other.service_roles),
            system_scope=other.system_scope,
        )

    @classmethod
    def administrator(cls, project: str | None = None) -> Caller:
        """Make the caller an embedded program acts as."""
        return cls("admin", project, frozenset({"admin", "member", "reader"}), admin=True)


@dataclass(frozen=True, slots=True)
class Flavor:
    """A size of server. ``disk_gb`` 0 means as large as the image.

    ``ephemeral_gb`` is GiB and ``swap_mb`` MiB: the sizes of further disks, 0 for none.
    ``rxtx_factor`` is told to who asks; nothing goes by it.
    """

    id: str
    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    swap_mb: int = 0
    ephemeral_gb: int = 0
    rxtx_factor: float = 1.0
    public: bool = True
    description: str | None = None
    extra_specs: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime = field(default_factory=utcnow)

    @property
    def disks_gb(self) -> int:
        """Tell what all disks take of a host: swap counts up to the next GiB, as in Nova."""
        return self.disk_gb + self.ephemeral_gb - (-self.swap_mb // 1024)


# Kinds of key pairs.
SSH = "ssh"
X509 = "x509"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public SSH key of a user, or an X.509 certificate as PEM.

    ``fingerprint`` is MD5, of a certificate SHA-1, with colons.
    """

    user: str
    name: str
    public_key: str
    fingerprint: str
    type: str = SSH
    created_at: datetime = field(default_factory=utcnow)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What compute needs to know of an image; sizes in bytes.

    ``min_disk`` is GiB and ``min_ram`` MiB, as in the Image API.
    """

    id: str
    name: str | None = None
    status: str = "active"
    owner: str | None = None
    visibility: str = "private"
    disk_format: str | None = None
    container_format: str | None = None
    size: int | None = None
    virtual_size: int | None = None
    min_disk: int = 0
    min_ram: int = 0
    hash_algo: str | None = None
    hash_value: str | None = None
    checksum: str | None = None  # MD5, used only where there is no better digest
    properties: Mapping[str, str] = field(default_factory=dict)


#: Properties of an image that name what its guests start with, and of which format each has to be.
BOOT_FILES_OF = {"kernel_id": "aki", "ramdisk_id": "ari"}
LARGEST_BOOT_FILE = 512 * MIB


def check_boot_file(image: ImageInfo, kind: str) -> None:
    """Raise ImageUnusable unless an image is a kernel ("aki") or a ramdisk ("ari") that can be loaded."""
    if image.status != "active":
        raise ImageUnusable(f"image {image.id} is {image.status}, not active")
    if kind not in (image.disk_format, image.container_format):
        raise ImageUnusable(f"image {image.id} is no {kind}: it is {image.disk_format}")
    if (image.size or 0) > LARGEST_BOOT_FILE:
        raise ImageUnusable(f"image {image.id} has {image.size} bytes, an {kind} at most {LARGEST_BOOT_FILE}")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a server is in error, as the API shows it."""

    code: int
    message: str
    created_at: datetime = field(default_factory=utcnow)


@dataclass(frozen=True, slots=True)
class Address:
    """One address of a server on one network."""

    network: str
    address: str
    mac: str
    version: int = 4
    kind: str = "fixed"


@dataclass(frozen=True, slots=True)
class Server:
    """One server's record.

    ``flavor`` and ``image`` are snapshots taken when it was created.
    ``version`` is the compare-and-set counter, 1 when new. ``attempts``
    counts how often a worker took up the present task, ``request_id`` tells
    the request that ordered it. ``lease_*`` tell who works on it.
    ``user_data`` is base64, as the caller sent it. ``locked_by`` is "owner"
    or "admin". ``task_args`` is what the present task needs to know, and ends
    with it; ``kept`` is what a later action needs: what there was before a
    resize, the image of a shelved server.
    """

    id: str
    name: str
    project: str
    user: str
    flavor: Flavor
    image: ImageInfo
    vm_state: VmState = VmState.BUILDING
    task_state: TaskState | None = TaskState.SCHEDULING
    power_state: str | None = None  # a virt.base.PowerState
    host: str | None = None
    zone: str | None = None  # the host's, once it has one
    forced_host: str | None = None
    key_name: str | None = None
    public_key: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    user_data: str | None = None
    config_drive: bool = False
    networks: str = "auto"  # or "none": no network card
    description: str | None = None
    locked_by: str | None = None
    locked_reason: str | None = None
    hints: Mapping[str, Any] = field(default_factory=dict)
    addresses: tuple[Address, ...] = ()
    fault: Fault | None = None
    reservation_id: str = ""
    launch_index: int = 0
    created_at: datetime = field(default_factory=utcnow)
    updated_at: datetime = field(default_factory=utcnow)
    launched_at: datetime | None = None
    terminated_at: datetime | None = None
    access_ipv4: str | None = None
    access_ipv6: str | None = None
    task_args: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)
    request_id: str | None = None
    attempts: int = 0
    tried_hosts: tuple[str, ...] = ()
    group_id: str | None = None  # the server group it's in
    hostname: str = ""  # the guest's; made of the name where nothing is said
    pinned_zone: str | None = None  # the zone that was asked for, where it stays
    version: int = 1
    lease_holder: str | None = None
    lease_until: datetime | None = None

    def __post_init__(self) -> None:
        if not self.hostname:
            object.__setattr__(self, "hostname", host_name(self.name, self.id))

    @property
    def status(self) -> Status:
        """Tell the status the Compute API shows."""
        if self.task_state in STATUS_OF_TASK and self.vm_state != VmState.DELETED:
            return STATUS_OF_TASK[self.task_state]
        return STATUS_OF_STATE[self.vm_state]


def host_name(name: str, server_id: str) -> str:
    """Make a guest's host name of a server's name: a DNS label."""
    label = re.sub(r"[ _.]+", "-", name.lower())
    label = re.sub(r"[^a-z0-9-]", "", label).strip("-")[:63].rstrip("-")
    return label or f"server-{server_id}"


@dataclass(frozen=True, slots=True)
class NewServer:
    """What ``ComputeService.servers.create`` is asked for.

    ``host`` is where they are to be; it is ``forced`` where the zone named it,
    which another rule lets callers do. ``asked_networks`` says that ``networks``
    are what the caller asked for, and not the default. From ``min_count`` up
    to ``max_count`` servers are made, as many as the quota allows.
    """

    name: str
    image_id: str
    flavor_id: str
    key_name: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    user_data: str | None = None
    config_drive: bool = False
    zone: str | None = None
    host: str | None = None
    forced: bool = True
    hints: Mapping[str, Any] = field(default_factory=dict)
    networks: str = "auto"
    asked_networks: bool = False
    description: str | None = None
    tags: frozenset[str] = frozenset()
    access_ipv4: str | None = None
    access_ipv6: str | None = None
    hostname: str | None = None
    admin_password: str | None = field(default=None, repr=False)
    min_count: int = 1
    max_count: int = 1


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What a server is to become; None leaves what it has."""

    image_id: str
    name: str | None = None
    metadata: Mapping[str, str] | None = None
    access_ipv4: str | None = None
    access_ipv6: str | None = None
    set_description: bool = False
    description: str | None = None
    set_key: bool = False
    key_name: str | None = None
    set_user_data: bool = False
    user_data: str | None = None
    hostname: str | None = None
    admin_password: str = field(default="", repr=False)
    preserve_ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is to be: on a host, in a zone; ``set_zone`` with no zone is in any."""

    host: str | None = None
    set_zone: bool = False
    zone: str | None = None


ANYWHERE = Place()
SERVER_SORT_FIELDS = frozenset(
    {"created_at", "updated_at", "name", "id", "vm_state", "task_state", "host", "project", "user", "zone"}
    | {"config_drive", "description", "image_id", "key_name", "launch_index", "launched_at", "power_state"}
    | {"terminated_at", "flavor_id", "locked_by", "hostname"}
)


@dataclass(frozen=True, slots=True)
class SortKey:
    field: str
    descending: bool = True


@dataclass(frozen=True, slots=True)
class ServerQuery:
    """What servers to list.

    ``name``, ``hostname`` and ``description`` are substrings or regular expressions (see
    ``db.patterns``), compared without case.
    ``tags`` are all to be there, one of ``tags_any``, not all of ``not_tags``
    and none of ``not_tags_any``. ``all_projects`` and ``host`` are for admins.
    Deleted servers are shown with ``deleted`` or with ``changes_since`` only.
    None means: don't filter by this.
    """

    name: str | None = None
    statuses: frozenset[Status] | None = None
    project: str | None = None
    user: str | None = None
    host: str | None = None
    zone: str | None = None
    image_id: str | None = None
    flavor_id: str | None = None
    key_name: str | None = None
    reservation_id: str | None = None
    id: str | None = None
    description: str | None = None
    vm_state: str | None = None
    task_state: str | None = None
    power_states: tuple[str | None, ...] | None = None
    config_drive: bool | None = None
    launch_index: int | None = None
    locked: bool | None = None
    hostname: str | None = None
    created_since: datetime | None = None
    launched_since: datetime | None = None
    terminated_since: datetime | None = None
    tags: frozenset[str] = frozenset()
    tags_any: frozenset[str] = frozenset()
    not_tags: frozenset[str] = frozenset()
    not_tags_any: frozenset[str] = frozenset()
    changes_since: datetime | None = None
    changes_before: datetime | None = None
    deleted: bool = False
    all_projects: bool = False
    sort: tuple[SortKey, ...] = (SortKey("created_at"),)
    limit: int = 1000
    marker: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """Who asked for something to be done to a server, in which request."""

    action: str  # its name in the Compute API's list of instance actions
    request_id: str
    user: str | None
    project: str | None


@dataclass(frozen=True, slots=True)
class ActionEvent:
    """One step of an action. ``result`` is "Success" or "Error", None meanwhile."""

    event: str
    host: str | None
    started_at: datetime
    finished_at: datetime | None = None
    result: str | None = None
    details: str | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """What was ordered of a server, and how it went; ``message`` is "Error" or None."""

    server_id: str
    action: str
    request_id: str
    user: str | None
    project: str | None
    started_at: datetime
    updated_at: datetime
    message: str | None = None
    events: tuple[ActionEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class ActionQuery:
    """Which actions of a server to list, newest first; ``marker`` is a request id."""

    changes_since: datetime | None = None
    changes_before: datetime | None = None
    limit: int = 1000
    marker: str | None = None


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing; ``next_marker`` is None on the last page."""

    items: tuple[T, ...]
    next_marker: str | None = None


@dataclass(frozen=True, slots=True)
class ComputeHost:
    """One host that runs servers: what it offers, and what is claimed.

    ``zone`` is that of its aggregates, or else what the host itself says.
    ``generation`` counts changes of what schedulers decide by; a claim is
    a compare-and-set on it. ``up`` says whether its heartbeat is fresh and
    nobody has said that it is down all the same (``forced_down``).
    ``server_ids`` are the servers placed here; what is claimed by one that
    moves, its other host has as well. ``disks_url`` is where other hosts
    fetch disks of servers that leave. ``images_digest`` changes with which
    images it has.
    """

    name: str
    zone: str
    hypervisor_type: str
    hypervisor_version: str
    virt_type: str
    arch: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    ip: str | None = None
    console_url: str | None = None  # where its guests' consoles are served
    vcpus_used: int = 0
    memory_mb_used: int = 0
    disk_gb_used: int = 0
    server_ids: frozenset[str] = frozenset()
    enabled: bool = True
    disabled_reason: str | None = None
    forced_down: bool = False
    uptime: str | None = None  # in the words of the program of that name, at the last heartbeat
    up: bool = True
    heartbeat_at: datetime = field(default_factory=utcnow)
    generation: int = 0
    disks_url: str | None = None
    images_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Zone:
    """An availability zone; it is available when one of its hosts is up."""

    name: str
    available: bool
    hosts: tuple[ComputeHost, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What a project's servers use, or may use at most (-1: unlimited)."""

    instances: int = 0
    cores: int = 0
    ram: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """A project's quotas and what it uses of them."""

    quota: Usage
    used: Usage
    key_pairs: int = -1
    metadata_items: int = -1
    server_groups: int = -1
    server_group_members: int = -1
    server_groups_used: int = 0
