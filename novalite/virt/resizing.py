"""Keeping what a libvirt guest is, and coming back to it.

Both a rescue and a resize write the domain's XML down when all else that it
needs is there. So what is found after a kill is complete or isn't there.
"""

from __future__ import annotations

import subprocess
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


def keep_disk(layout: domain.Layout) -> None:
    """Copy the disk to where it was kept before a resize; cheap where files share blocks."""
    rmtree(layout.before.folder)
    layout.before.folder.mkdir(mode=0o711)
    copy = ["cp", "--reflink=auto", "--sparse=always", str(layout.disk), str(layout.before.disk)]
    done = subprocess.run(copy, capture_output=True, text=True, timeout=_COPY_SECONDS, check=False)
    if done.returncode:
        raise Unavailable(f"{layout.disk} can't be kept: {done.stderr.strip()}")


def resized(xml: str, layout: domain.Layout, *, vcpus: int, memory_mb: int, swap_bytes: int) -> str:
    """Return a domain's XML with another size; its place is ``layout``."""
    root = ET.fromstring(xml)  # noqa: S314 - libvirt's own output
    for tag in ("memory", "currentMemory"):
        for element in root.findall(tag):
            element.text = str(memory_mb)
            element.set("unit", "MiB")
    for element in root.findall("vcpu"):
        element.text = str(vcpus)
    for devices in root.findall("devices"):
        _put_swap(devices, layout, swap_bytes)
    ET.register_namespace("novalite", domain.NAMESPACE)
    return ET.tostring(root, encoding="unicode")


def _put_swap(devices: ET.Element, layout: domain.Layout, size: int) -> None:
    """Have a swap disk of ``size`` bytes among a domain's devices, and no other; 0 is none.

    It comes before the config drive, and both get new places on their bus: guests
    name their disks by these.
    """
    ours = {_told(each, "source", "file"): each for each in devices.findall("disk")}
    old = [path for path in ours if Path(path).name.startswith(domain.SWAP)]
    wanted = [str(layout.swap(size))] if size else []
    if old == wanted:
        return
    root = ours[str(layout.disk)]
    bus = _told(root, "target", "bus")
    for path in old:
        devices.remove(ours[path])
    later = [domain.disk(devices, Path(path), "raw", "", bus) for path in wanted]
    later += [ours[path] for path in ours if path == str(layout.config_drive)]
    for number, element in enumerate(later, start=1):
        devices.remove(element)
        for address in element.findall("address"):
            element.remove(address)
        for target in element.findall("target"):
            target.set("dev", disk_name(bus, number))
        devices.insert(list(devices).index(root) + number, element)


def drop_swaps(dom: Any, layout: domain.Layout) -> None:
    """Remove the swap disks that a domain has no use for."""
    root = ET.fromstring(dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))  # noqa: S314 - libvirt's own output
    used = {_told(each, "source", "file") for each in root.iterfind("devices/disk")}
    for path in layout.swaps():
        if str(path) not in used:
            path.unlink(missing_ok=True)


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
