"""A hypervisor in memory: for tests, and for trying the rest without guests.

It keeps what a real one keeps and refuses what a real one refuses. Its guests
"print" what the demonstration guest does. Nothing outlives the driver, unless
it is told to keep its guests in a directory.
"""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from oslo_config import cfg

from novalite import faults
from novalite.errors import (
    ConfigError,
    FlavorTooSmall,
    HypervisorDown,
    ImageUnusable,
    InstanceNotFound,
    InvalidState,
    MigrationTimedOut,
)
from novalite.virt import domain
from novalite.virt.base import (
    Arrival,
    Departure,
    HostInfo,
    InstanceSpec,
    PowerAction,
    PowerState,
    Snapshot,
    VirtCap,
    VirtDriver,
)
from novalite.virt.diagnostics import CpuTime, Diagnostics, DiskCounters
from novalite.virt.fake_guests import EMPTY, GOING_ON, META_DATA, Guest, Kept, change, guest_of, start
from novalite.virt.fake_places import DRIVE, Inbox, hand_over

_POLL_SECONDS = 0.05


class FakeDriver(VirtDriver):
    """Keeps guests in a dictionary."""

    name = "fake"
    capabilities = VirtCap(sum(each.value for each in VirtCap))
    options = (
        cfg.FloatOpt("fake_spawn_seconds", default=0.0, min=0, help="How long each spawn takes."),
        cfg.FloatOpt(
            "fake_send_seconds",
            default=0.0,
            min=0,
            help="How long it takes to send a guest that runs to another host, unless there is hurry.",
        ),
        cfg.FloatOpt(
            "fake_send_timeout", default=0.0, min=0, help="After how long it stays after all; 0 is never."
        ),
        cfg.ListOpt(
            "fake_failures",
            default=[],
            help="Methods that fail with HypervisorDown before they do anything; "
            "'spawn:2' fails twice and works from then on.",
        ),
        cfg.IntOpt("fake_vcpus", default=64, min=1, help="The host's processors."),
        cfg.IntOpt("fake_memory_mb", default=65536, min=1, help="The host's memory."),
        cfg.IntOpt("fake_disk_gb", default=1024, min=1, help="The host's disk."),
        cfg.StrOpt(
            "fake_directory",
            help="Keep guests, and disks of their own, in this directory, so that they outlive the process.",
        ),
        cfg.StrOpt(
            "instances_path",
            default="",
            help="Where guests are put that come here running, until they are here.",
        ),
        cfg.StrOpt("fake_hostname", default="fake-host", help="The host's name."),
    )

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__({**{opt.name: opt.default for opt in self.options}, **settings})
        self._guests: dict[str, Guest] = {}
        self._kept = Kept(Path(self.settings["fake_directory"])) if self.settings["fake_directory"] else None
        self._inbox: Inbox | None = None
        self._lock = threading.RLock()
        self._terminals: dict[str, socket.socket] = {}  # a guest's end of each
        self._failures: dict[str, float] = {}
        for entry in self.settings["fake_failures"]:
            method, _, times = entry.partition(":")
            self._failures[method] = int(times) if times else float("inf")

    def open(self) -> None:
        """Find the guests of an earlier process."""
        if self._kept is not None:
            self._guests = self._kept.all()
        if self.settings["instances_path"]:
            kept = None if self._kept is None else self._kept.directory
            self._inbox = Inbox(Path(self.settings["instances_path"]).absolute(), kept)

    def close(self) -> None:
        """End the terminals; guests that are kept stay."""
        for instance_id in list(self._terminals):
            self._hang_up(instance_id)

    def host_info(self) -> HostInfo:
        """Tell what the options say."""
        with self._working("host_info"):
            return HostInfo(
                hostname=self.settings["fake_hostname"],
                hypervisor_type="fake",
                hypervisor_version="1.0.0",
                virt_type="fake",
                arch=domain.ARCH,
                vcpus=self.settings["fake_vcpus"],
                memory_mb=self.settings["fake_memory_mb"],
                disk_gb=self.settings["fake_disk_gb"],
            )

    def list_states(self) -> dict[str, PowerState]:
        """Map the id of each instance to its power state."""
        with self._working("list_states"):
            return {instance_id: guest.state for instance_id, guest in self._guests.items()}

    def spawn(self, spec: InstanceSpec) -> None:
        """Check the request as a real driver does, and keep it."""
        domain.check_id(spec.id)
        time.sleep(self.settings["fake_spawn_seconds"])
        with self._working("spawn"):
            guest = self._guests.get(spec.id)
            if guest is None:
                _check(spec)
                facts = json.loads((spec.config_drive or {}).get(META_DATA, b"{}"))
                size = [spec.vcpus, spec.memory_mb, spec.root_bytes, spec.swap_bytes, spec.ephemeral_bytes]
                guest = Guest(spec.id, spec.name, facts, size=size)
                if self._kept is not None:
                    self._kept.make_disks(spec)
                    faults.passing("guest-half-made")
                self._guests[spec.id] = guest
            if spec.started:
                start(guest)
            self._keep(guest)

    def destroy(self, instance_id: str) -> None:
        """Forget the instance."""
        domain.check_id(instance_id)
        with self._working("destroy"):
            self._guests.pop(instance_id, None)
            self._hang_up(instance_id)
            if self._kept is not None:
                self._kept.remove(instance_id)
            if self._inbox is not None:
                self._inbox.forget(instance_id)

    def set_power(self, instance_id: str, action: PowerAction) -> None:
        """Change the power state at once: these guests never hang."""
        domain.check_id(instance_id)
        with self._working("set_power"):
            guest = self._guest(instance_id)
            change(guest, action)
            if action not in GOING_ON:
                self._hang_up(instance_id)
            self._keep(guest)

    def console_log(self, instance_id: str, *, tail_bytes: int = 102400) -> bytes:
        """Return the end of what the guest printed."""
        domain.check_id(instance_id)
        with self._working("console_log"):
            log = self._guest(instance_id).log.encode()
            return log[-tail_bytes:] if tail_bytes > 0 else b""

    def open_serial(self, instance_id: str) -> int:
        """Open a terminal that says what is typed there: nobody is behind it."""
        domain.check_id(instance_id)
        with self._working("open_serial"):
            if self._kept is not None:  # another process may have changed them
                self._guests = self._kept.all()
            guest = self._guest(instance_id)
            if guest.state is PowerState.SHUTDOWN:
                raise InvalidState(f"instance {instance_id} isn't running")
            self._hang_up(instance_id)
            ours, theirs = socket.socketpair()
            self._terminals[instance_id] = theirs
            threading.Thread(target=_echo, args=(theirs,), name="fake-terminal", daemon=True).start()
            ours.setblocking(False)
            return ours.detach()

    def diagnostics(self, instance_id: str) -> Diagnostics:
        """Tell what the guest has; it uses nothing."""
        domain.check_id(instance_id)
        with self._working("diagnostics"):
            guest = self._guest(instance_id)
            if guest.state is PowerState.SHUTDOWN:
                raise InvalidState(f"instance {instance_id} isn't running")
            vcpus, memory_mb, _, *further = guest.size
            disks = [f"vd{letter}" for letter in "abc"[: 1 + sum(map(bool, further))]]
            return Diagnostics(
                state=guest.state,
                driver="libvirt",  # the API knows no fake one, and Nova's says so, too
                hypervisor="fake",
                memory_max_kib=memory_mb * 1024,
                memory_used_kib=0,
                cpus=tuple(CpuTime(number, 0) for number in range(vcpus)),
                disks=tuple(DiskCounters(name, 0, 0, 0, 0, 0) for name in disks),
            )

    @contextlib.contextmanager
    def snapshot(self, instance_id: str) -> Iterator[Snapshot]:
        """Copy the disk, or where there is none write down whose it would be."""
        domain.check_id(instance_id)
        with self._working("snapshot"):
            guest = self._guest(instance_id)
            told = f"NOVALITE-FAKE-DISK {instance_id} {guest.size}\n".encode().ljust(4096, b"\0")
            disk = told if self._kept is None else self._kept.disk(instance_id)
        with tempfile.TemporaryDirectory(prefix="novalite-fake-") as directory:
            path = Path(directory) / "disk.raw"
            path.write_bytes(disk)
            yield Snapshot(path, "raw", len(disk))

    @contextlib.contextmanager
    def copy_ephemeral(self, instance_id: str) -> Iterator[Snapshot | None]:
        """Copy the ephemeral disk; where guests aren't kept it is empty."""
        domain.check_id(instance_id)
        with self._working("copy_ephemeral"):
            guest = self._guest(instance_id)
            if guest.state is not PowerState.SHUTDOWN:
                raise InvalidState(f"instance {instance_id} runs")
            disk = EMPTY if guest.size[4] else None
            if disk is not None and self._kept is not None:
                disk = self._kept.ephemeral(instance_id)
        with tempfile.TemporaryDirectory(prefix="novalite-fake-") as directory:
            path = Path(directory) / "ephemeral.raw"
            if disk is not None:
                path.write_bytes(disk)
            yield None if disk is None else Snapshot(path, "raw", len(disk))

    def rescue(self, spec: InstanceSpec) -> None:
        """Start the guest anew, as rescued."""
        domain.check_id(spec.id)
        with self._working("rescue"):
            guest = self._guest(spec.id)
            if not guest.rescued:
                _check(spec)
                guest.rescued, guest.state, guest.suspended = True, PowerState.SHUTDOWN, False
            start(guest)
            self._keep(guest)

    def unrescue(self, instance_id: str) -> None:
        """Start the guest anew, as itself."""
        domain.check_id(instance_id)
        with self._working("unrescue"):
            guest = self._guest(instance_id)
            if guest.rescued:
                guest.rescued, guest.state = False, PowerState.SHUTDOWN
            start(guest)
            self._keep(guest)

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
        """Change the guest's size and keep the former."""
        domain.check_id(instance_id)
        with self._working("resize"):
            guest = self._guest(instance_id)
            if guest.state is not PowerState.SHUTDOWN:
                raise InvalidState(f"instance {instance_id} runs")
            guest.before = guest.before or guest.size
            guest.size = [vcpus, memory_mb, root_bytes or guest.size[2], swap_bytes, ephemeral_bytes]
            if self._kept is not None and ephemeral_bytes:
                self._kept.make_ephemeral(instance_id)
            self._keep(guest)

    def confirm_resize(self, instance_id: str) -> None:
        """Forget the guest's former size."""
        domain.check_id(instance_id)
        with self._working("confirm_resize"):
            guest = self._guest(instance_id)
            guest.before = None
            self._keep(guest)

    def revert_resize(self, instance_id: str) -> None:
        """Give the guest its former size back."""
        domain.check_id(instance_id)
        with self._working("revert_resize"):
            guest = self._guest(instance_id)
            if guest.before is not None:
                guest.size, guest.before = guest.before, None
                guest.state, guest.suspended = PowerState.SHUTDOWN, False
                if self._kept is not None and not guest.size[4]:
                    self._kept.drop_ephemeral(instance_id)
                self._keep(guest)

    def departure(self, instance_id: str) -> Departure:
        """Tell what there is: a disk, and a config drive where guests are kept."""
        domain.check_id(instance_id)
        with self._working("departure"):
            guest = self._guest(instance_id)
            if guest.state is PowerState.SHUTDOWN:
                raise InvalidState(f"instance {instance_id} isn't running")
            drive = self._kept.folder(instance_id) / DRIVE if self._kept is not None else None
            return Departure(guest.size[2], drive if drive is not None and drive.exists() else None)

    def make_ready(self, spec: InstanceSpec, virtual_size: int, config_drive: Path | None) -> Arrival:
        """Make a directory that the guest is put into."""
        domain.check_id(spec.id)
        with self._working("make_ready"):
            if self._inbox is None:
                raise ConfigError("instances_path isn't set: no guest comes here running")
            self._guests.pop(spec.id, None)
            if self._kept is not None:
                self._kept.remove(spec.id)
            self._inbox.expect(spec.id, config_drive)
            return Arrival("fake:", "", str(self._inbox.directory))

    def send(
        self, instance_id: str, there: Arrival, check: Callable[[], None], hurry: Callable[[], bool]
    ) -> None:
        """Take as long as the options say, and put the guest into the other host's directory."""
        domain.check_id(instance_id)
        begun = time.monotonic()
        until = begun + self.settings["fake_send_seconds"]
        timeout = self.settings["fake_send_timeout"] or float("inf")
        while instance_id in self.list_states() and time.monotonic() < until and not hurry():
            check()
            if time.monotonic() > begun + timeout:
                raise MigrationTimedOut(f"the guest isn't on its new host after {timeout:g} s")
            time.sleep(_POLL_SECONDS)
        check()
        with self._working("send"):
            kept = None if self._kept is None else self._kept.folder(instance_id)
            if (guest := self._guests.get(instance_id)) is not None:
                hand_over(instance_id, there.instances_path, kept, asdict(guest))
                faults.passing("guest-leaves")
                del self._guests[instance_id]
                self._hang_up(instance_id)
            if self._kept is not None:
                self._kept.remove(instance_id)

    def stop_sending(self, instance_id: str) -> None:
        """Do nothing: a process that is gone sends nothing."""
        domain.check_id(instance_id)
        with self._working("stop_sending"):
            self._guest(instance_id)

    def _hang_up(self, instance_id: str) -> None:
        """End a guest's terminal, as power cuts do."""
        if (terminal := self._terminals.pop(instance_id, None)) is not None:
            with contextlib.suppress(OSError):  # its client has gone
                terminal.shutdown(socket.SHUT_RDWR)

    def _keep(self, guest: Guest) -> None:
        if self._kept is not None:
            self._kept.write(guest)

    def _guest(self, instance_id: str) -> Guest:
        try:
            return self._guests[instance_id]
        except KeyError:
            raise InstanceNotFound(f"instance {instance_id} isn't here") from None

    @contextlib.contextmanager
    def _working(self, method: str) -> Iterator[None]:
        """Hold the lock; fail first when an option says so."""
        with self._lock:
            left = self._failures.get(method, 0)
            if left > 0:
                self._failures[method] = left - 1
                raise HypervisorDown(f"{method} fails because fake_failures says so")
            self._take_in()
            yield

    def _take_in(self) -> None:
        """Have the guests that have come go on here; what they printed stays behind."""
        for plain in {} if self._inbox is None else self._inbox.arrived().values():
            guest = guest_of({**plain, "log": ""})
            self._guests[guest.id] = guest
            self._keep(guest)


def _echo(terminal: socket.socket) -> None:
    with terminal, contextlib.suppress(OSError):
        while data := terminal.recv(4096):
            terminal.sendall(data)


def _check(spec: InstanceSpec) -> None:
    """Raise what the libvirt driver would for the same spec."""
    if 0 < spec.root_bytes < spec.base.virtual_size:
        raise FlavorTooSmall(
            f"the image's disk has {spec.base.virtual_size} bytes, the flavor's {spec.root_bytes}"
        )
    domain.build(spec, domain.Layout(Path("/")), virt_type="qemu", cpu="", owner="/")
    if not spec.base.path.is_file():
        raise ImageUnusable(f"base image {spec.base.path} is gone")
