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


def resized(xml: str, *, vcpus: int, memory_mb: int) -> str:
    """Return a domain's XML with another size."""
    root = ET.fromstring(xml)  # noqa: S314 - libvirt's own output
    for tag in ("memory", "currentMemory"):
        for element in root.findall(tag):
            element.text = str(memory_mb)
            element.set("unit", "MiB")
    for element in root.findall("vcpu"):
        element.text = str(vcpus)
    ET.register_namespace("novalite", domain.NAMESPACE)
    return ET.tostring(root, encoding="unicode")


def demand_off(dom: Any) -> None:
    """Raise InvalidState for a guest that runs."""
    if dom.isActive():
        raise InvalidState(f"instance {dom.UUIDString()} runs")


def grow(disk: Path, size: int) -> None:
    """Make the disk as large as asked for; 0 leaves it."""
    if size:
        qemuimg.grow(disk, size)
