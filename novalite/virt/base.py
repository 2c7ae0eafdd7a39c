"""The virt driver contract: what the compute worker asks of a hypervisor.

A driver knows no queue, no database and no image service: it gets frozen
values and paths, and acts. Five rules hold for every driver, and
``novalite.testing.VirtConformance`` checks them:

1. Every method is idempotent: spawning what runs leaves it running,
   destroying what is gone succeeds, a power state that holds already is kept.
2. ``spawn`` leaves all or nothing: when it raises, no domain and no file of
   the instance remain. After kill -9, ``destroy`` cleans whatever was made.
3. The instance id is the domain's UUID; ``list_states`` lists only instances
   that this driver made under its own ``instances_path``.
4. A capability is a promise: what isn't declared raises ``Unsupported``.
5. Methods are thread-safe after ``open()``.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from novalite.errors import Unsupported
from novalite.virt.diagnostics import Diagnostics


class VirtCap(enum.Flag):
    """What a driver can do beyond the required methods."""

    NONE = 0
    CONSOLE_LOG = enum.auto()
    SERIAL = enum.auto()
    PAUSE = enum.auto()  # PowerAction.PAUSE and UNPAUSE
    SUSPEND = enum.auto()  # PowerAction.SUSPEND and RESUME
    SNAPSHOT = enum.auto()
    RESCUE = enum.auto()
    RESIZE = enum.auto()
    NBD_BASE = enum.auto()  # a base may be given as an NBD export
    DIAGNOSTICS = enum.auto()
    LIVE_MIGRATION = enum.auto()


class PowerState(enum.StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"


#: Of guests that don't run, and won't by themselves.
OFF = (PowerState.SHUTDOWN, PowerState.CRASHED)


class PowerAction(enum.StrEnum):
    START = "start"
    STOP = "stop"  # ask the guest, then force after the grace period
    FORCE_STOP = "force-stop"
    SOFT_REBOOT = "soft-reboot"
    HARD_REBOOT = "hard-reboot"
    PAUSE = "pause"  # halt the processors; the memory stays
    UNPAUSE = "unpause"
    SUSPEND = "suspend"  # keep the memory on disk and cut the power
    RESUME = "resume"  # or START: go on where SUSPEND was


#: What an action needs beyond the required methods.
NEEDS = {
    PowerAction.PAUSE: VirtCap.PAUSE,
    PowerAction.UNPAUSE: VirtCap.PAUSE,
    PowerAction.SUSPEND: VirtCap.SUSPEND,
    PowerAction.RESUME: VirtCap.SUSPEND,
}


@dataclass(frozen=True, slots=True)
class HostInfo:
    """What the host offers. Memory in MiB, disk in GiB."""

    hostname: str
    hypervisor_type: str
    hypervisor_version: str
    virt_type: str  # "kvm", "qemu" or "fake"
    arch: str
    vcpus: int
    memory_mb: int
    disk_gb: int


@dataclass(frozen=True, slots=True)
class NbdExport:
    """What is read by NBD on a unix socket of this host."""

    socket: Path
    name: str

    @property
    def url(self) -> str:
        """Its URL, as QEMU writes it."""
        return f"nbd+unix:///{self.name}?socket={self.socket}"


@dataclass(frozen=True, slots=True)
class BootFiles:
    """A kernel that a guest starts with, where its disk has no boot loader; the files are immutable."""

    kernel: Path
    ramdisk: Path | None = None
    command_line: str = ""  # empty: the first disk is the root, the serial port the console


@dataclass(frozen=True, slots=True)
class BaseImage:
    """An immutable image file that overlays may be put on.

    It is verified, but where it has an ``nbd`` export: then ``path`` is still being
    filled, guests read the export alone, and a link to ``path`` in the
    instance's directory says that the instance uses it. Needs NBD_BASE.
    """

    path: Path
    format: str  # always named to qemu, never probed by it
    virtual_size: int  # bytes
    nbd: NbdExport | None = None
    boot: BootFiles | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of a guest's disk that needs no other file."""

    path: Path
    format: str  # a disk_format of the Image API
    virtual_size: int  # bytes


@dataclass(frozen=True, slots=True)
class Departure:
    """What a guest's new host makes ready: a root disk of this size, and this file as it is."""

    virtual_size: int  # bytes
    config_drive: Path | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a guest that runs is sent to: a hypervisor's URI, an address for its data, a directory."""

    uri: str
    address: str
    instances_path: str


@dataclass(frozen=True, slots=True)
class Nic:
    """One network card. ``kind`` is ``user``, ``network`` or ``bridge``."""

    mac: str
    kind: str = "user"
    source: str = ""  # name of the libvirt network or the bridge
    model: str = "virtio"


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """All a driver needs to make one guest. Memory in MiB, disk in bytes."""

    id: str
    name: str  # for people; the domain's title
    vcpus: int
    memory_mb: int
    base: BaseImage
    root_bytes: int = 0  # 0: as large as the image; never smaller than it
    swap_bytes: int = 0  # 0: no swap disk
    ephemeral_bytes: int = 0  # 0: no ephemeral disk
    ephemeral_base: BaseImage | None = None  # what is on that one; None: an empty file system
    config_drive: Mapping[str, bytes] | None = None  # path inside the drive -> content
    nics: tuple[Nic, ...] = ()
    image_properties: Mapping[str, str] = field(default_factory=dict)  # hw_* hints
    started: bool = True  # False: make it, and leave it off


class VirtDriver(ABC):
    """Base class of virt drivers, entry points ``novalite.virt``.

    ``options`` are the driver's oslo.config options; ``settings`` maps their
    names to values, so that a driver can be made without oslo.config.
    The constructor does no I/O.
    """

    name: ClassVar[str]
    capabilities: ClassVar[VirtCap] = VirtCap.NONE
    options: ClassVar[tuple[Any, ...]] = ()

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def open(self) -> None:  # noqa: B027 - optional to override
        """Connect and check the host; raise HypervisorDown or ConfigError."""

    def close(self) -> None:  # noqa: B027 - optional to override
        """Release everything; guests keep running."""

    @abstractmethod
    def host_info(self) -> HostInfo:
        """Tell what this host offers."""

    @abstractmethod
    def list_states(self) -> dict[str, PowerState]:
        """Map the id of each instance of this driver to its power state."""

    @abstractmethod
    def spawn(self, spec: InstanceSpec) -> None:
        """Make the instance's disks and start it, unless the spec says otherwise.

        Raises ImageUnusable when the base image can't be an overlay's base,
        FlavorTooSmall when ``root_bytes`` is smaller than the image, and
        HypervisorDown when the hypervisor refuses or is away.
        """

    @abstractmethod
    def destroy(self, instance_id: str) -> None:
        """End the guest and remove all it had; no error when it's gone."""

    @abstractmethod
    def set_power(self, instance_id: str, action: PowerAction) -> None:
        """Change the power state.

        Stopping and rebooting forget a suspended guest's memory. Raises
        InstanceNotFound for an unknown id, and InvalidState when a guest
        that is off is to be paused or suspended. PAUSE and UNPAUSE need
        PAUSE, SUSPEND and RESUME need SUSPEND.
        """

    def console_log(self, instance_id: str, *, tail_bytes: int = 102400) -> bytes:
        """Return the end of the serial log, at most ``tail_bytes``.

        The log survives power cycles and ends with the instance.
        Raises InstanceNotFound for an unknown id; needs CONSOLE_LOG.
        """
        raise Unsupported(f"virt driver {self.name} has no console log")

    def open_serial(self, instance_id: str) -> int:
        """Open the terminal at the first serial port of a guest that runs.

        Returns a file descriptor that doesn't block, for reading and writing;
        the caller closes it. It ends when the guest does. What is written
        there goes to the log all the same. Raises InstanceNotFound, and
        InvalidState for a guest that is off; needs SERIAL.
        """
        raise Unsupported(f"virt driver {self.name} has no serial consoles")

    def diagnostics(self, instance_id: str) -> Diagnostics:
        """Tell what a guest that runs, paused or not, has used so far.

        Raises InstanceNotFound for an unknown id, and InvalidState for a
        guest that is off; needs DIAGNOSTICS.
        """
        raise Unsupported(f"virt driver {self.name} tells no diagnostics")

    def snapshot(self, instance_id: str) -> AbstractContextManager[Snapshot]:
        """Copy the root disk as it is at one moment; the file goes with the block.

        A guest that runs goes on. Raises InstanceNotFound for an unknown id;
        needs SNAPSHOT.
        """
        raise Unsupported(f"virt driver {self.name} makes no snapshots")

    def copy_ephemeral(self, instance_id: str) -> AbstractContextManager[Snapshot | None]:
        """Copy the ephemeral disk of a guest that is off; the file goes with the block.

        It gives None where there is no such disk.
        Raises InstanceNotFound for an unknown id, and InvalidState for a guest
        that runs; needs SNAPSHOT.
        """
        raise Unsupported(f"virt driver {self.name} makes no snapshots")

    def rescue(self, spec: InstanceSpec) -> None:
        """Boot a guest from ``spec.base``, with its own disk as the second one.

        The guest is ended first. Raises what ``spawn`` does, and
        InstanceNotFound; needs RESCUE.
        """
        raise Unsupported(f"virt driver {self.name} has no rescue")

    def unrescue(self, instance_id: str) -> None:
        """Boot a rescued guest from its own disk again; needs RESCUE."""
        raise Unsupported(f"virt driver {self.name} has no rescue")

    def resize(
        self,
        instance_id: str,
        *,
        vcpus: int,
        memory_mb: int,
        root_bytes: int,
        swap_bytes: int = 0,
        ephemeral_bytes: int = 0,
        os_type: str = "",
    ) -> None:
        """Give a guest that is off another size, and keep what it was.

        ``root_bytes`` 0 leaves the disk as large as it is, which never
        shrinks. A swap disk of another size is made anew, and with 0 there is none.
        An ephemeral disk is made if there is none, for the image's ``os_type``, and
        grows if there is; what is on it stays.
        Raises InvalidState for a guest that runs; needs RESIZE.
        """
        raise Unsupported(f"virt driver {self.name} resizes no guests")

    def confirm_resize(self, instance_id: str) -> None:
        """Forget what a guest was before ``resize``; needs RESIZE."""
        raise Unsupported(f"virt driver {self.name} resizes no guests")

    def revert_resize(self, instance_id: str) -> None:
        """Make a guest what it was before ``resize``, and end it; needs RESIZE."""
        raise Unsupported(f"virt driver {self.name} resizes no guests")

    def departure(self, instance_id: str) -> Departure:
        """Tell what a guest that runs needs elsewhere.

        Raises InstanceNotFound, and InvalidState for a guest that is off;
        needs LIVE_MIGRATION.
        """
        raise Unsupported(f"virt driver {self.name} has no live migration")

    def make_ready(self, spec: InstanceSpec, virtual_size: int, config_drive: Path | None) -> Arrival:
        """Make what a guest needs that is to come here running, instead of whatever is here of it.

        ``config_drive`` is taken away from where it is. Raises ConfigError
        where no guest can come; needs LIVE_MIGRATION.
        """
        raise Unsupported(f"virt driver {self.name} has no live migration")

    def send(
        self, instance_id: str, there: Arrival, check: Callable[[], None], hurry: Callable[[], bool]
    ) -> None:
        """Have a guest go on elsewhere, with all it has on its disks; it is gone from here then.

        One that is gone already has been sent, and one that is being sent is
        waited for. ``check`` is called meanwhile, and what it raises calls it off.
        So is ``hurry``: when it says so the guest is paused until it is there,
        so that it changes no more of what is to be sent.
        Raises HypervisorDown, or MigrationTimedOut when it took longer than the
        driver's options allow, and the guest runs on here; needs LIVE_MIGRATION.
        """
        raise Unsupported(f"virt driver {self.name} has no live migration")

    def stop_sending(self, instance_id: str) -> None:
        """Have a guest stay that a killed process began to send; nothing is done to one that isn't sent.

        Raises InstanceNotFound for one that has gone, and HypervisorDown; needs LIVE_MIGRATION.
        """
        raise Unsupported(f"virt driver {self.name} has no live migration")
