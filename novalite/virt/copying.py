"""Copying a guest's disk; one that runs libvirt mirrors, and is told to stop when both are the same."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from novalite.errors import HypervisorDown, InvalidState
from novalite.virt import qemuimg
from novalite.virt.base import Snapshot

_POLL_SECONDS = 0.1
_COPY_SECONDS = 7200.0
Ask = Callable[[Callable[[Any], Any]], Any]


@contextlib.contextmanager
def all_or_nothing(target: Path) -> Iterator[None]:
    """Remove the copy ``target`` when the block fails."""
    try:
        yield
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def told(copy: Path) -> Snapshot:
    """Return a copy with its size."""
    return Snapshot(copy, "qcow2", int(qemuimg.info(copy, "qcow2")["virtual-size"]))


def copy_idle(disk: Path, target: Path) -> None:
    """Copy a disk that nobody writes to, with all it is based on, to the qcow2 file ``target``."""
    target.unlink(missing_ok=True)
    size = int(qemuimg.info(disk, "qcow2")["virtual-size"])
    qemuimg.to_qcow2(disk, "qcow2", target, size)


def copy_live(ask: Ask, disk: Path, target: Path) -> None:
    """Copy ``disk`` with all it is based on to the qcow2 file ``target``.

    ``ask`` runs a function on the domain. Raises InvalidState when the guest
    isn't running, and HypervisorDown when it ends meanwhile.
    """
    device = ask(lambda dom: _device(dom, disk))
    ask(lambda dom: _abort(dom, device))  # what a killed process of ours left going
    target.unlink(missing_ok=True)
    xml = ET.Element("disk", type="file")
    ET.SubElement(xml, "source", file=str(target))
    ET.SubElement(xml, "driver", type="qcow2")
    told = ET.tostring(xml, encoding="unicode")
    flags = libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
    ask(lambda dom: dom.blockCopy(device, told, {}, flags))
    try:
        deadline = time.monotonic() + _COPY_SECONDS
        while not ask(lambda dom: _ready(dom, device)):
            if time.monotonic() > deadline:
                raise HypervisorDown(f"{disk} can't be copied within {_COPY_SECONDS:.0f} s")
            time.sleep(_POLL_SECONDS)
    finally:
        ask(lambda dom: _abort(dom, device))


def _device(dom: Any, disk: Path) -> str:
    if not dom.isActive():
        raise InvalidState(f"instance {dom.UUIDString()} isn't running")
    for element in ET.fromstring(dom.XMLDesc()).iter("disk"):  # noqa: S314 - libvirt's own output
        source, target = element.find("source"), element.find("target")
        if source is not None and target is not None and source.get("file") == str(disk):
            return target.get("dev", "")
    raise HypervisorDown(f"instance {dom.UUIDString()} has no disk {disk}")


def _ready(dom: Any, device: str) -> bool:
    """Tell whether the copy has caught up; raise HypervisorDown when it is no more."""
    for element in ET.fromstring(dom.XMLDesc()).iter("disk"):  # noqa: S314 - libvirt's own output
        target, mirror = element.find("target"), element.find("mirror")
        if target is not None and target.get("dev") == device:
            if mirror is None:
                break
            return mirror.get("ready") == "yes"
    raise HypervisorDown(f"instance {dom.UUIDString()}: the copy of {device} broke off")


def _abort(dom: Any, device: str) -> None:
    if dom.isActive() and dom.blockJobInfo(device):
        dom.blockJobAbort(device)
