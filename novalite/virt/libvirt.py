"""The libvirt driver: KVM guests, or emulated ones where KVM is of no use.

An instance is a directory under ``instances_path`` and a persistent domain.
The directory is made first and the domain is defined when it is complete, so
a directory without its domain is what a killed spawn left, and is removed. A
domain carries the ``instances_path`` it belongs to in its metadata: others'
domains on the same libvirt are neither listed nor touched.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree as ET

import libvirt
from oslo_config import cfg

from novalite import faults
from novalite.errors import (
    ConfigError,
    FlavorTooSmall,
    HypervisorDown,
    InstanceNotFound,
    InvalidState,
    NovaliteError,
)
from novalite.virt import (
    configdrive,
    console,
    copying,
    domain,
    ephemeral,
    guest,
    living,
    pacing,
    probe,
    qemuimg,
    resizing,
    swap,
)
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
from novalite.virt.connection import Connection
from novalite.virt.diagnostics import Diagnostics, of_libvirt
from novalite.virt.files import link, put_boot_files, rmtree

LOG = logging.getLogger(__name__)
T = TypeVar("T")

_POLL_SECONDS = 0.25
#: A guest that is still booting misses the power button, so it's pressed again.
_PRESS_AGAIN_SECONDS = 5.0
_REMOVE_SECONDS = 30.0
#: qemu's name of a CPU model -> libvirt's mode; another is its default.
_CPU_MODES = {"host": "host-passthrough"}


class LibvirtDriver(VirtDriver):
    """Drives one libvirt daemon on this host."""

    name = "libvirt"
    capabilities = (
        VirtCap.CONSOLE_LOG
        | VirtCap.SERIAL
        | VirtCap.PAUSE
        | VirtCap.SUSPEND
        | VirtCap.SNAPSHOT
        | VirtCap.RESCUE
        | VirtCap.RESIZE
        | VirtCap.NBD_BASE
        | VirtCap.DIAGNOSTICS
        | VirtCap.LIVE_MIGRATION
    )
    options = (
        cfg.StrOpt("connection_uri", default="", help="libvirt URI; empty means qemu:///system."),
        cfg.StrOpt(
            "virt_type",
            default="auto",
            choices=[
                ("auto", "KVM where a probe guest runs well under it, else emulation"),
                ("kvm", "KVM, unprobed"),
                ("qemu", "emulation"),
            ],
            help="How guests are run.",
        ),
        cfg.StrOpt(
            "instances_path",
            default="/var/lib/novalite/instances",
            help="Where instances' disks are; it also tells this deployment's guests from others'.",
        ),
        cfg.StrOpt(
            "state_path",
            default="",
            help="Where the driver keeps the verdict on KVM; empty means beside instances_path.",
        ),
        cfg.StrOpt(
            "live_migration_inbound_uri",
            default="",
            help="URI at which other hosts' libvirtds reach this one (qemu+tls://host2/system). Without it "
            "no guest comes here running.",
        ),
        cfg.HostAddressOpt(
            "live_migration_inbound_addr",
            help="Address at which guests that come here running are sent; my_ip without.",
        ),
        *pacing.OPTIONS,
        cfg.StrOpt("my_ip", default="127.0.0.1", help="This host's address."),
        cfg.StrOpt(
            "default_ephemeral_format",
            choices=ephemeral.FORMATS,
            help="File system of ephemeral disks; without, that of the image's os_type.",
        ),
        cfg.IntOpt(
            "shutdown_timeout",
            default=60,
            min=0,
            help="Seconds a guest has to shut down by itself before it's forced.",
        ),
        cfg.IntOpt(
            "console_log_bytes",
            default=1 << 20,
            min=1 << 16,
            help="How much of each serial log is kept on disk, roughly; older output goes.",
        ),
    )

    def __init__(self, settings: Any) -> None:
        super().__init__({**{opt.name: opt.default for opt in self.options}, **settings})
        self.instances_path = Path(os.path.realpath(self.settings["instances_path"]))
        self._connection = Connection(self.settings["connection_uri"] or "qemu:///system")
        self._locks: weakref.WeakValueDictionary[str, threading.Lock] = weakref.WeakValueDictionary()
        self._locks_lock = threading.Lock()
        self._platform: tuple[str, str] | None = None

    def open(self) -> None:
        """Connect, and find out how guests run here."""
        try:
            self.instances_path.mkdir(parents=True, exist_ok=True, mode=0o711)
        except OSError as exc:
            raise ConfigError(f"instances_path {self.instances_path}: {exc}") from exc
        for program in ("qemu-img", "prlimit"):
            if shutil.which(program) is None:
                raise ConfigError(f"the libvirt driver needs {program}, which isn't installed")
        if lacking := ephemeral.missing(self.settings["default_ephemeral_format"]):
            LOG.warning(
                "servers with ephemeral disks may fail here without %s, or default_ephemeral_format",
                " and ".join(lacking),
            )
        self._find_platform()

    def close(self) -> None:
        """Disconnect; guests keep running."""
        self._connection.close()

    def host_info(self) -> HostInfo:
        """Tell what this host offers."""
        virt_type, _ = self._find_platform()

        def ask(live: Any) -> HostInfo:
            arch, _, cpus, *_ = live.getInfo()  # its memory leaves out what isn't in a NUMA node
            number = live.getVersion()
            return HostInfo(
                hostname=live.getHostname(),
                hypervisor_type="QEMU",
                hypervisor_version=f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}",
                virt_type=virt_type,
                arch=arch,
                vcpus=cpus,
                memory_mb=live.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)["total"] >> 10,
                disk_gb=shutil.disk_usage(self.instances_path).total >> 30,
            )

        return self._connection.call("host info", ask)

    def list_states(self) -> dict[str, PowerState]:
        """Map the id of each of our instances to its power state."""

        def ask(live: Any) -> dict[str, PowerState]:
            found = {}
            for dom in live.listAllDomains(0):
                with guest.tolerating(libvirt.VIR_ERR_NO_DOMAIN):  # it went meanwhile
                    if guest.owner(dom) == str(self.instances_path):
                        found[dom.UUIDString()] = guest.state(dom)
            return found

        states = self._connection.call("list of domains", ask)
        # the worker asks at intervals: often enough to keep guests' chatter off the disk
        for instance_id in states:
            with contextlib.suppress(OSError):
                console.bound(self._layout(instance_id).console, self.settings["console_log_bytes"])
        return states

    def spawn(self, spec: InstanceSpec) -> None:
        """Make the instance's disks and start it."""
        layout = self._layout(spec.id)
        with self._locked(spec.id):
            try:
                defined = self._with_domain(spec.id, lambda dom: True)
            except InstanceNotFound:
                defined = False
            try:
                if not defined:
                    self._make(spec, layout)
                if spec.started:
                    self._with_domain(spec.id, guest.start)
                layout.started.touch()
            except BaseException as exc:
                if not layout.started.exists():
                    self._undo(spec.id, layout)
                if isinstance(exc, OSError):
                    raise HypervisorDown(f"instance {spec.id}: {exc}") from exc
                raise

    def destroy(self, instance_id: str) -> None:
        """End the guest and remove all it had; no error when it's gone."""
        layout = self._layout(instance_id)
        with self._locked(instance_id):
            try:
                self._remove(instance_id, layout)
            except OSError as exc:
                raise HypervisorDown(f"instance {instance_id}: {exc}") from exc

    def set_power(self, instance_id: str, action: PowerAction) -> None:
        """Change the power state, as the contract says."""
        stops: dict[PowerAction, Callable[[str], None]] = {
            PowerAction.STOP: self._stop,
            PowerAction.SOFT_REBOOT: self._stop,
            PowerAction.FORCE_STOP: self._force_stop,
            PowerAction.HARD_REBOOT: self._force_stop,
        }
        halts = {PowerAction.PAUSE: guest.pause, PowerAction.SUSPEND: guest.suspend}
        domain.check_id(instance_id)
        if action in halts:
            with self._locked(instance_id), self._at_length(instance_id) as ask:
                ask(halts[action])  # writes its memory, if it is suspended
            return
        if action in stops:
            stops[action](instance_id)
        if action not in (PowerAction.STOP, PowerAction.FORCE_STOP):
            with self._locked(instance_id), self._at_length(instance_id) as ask:
                ask(guest.start)  # reads its memory, if it was suspended

    def console_log(self, instance_id: str, *, tail_bytes: int = 102400) -> bytes:
        """Return the end of the serial log; it's there without libvirt, too."""
        try:
            return console.read_tail(self._layout(instance_id).console, tail_bytes)
        except FileNotFoundError as exc:
            raise InstanceNotFound(f"instance {instance_id} has no console log here") from exc
        except OSError as exc:
            raise HypervisorDown(f"instance {instance_id}: {exc}") from exc

    def open_serial(self, instance_id: str) -> int:
        """Open the guest's end of a pseudoterminal, of which QEMU has the other."""
        domain.check_id(instance_id)
        path = self._with_domain(instance_id, guest.terminal)
        try:
            return os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as exc:
            raise HypervisorDown(f"instance {instance_id}: {exc}") from exc

    def diagnostics(self, instance_id: str) -> Diagnostics:
        """Tell libvirt's counters of the guest."""
        domain.check_id(instance_id)
        virt_type, _ = self._find_platform()
        state, stats, cards, job = self._with_domain(instance_id, guest.counters)
        return of_libvirt(stats, cards, job, state=state, driver=self.name, hypervisor=virt_type)

    @contextlib.contextmanager
    def snapshot(self, instance_id: str) -> Iterator[Snapshot]:
        """Copy the disk: under a guest that is off by qemu-img, else by a mirror."""
        layout = self._layout(instance_id)
        with self._locked(instance_id):
            active = self._with_domain(instance_id, lambda dom: bool(dom.isActive()))
            with copying.all_or_nothing(layout.snapshot):
                if active:
                    copying.copy_live(
                        lambda act: self._with_domain(instance_id, act), layout.disk, layout.snapshot
                    )
                else:
                    copying.copy_idle(layout.disk, layout.snapshot)
                made = copying.told(layout.snapshot)
        try:
            yield made
        finally:
            layout.snapshot.unlink(missing_ok=True)

    @contextlib.contextmanager
    def copy_ephemeral(self, instance_id: str) -> Iterator[Snapshot | None]:
        """Copy the ephemeral disk by qemu-img."""
        layout = self._layout(instance_id)
        with self._locked(instance_id):
            self._with_domain(instance_id, resizing.demand_off)
            there = layout.ephemeral.exists()
            with copying.all_or_nothing(layout.snapshot):
                if there:
                    copying.copy_idle(layout.ephemeral, layout.snapshot)
                made = copying.told(layout.snapshot) if there else None
        try:
            yield made
        finally:
            layout.snapshot.unlink(missing_ok=True)

    def rescue(self, spec: InstanceSpec) -> None:
        """Boot from another base; the domain as it was is written down before."""
        layout = self._layout(spec.id)
        place = layout.rescue
        virt_type, cpu = self._find_platform()
        owner = str(self.instances_path)
        with self._locked(spec.id):
            if not place.xml.exists():
                xml = domain.build(spec, layout, virt_type=virt_type, cpu=cpu, owner=owner, rescue=True)
                self._with_domain(spec.id, guest.end)
                rmtree(place.folder)
                place.folder.mkdir(mode=0o711)
                base = link(spec.base.path, place.base)
                put_boot_files(spec.base.boot, place)
                size = spec.root_bytes or spec.base.virtual_size
                qemuimg.overlay(place.disk, base, spec.base.format, size)
                (place.folder / "rescue.xml").write_text(xml)
                self._with_domain(spec.id, lambda dom: resizing.keep_domain(dom, place))
            xml = (place.folder / "rescue.xml").read_text()
            if not self._with_domain(spec.id, lambda dom: str(place.disk) in dom.XMLDesc()):
                self._define(spec.id, xml)
            self._with_domain(spec.id, guest.start)

    def unrescue(self, instance_id: str) -> None:
        """Boot from the guest's own disk again."""
        place = self._layout(instance_id).rescue
        with self._locked(instance_id):
            if place.xml.exists():
                self._with_domain(instance_id, guest.end)
                self._define(instance_id, place.xml.read_text())
                rmtree(place.folder)
            self._with_domain(instance_id, guest.start)

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
        """Copy the disks and write the domain down, then change them."""
        layout = self._layout(instance_id)
        with self._locked(instance_id):
            self._with_domain(instance_id, resizing.demand_off)
            if not layout.before.xml.exists():
                resizing.keep_disks(layout)
                self._with_domain(instance_id, lambda dom: resizing.keep_domain(dom, layout.before))
            resizing.grow(layout.disk, root_bytes)
            if swap_bytes:
                swap.make(layout.swap(swap_bytes), swap_bytes)
            if ephemeral_bytes:
                ephemeral.make(layout, ephemeral_bytes, self._file_system(os_type))
                resizing.grow(layout.ephemeral, ephemeral_bytes)
            kept = layout.before.xml.read_text()
            size = {"vcpus": vcpus, "memory_mb": memory_mb}
            size |= {"swap_bytes": swap_bytes, "ephemeral_bytes": ephemeral_bytes}
            self._define(instance_id, resizing.resized(kept, layout, **size))

    def confirm_resize(self, instance_id: str) -> None:
        """Remove what was kept."""
        layout = self._layout(instance_id)
        with self._locked(instance_id):
            self._with_domain(instance_id, lambda dom: resizing.drop_unused(dom, layout))
            rmtree(layout.before.folder)

    def revert_resize(self, instance_id: str) -> None:
        """Bring back what was kept."""
        layout = self._layout(instance_id)
        with self._locked(instance_id):
            self._with_domain(instance_id, guest.state)
            if not layout.before.xml.exists():
                return
            self._with_domain(instance_id, guest.end)
            resizing.bring_disks_back(layout)
            self._define(instance_id, layout.before.xml.read_text())
            self._with_domain(instance_id, lambda dom: resizing.drop_unused(dom, layout))
            rmtree(layout.before.folder)

    def departure(self, instance_id: str) -> Departure:
        """Tell what a guest that runs needs elsewhere."""
        layout = self._layout(instance_id)
        self._with_domain(instance_id, guest.demand_active)
        size = int(qemuimg.info(layout.disk, "qcow2")["virtual-size"])
        return Departure(size, layout.config_drive if layout.config_drive.exists() else None)

    def make_ready(self, spec: InstanceSpec, virtual_size: int, config_drive: Path | None) -> Arrival:
        """Make the directory, with an empty disk that is filled while the guest comes."""
        told, layout = self.settings, self._layout(spec.id)
        if not told["live_migration_inbound_uri"]:
            raise ConfigError("[libvirt] live_migration_inbound_uri isn't set: no guest comes here running")
        with self._locked(spec.id):
            self._remove(spec.id, layout)
            layout.folder.mkdir(parents=True, mode=0o711)
            qemuimg.blank(layout.disk, virtual_size)
            if spec.swap_bytes:
                swap.make(layout.swap(spec.swap_bytes), spec.swap_bytes)
            if spec.ephemeral_bytes:
                qemuimg.blank(layout.ephemeral, spec.ephemeral_bytes)
            if config_drive is not None:
                shutil.move(config_drive, layout.config_drive)
            put_boot_files(spec.base.boot, layout)
            layout.console.touch(mode=0o600)
            layout.started.touch()
        address = told["live_migration_inbound_addr"] or told["my_ip"]
        return Arrival(told["live_migration_inbound_uri"], address, str(self.instances_path))

    def send(
        self, instance_id: str, there: Arrival, check: Callable[[], None], hurry: Callable[[], bool]
    ) -> None:
        """Have libvirtd send the guest to another one."""
        layout = self._layout(instance_id)

        def disks() -> list[int]:
            grown = [disk for disk in (layout.disk, layout.ephemeral) if disk.exists()]
            sizes = [int(qemuimg.info(disk, "qcow2")["virtual-size"]) for disk in grown]
            return [*sizes, *(path.stat().st_size for path in layout.swaps())]

        with self._locked(instance_id), self._at_length(instance_id) as ask_long:
            way = living.Way(
                instance_id,
                lambda act: self._with_domain(instance_id, act),
                ask_long,
                *(self.instances_path, there, pacing.Terms.of(self.settings), disks),
            )
            living.send(way, check, hurry)

    def stop_sending(self, instance_id: str) -> None:
        """Have libvirtd end what it does with the guest."""
        with self._locked(domain.check_id(instance_id)):
            living.stop(lambda act: self._with_domain(instance_id, act))

    # -- making and removing ------------------------------------------------

    def _make(self, spec: InstanceSpec, layout: domain.Layout) -> None:
        """Make the directory, then define the domain: in this order, see above."""
        size = spec.root_bytes or spec.base.virtual_size
        if size < spec.base.virtual_size:
            raise FlavorTooSmall(
                f"the image's disk has {spec.base.virtual_size} bytes, the flavor's {spec.root_bytes}"
            )
        virt_type, cpu = self._find_platform()
        xml = domain.build(spec, layout, virt_type=virt_type, cpu=cpu, owner=str(self.instances_path))
        rmtree(layout.folder)
        layout.folder.mkdir(parents=True, mode=0o711)
        base = link(spec.base.path, layout.base)
        put_boot_files(spec.base.boot, layout)
        backing = spec.base.nbd.url if spec.base.nbd else base
        qemuimg.overlay(layout.disk, backing, spec.base.format, size)
        if spec.swap_bytes:
            swap.make(layout.swap(spec.swap_bytes), spec.swap_bytes)
        if spec.ephemeral_bytes and spec.ephemeral_base is not None:
            ephemeral.take(layout, spec.ephemeral_base, spec.ephemeral_bytes)
        elif spec.ephemeral_bytes:
            os_type = spec.image_properties.get("os_type", "")
            ephemeral.make(layout, spec.ephemeral_bytes, self._file_system(os_type))
        if spec.config_drive is not None:
            configdrive.build(spec.config_drive, layout.config_drive)
        layout.console.touch(mode=0o600)
        faults.passing("guest-half-made")
        self._connection.call(f"instance {spec.id}", lambda live: live.defineXML(xml))

    def _file_system(self, os_type: str) -> str:
        return ephemeral.format_of(os_type, self.settings["default_ephemeral_format"])

    def _define(self, instance_id: str, xml: str) -> None:
        self._connection.call(f"instance {instance_id}", lambda live: live.defineXML(xml))

    def _remove(self, instance_id: str, layout: domain.Layout) -> None:
        """End and undefine the domain, then remove its directory.

        A guest that can't be ended keeps its files: it may be writing to them.
        """

        deadline = time.monotonic() + _REMOVE_SECONDS
        try:
            # until it is gone: a start that a killed process of ours asked for may
            # still be going on in libvirtd, and would outlive an undefine
            while time.monotonic() < deadline:
                self._with_domain(instance_id, guest.end)
                self._with_domain(instance_id, guest.undefine)
            raise HypervisorDown(f"instance {instance_id} can't be ended within {_REMOVE_SECONDS} s")
        except InstanceNotFound:
            faults.passing("guest-half-removed")
            rmtree(layout.folder)

    def _undo(self, instance_id: str, layout: domain.Layout) -> None:
        """Remove what a failing spawn made, without hiding why it failed."""
        try:
            self._remove(instance_id, layout)
        except (NovaliteError, OSError) as exc:
            LOG.warning("instance %s: can't be cleaned up now: %s", instance_id, exc)

    # -- power ----------------------------------------------------------------

    def _force_stop(self, instance_id: str) -> None:
        with self._locked(instance_id):
            self._with_domain(instance_id, guest.end)

    def _stop(self, instance_id: str) -> None:
        """Press the power button, wait, and force what stays on.

        The lock isn't held while waiting: a destroy needn't wait for it.
        """
        now = time.monotonic()
        deadline, press = now + self.settings["shutdown_timeout"], now
        while (now := time.monotonic()) < deadline:
            if not self._with_domain(instance_id, lambda dom: bool(dom.isActive())):
                return
            if now >= press:
                self._with_domain(instance_id, guest.press_power_button)
                press = now + _PRESS_AGAIN_SECONDS
            time.sleep(_POLL_SECONDS)
        LOG.info("instance %s doesn't shut down by itself; forcing it", instance_id)
        self._force_stop(instance_id)

    # -- helpers --------------------------------------------------------------

    @contextlib.contextmanager
    def _at_length(self, instance_id: str) -> Iterator[living.Ask]:
        """Give what runs an action that takes its time on our domain, on a connection of its own.

        On a shared one it may keep others waiting until it ends: libvirt's client (9.0) loses the
        word that there is another call if it comes just before it begins to wait.
        """
        with contextlib.closing(Connection(self._connection.uri)) as apart:
            yield lambda act: self._with_domain(instance_id, act, apart)

    def _with_domain(
        self, instance_id: str, action: Callable[[Any], T], connection: Connection | None = None
    ) -> T:
        """Run an action on our own domain of that id, on our connection unless there is another.

        Raises InstanceNotFound, and InvalidState when it is another's.
        """

        def run(live: Any) -> T:
            dom = live.lookupByUUIDString(instance_id)
            if (owner := guest.owner(dom)) != str(self.instances_path):
                raise InvalidState(f"domain {instance_id} belongs to {owner or 'somebody else'}")
            return action(dom)

        return (connection or self._connection).call(f"instance {instance_id}", run)

    def _layout(self, instance_id: str) -> domain.Layout:
        return domain.Layout(self.instances_path / domain.check_id(instance_id))

    @contextlib.contextmanager
    def _locked(self, instance_id: str) -> Any:
        with self._locks_lock:
            lock = self._locks.setdefault(instance_id, threading.Lock())
        with lock:
            yield

    def _find_platform(self) -> tuple[str, str]:
        """Return libvirt's domain type and CPU mode for guests; found out once."""
        if self._platform is None:
            self._platform = self._choose_platform()
            LOG.info("guests run on virt_type %s, CPU mode %s", *self._platform)
        return self._platform

    def _choose_platform(self) -> tuple[str, str]:
        wanted = self.settings["virt_type"]
        if wanted not in ("auto", "kvm", "qemu"):
            raise ConfigError(f"virt_type {wanted!r} isn't one of auto, kvm, qemu")
        emulator = self._connection.call("domain capabilities", _emulator)
        if wanted == "kvm":
            return "kvm", "host-passthrough"
        if wanted == "auto":
            state = Path(self.settings["state_path"] or self.instances_path.parent)
            verdict = probe.probe_kvm(emulator, state)
            if verdict.works:
                return "kvm", _CPU_MODES.get(verdict.cpu, "")
        return "qemu", "maximum"


def _emulator(live: Any) -> str:
    """Return the path of the qemu that libvirt runs."""
    try:
        told = live.getDomainCapabilities(None, domain.ARCH, None, "qemu")
    except libvirt.libvirtError as exc:
        if exc.get_error_code() in (libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_CONFIG_UNSUPPORTED):
            raise ConfigError(f"libvirt has no qemu for {domain.ARCH}: {exc}") from exc
        raise
    return ET.fromstring(told).findtext("path", "")  # noqa: S314 - libvirt's own output
