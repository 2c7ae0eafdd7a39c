"""Keeping what a libvirt guest is, and coming back to it.

Both a rescue and a resize write the domain's XML down when all else that it
needs is there. So what is found after a kill is complete or isn't there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from novalite.errors import InvalidState, Unavailable
from novalite.virt import domain, qemuimg
from novalite.virt.devices import disk_name
from novalite.virt.files import rmtree

_COPY_SECONDS = 7200


def keep_domain(dom: Any, place: domain.Layout) -> None:
    """Write a domain down, at last."""
    part = place.xml.with_suffix(".part")
    part.write_text(dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
    part.replace(place.xml)


def keep_disks(layout: domain.Layout) -> None:
    """Copy the disks to where they are kept before a resize; cheap where files share blocks."""
    rmtree(layout.before.folder)
    layout.before.folder.mkdir(mode=0o711)
    _copy(layout.disk, layout.before.disk)
    if layout.ephemeral.exists():
        _copy(layout.ephemeral, layout.before.ephemeral)


def _copy(disk: Path, kept: Path) -> None:
    copy = ["cp", "--reflink=auto", "--sparse=always", str(disk), str(kept)]
    done = subprocess.run(copy, capture_output=True, text=True, timeout=_COPY_SECONDS, check=False)
    if done.returncode:
        raise Unavailable(f"{disk} can't be kept: {done.stderr.strip()}")


def bring_disks_back(layout: domain.Layout) -> None:
    """Have the disks be again what they were before a resize."""
    for kept, disk in ((layout.before.disk, layout.disk), (layout.before.ephemeral, layout.ephemeral)):
        if kept.exists():  # else there was none, or a killed process of ours moved it already
            kept.replace(disk)


def resized(
    xml: str, layout: domain.Layout, *, vcpus: int, memory_mb: int, swap_bytes: int, ephemeral_bytes: int
) -> str:
    """Return a domain's XML with another size; its place is ``layout``."""
    root = ET.fromstring(xml)  # noqa: S314 - libvirt's own output
    for tag in ("memory", "currentMemory"):
        for element in root.findall(tag):
            element.text = str(memory_mb)
            element.set("unit", "MiB")
    for element in root.findall("vcpu"):
        element.text = str(vcpus)
    for devices in root.findall("devices"):
        _put_further(devices, layout, layout.further(ephemeral_bytes, swap_bytes))
    ET.register_namespace("novalite", domain.NAMESPACE)
    return ET.tostring(root, encoding="unicode")


def _put_further(devices: ET.Element, layout: domain.Layout, wanted: Sequence[tuple[Path, str]]) -> None:
    """Have further disks of these files and formats among a domain's devices, and no others.

    They come before the config drive, and all get new places on their bus: guests
    name their disks by these.
    """
    ours = {_told(each, "source", "file"): each for each in devices.findall("disk")}
    old = [path for path in ours if layout.is_further(Path(path))]
    if old == [str(path) for path, _ in wanted]:
        return
    root = ours[str(layout.disk)]
    bus = _told(root, "target", "bus")
    for path in old:
        devices.remove(ours[path])
    later = [domain.disk(devices, path, fmt, "", bus) for path, fmt in wanted]
    later += [ours[path] for path in ours if path == str(layout.config_drive)]
    for number, element in enumerate(later, start=1):
        devices.remove(element)
        for address in element.findall("address"):
            element.remove(address)
        for target in element.findall("target"):
            target.set("dev", disk_name(bus, number))
        devices.insert(list(devices).index(root) + number, element)


def drop_unused(dom: Any, layout: domain.Layout) -> None:
    """Remove the further disks that a domain has no use for."""
    root = ET.fromstring(dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))  # noqa: S314 - libvirt's own output
    used = {_told(each, "source", "file") for each in root.iterfind("devices/disk")}
    for path in layout.swaps():
        if str(path) not in used:
            path.unlink(missing_ok=True)
    if str(layout.ephemeral) not in used:
        layout.ephemeral.unlink(missing_ok=True)
        layout.ephemeral_base.unlink(missing_ok=True)


def _told(disk: ET.Element, child: str, name: str) -> str:
    found = disk.find(child)
    return "" if found is None else found.get(name, "")


def demand_off(dom: Any) -> None:
    """Raise InvalidState for a guest that runs."""
    if dom.isActive():
        raise InvalidState(f"instance {dom.UUIDString()} runs")


def grow(disk: Path, size: int) -> None:
    """Make the disk as large as asked for; 0 leaves it."""
    if size:
        qemuimg.grow(disk, size)
