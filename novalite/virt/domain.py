"""Domain XML as data: what libvirt is told about one guest, and read back."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from novalite.errors import InvalidInput
from novalite.virt.base import BootFiles, InstanceSpec, NbdExport, Nic
from novalite.virt.devices import disk_bus, disk_name

#: Namespace of our own element in a domain's <metadata>.
NAMESPACE = "urn:novalite:instance:1"
ARCH = "x86_64"
#: What a guest's firmware calls the machine; cloud-init's DataSourceOpenStack knows it.
PRODUCT = "OpenStack Compute"

_MACHINES = frozenset({"pc", "q35"})
_NIC_MODELS = frozenset({"virtio", "e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet"})
_NIC_SOURCES = {"user": "", "network": "network", "bridge": "bridge"}
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
# XML 1.0 has no way to write these, escaped or not
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


SWAP = "disk.swap."  # and its size in MiB


@dataclass(frozen=True, slots=True)
class Layout:
    """Where an instance's files lie; the one place that names them."""

    folder: Path

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def disk(self) -> Path:
        return self.folder / "disk.qcow2"

    @property
    def kernel(self) -> Path:
        return self.folder / "kernel"

    @property
    def ramdisk(self) -> Path:
        return self.folder / "ramdisk"

    @property
    def config_drive(self) -> Path:
        return self.folder / "config.iso"

    @property
    def ephemeral(self) -> Path:
        return self.folder / "disk.eph0"

    @property
    def ephemeral_base(self) -> Path:
        """What the ephemeral disk is put on."""
        return self.folder / "base.eph0"

    def swap(self, size: int) -> Path:
        """Where a swap disk of ``size`` bytes, whole MiB, is."""
        return self.folder / f"{SWAP}{size >> 20}"

    def swaps(self) -> list[Path]:
        """All swap disks that are there."""
        return sorted(self.folder.glob(f"{SWAP}*"))

    def further(self, ephemeral_bytes: int, swap_bytes: int) -> list[tuple[Path, str]]:
        """Return the disks between the root disk and the config drive, in order, with their formats."""
        found = [(self.ephemeral, "qcow2")] if ephemeral_bytes else []
        return [*found, (self.swap(swap_bytes), "raw")] if swap_bytes else found

    def is_further(self, path: Path) -> bool:
        """Tell whether a path is that of such a disk, of any size."""
        return path == self.ephemeral or (path.parent == self.folder and path.name.startswith(SWAP))

    @property
    def started(self) -> Path:
        """A mark: the guest ran once, so its disk holds what can't be made anew."""
        return self.folder / "started"

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    @property
    def snapshot(self) -> Path:
        return self.folder / "snapshot.qcow2"

    @property
    def rescue(self) -> Layout:
        """What a rescued guest boots from, and its own domain as it was."""
        return Layout(self.folder / "rescue")

    @property
    def before(self) -> Layout:
        """What the guest was before a resize."""
        return Layout(self.folder / "before")

    @property
    def xml(self) -> Path:
        """A domain to come back to; it's there when all that belongs to it is."""
        return self.folder / "domain.xml"


def check_id(instance_id: str) -> str:
    """Return an instance id that can be a directory's name.

    Raises InvalidInput for what is no UUID: it could be a path elsewhere.
    """
    try:
        if str(uuid.UUID(instance_id)) == instance_id:
            return instance_id
    except ValueError:
        pass
    raise InvalidInput(f"instance id {instance_id!r} is no UUID in its usual form")


def domain_name(instance_id: str) -> str:
    return f"novalite-{instance_id}"


def owner_element(owner: str) -> ET.Element:
    """Return the metadata element that says whose guest it is."""
    element = ET.Element(f"{{{NAMESPACE}}}instance")
    ET.SubElement(element, f"{{{NAMESPACE}}}owner", path=owner)
    return element


def read_owner(metadata: str) -> str:
    """Return the owner a metadata element names; empty when it names none."""
    try:
        found = ET.fromstring(metadata).iter()  # noqa: S314 - libvirt's own output
    except ET.ParseError:
        return ""
    # asked for by namespace, handed out without it
    owners = [element for element in found if element.tag.rpartition("}")[2] == "owner"]
    return owners[0].get("path", "") if owners else ""


def build(
    spec: InstanceSpec, layout: Layout, *, virt_type: str, cpu: str, owner: str, rescue: bool = False
) -> str:
    """Return the XML of a guest.

    ``cpu`` is libvirt's CPU mode, empty for the hypervisor's default. With
    ``rescue`` it boots from the rescue disk and has its own as the second.
    Raises InvalidInput for a value no guest can have.
    """
    check_id(spec.id)
    if spec.vcpus < 1 or spec.memory_mb < 1:
        raise InvalidInput(f"instance {spec.id}: {spec.vcpus} vCPUs and {spec.memory_mb} MiB make no guest")
    hints = spec.image_properties
    machine = _one_of("hw_machine_type", hints.get("hw_machine_type", "pc"), _MACHINES)
    bus = disk_bus(hints)
    root = ET.Element("domain", type=virt_type)
    _text(root, "name", domain_name(spec.id))
    _text(root, "uuid", spec.id)
    _text(root, "title", writable(spec.name))
    ET.SubElement(root, "metadata").append(owner_element(owner))
    _text(root, "memory", str(spec.memory_mb), unit="MiB")
    _text(root, "vcpu", str(spec.vcpus))
    os_element = ET.SubElement(root, "os")
    _text(os_element, "type", "hvm", arch=ARCH, machine=machine)
    ET.SubElement(os_element, "boot", dev="hd")
    _platform(root, os_element)
    if spec.base.boot is not None:
        _kernel(os_element, spec.base.boot, layout.rescue if rescue else layout, bus)
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if cpu:
        ET.SubElement(root, "cpu", mode=cpu)
    ET.SubElement(root, "clock", offset="utc")
    _text(root, "on_poweroff", "destroy")
    _text(root, "on_reboot", "restart")
    _text(root, "on_crash", "destroy")
    devices = ET.SubElement(root, "devices")
    ET.SubElement(devices, "controller", type="usb", model="none")
    _disks(devices, spec, layout, (machine, bus), rescue=rescue)
    default_model = hints.get("hw_vif_model", "")
    for nic in spec.nics:
        _nic(devices, nic, default_model)
    _console(devices, layout)
    ET.SubElement(devices, "memballoon", model="none")
    rng = ET.SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")
    ET.register_namespace("novalite", NAMESPACE)
    return ET.tostring(root, encoding="unicode")


def _platform(root: ET.Element, os_element: ET.Element) -> None:
    """Say in the firmware's tables what cloud this is.

    cloud-init asks OpenStack's metadata service only where it finds that name.
    """
    ET.SubElement(os_element, "smbios", mode="sysinfo")
    system = ET.SubElement(ET.SubElement(root, "sysinfo", type="smbios"), "system")
    for name, text in (("manufacturer", "novalite"), ("product", PRODUCT), ("family", "Virtual Machine")):
        _text(system, "entry", text, name=name)


def _kernel(os_element: ET.Element, boot: BootFiles, place: Layout, bus: str) -> None:
    """Have QEMU load the kernel; the boot loader that the disk may have isn't asked."""
    _text(os_element, "kernel", str(place.kernel))
    if boot.ramdisk is not None:
        _text(os_element, "initrd", str(place.ramdisk))
    default = f"root=/dev/{disk_name(bus, 0)} console=tty0 console=ttyS0"
    _text(os_element, "cmdline", writable(boot.command_line) or default)


def _disks(
    devices: ET.Element, spec: InstanceSpec, layout: Layout, hardware: tuple[str, str], *, rescue: bool
) -> None:
    """Add the root disk and, on the same bus, further disks and the config drive.

    A guest that found its root disk needs no other driver to read the others.
    In a rescued guest its own root disk has the place of further ones.
    """
    _, bus = hardware
    if hardware == ("q35", "ide"):
        raise InvalidInput("hw_disk_bus ide needs hw_machine_type pc: q35 has no IDE")
    if bus == "scsi":
        ET.SubElement(devices, "controller", type="scsi", model="virtio-scsi")
    files = [(layout.rescue.disk if rescue else layout.disk, "qcow2")]
    if rescue:
        files.append((layout.disk, "qcow2"))
    else:
        files += layout.further(spec.ephemeral_bytes, spec.swap_bytes)
    first, *_ = [
        disk(devices, path, fmt, disk_name(bus, number), bus) for number, (path, fmt) in enumerate(files)
    ]
    if spec.base.nbd is not None:
        _nbd_backing(first, spec.base.nbd, spec.base.format)
    if spec.config_drive is not None:
        drive = disk(devices, layout.config_drive, "raw", disk_name(bus, len(files)), bus)
        # an IDE or SATA disk can't be write-protected, a CD can't be anything else
        if bus in ("ide", "sata"):
            drive.set("device", "cdrom")
        ET.SubElement(drive, "readonly")


def disk(devices: ET.Element, path: Path, fmt: str, target: str, bus: str) -> ET.Element:
    """Add a disk that is a file; ``target`` is its name in the guest."""
    element = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(element, "driver", name="qemu", type=fmt, discard="unmap")
    ET.SubElement(element, "source", file=str(path))
    ET.SubElement(element, "target", dev=target, bus=bus)
    return element


def _nbd_backing(disk: ET.Element, nbd: NbdExport, fmt: str) -> None:
    """Say what the disk is put on, and that this is all: libvirt can't look into it.

    A guest whose reads fail is stopped, and asks again when it's let go on; it sees no error.
    """
    driver = disk.find("driver")
    if driver is not None:
        driver.attrib |= {"error_policy": "stop", "rerror_policy": "stop"}
    backing = ET.SubElement(disk, "backingStore", type="network")
    ET.SubElement(backing, "format", type=fmt)
    source = ET.SubElement(backing, "source", protocol="nbd", name=nbd.name)
    ET.SubElement(source, "host", transport="unix", socket=str(nbd.socket))
    ET.SubElement(backing, "backingStore")


def _nic(devices: ET.Element, nic: Nic, default_model: str) -> None:
    if not _MAC.fullmatch(nic.mac):
        raise InvalidInput(f"network card address {nic.mac!r} is no MAC")
    kind = _one_of("network card kind", nic.kind, _NIC_SOURCES)
    if _NIC_SOURCES[kind] and not nic.source:
        raise InvalidInput(f"network card {nic.mac}: kind {kind} needs a source")
    interface = ET.SubElement(devices, "interface", type=kind)
    ET.SubElement(interface, "mac", address=nic.mac)
    if _NIC_SOURCES[kind]:
        ET.SubElement(interface, "source", {_NIC_SOURCES[kind]: nic.source})
    model = _one_of("network card model", default_model or nic.model, _NIC_MODELS)
    ET.SubElement(interface, "model", type=model)


def _console(devices: ET.Element, layout: Layout) -> None:
    """Add the first serial port: a terminal for people, and all of it in a log.

    Appending keeps the log over power cycles, and lets it be cut from the front.
    """
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "log", file=str(layout.console), append="on")
    target = ET.SubElement(serial, "target", type="isa-serial", port="0")
    ET.SubElement(target, "model", name="isa-serial")


def _one_of(what: str, value: str, allowed: frozenset[str] | Mapping[str, str]) -> str:
    if value not in allowed:
        raise InvalidInput(f"{what} {value!r} isn't one of {', '.join(sorted(allowed))}")
    return value


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def writable(text: str) -> str:
    """Return a title libvirt takes: one line of what XML can hold."""
    return _UNWRITABLE.sub("\ufffd", text).replace("\n", " ").replace("\r", " ")
