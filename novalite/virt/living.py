"""Sending a libvirt guest that runs to another libvirtd, with its disk.

The daemons do it among themselves, so it goes on while our process is
started again. The domain is told to the new one with its paths there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from novalite import faults
from novalite.errors import HypervisorDown, InstanceNotFound, InvalidState
from novalite.virt import domain, guest
from novalite.virt.base import Arrival

_POLL_SECONDS = 0.2
_STOP_SECONDS = 60.0
_FLAGS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    | libvirt.VIR_MIGRATE_NON_SHARED_DISK
    | libvirt.VIR_MIGRATE_AUTO_CONVERGE
    | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
)
Ask = Callable[[Callable[[Any], Any]], Any]


def send(
    ask: Ask,
    here: Path,
    instance_id: str,
    there: Arrival,
    check: Callable[[], None],
    hurry: Callable[[], bool],
) -> None:
    """Send a guest; ``ask`` runs a function on its domain. See ``VirtDriver.send``."""
    pace = _Pace(ask, hurry)
    while True:
        try:
            busy = ask(_busy)
        except InstanceNotFound:
            return  # it has been sent
        if not busy:
            break
        check()  # a job that a killed process of ours has begun
        pace.look()
        time.sleep(_POLL_SECONDS)
    pace.go_on()  # that job failed
    xml = moved(ask(_told), here, Path(there.instances_path), instance_id)
    params = {
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: xml,
        libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: xml,
        libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{there.address}",
        libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS: there.address,
    }
    failed: list[BaseException] = []

    def go() -> None:
        try:
            ask(lambda dom: dom.migrateToURI3(there.uri, params, _FLAGS))
        except BaseException as error:  # noqa: BLE001 - it is raised by who waits
            failed.append(error)

    going = threading.Thread(target=go, name=f"send-{instance_id}", daemon=True)
    going.start()
    while going.is_alive():
        try:
            check()
        except BaseException:
            _call_off(ask)
            going.join()
            pace.go_on()
            raise
        pace.look()
        going.join(_POLL_SECONDS)
        faults.passing("guest-leaves")
    if failed and not isinstance(failed[0], InstanceNotFound):
        pace.go_on()
        raise failed[0]


def stop(ask: Ask) -> None:
    """End what is being done with a guest, and wait until it has ended."""
    deadline = time.monotonic() + _STOP_SECONDS
    while ask(_busy):
        if time.monotonic() > deadline:
            raise HypervisorDown(f"what libvirt does with a guest doesn't end within {_STOP_SECONDS:.0f} s")
        _call_off(ask)
        time.sleep(_POLL_SECONDS)


class _Pace:
    """Pauses a guest on its way once there is hurry; libvirt has it go on where it arrives."""

    def __init__(self, ask: Ask, hurry: Callable[[], bool]) -> None:
        self._ask = ask
        self._hurry = hurry
        self._paused = False

    def look(self) -> None:
        """Pause the guest if there is hurry now."""
        if not self._paused and self._hurry():
            with contextlib.suppress(HypervisorDown, InstanceNotFound, InvalidState):  # it is just arriving
                self._ask(guest.pause)
                self._paused = True

    def go_on(self) -> None:
        """Have a guest go on that stays here after all."""
        if self._paused:
            self._paused = False
            with contextlib.suppress(HypervisorDown, InstanceNotFound):
                self._ask(guest.start)


def moved(xml: str, here: Path, there: Path, instance_id: str) -> str:
    """Return a domain with the paths it has on another host, and a disk that needs no other file."""
    root = ET.fromstring(xml)  # noqa: S314 - libvirt's own output
    old, new = str(here / instance_id), str(there / instance_id)
    for element in root.iter():
        for backing in element.findall("backingStore"):
            element.remove(backing)
        for name, value in element.attrib.items():
            if value == old or value.startswith(f"{old}/"):
                element.set(name, new + value.removeprefix(old))
            elif element.tag == f"{{{domain.NAMESPACE}}}owner" and value == str(here):
                element.set(name, str(there))
    for element in (*root.findall("os/kernel"), *root.findall("os/initrd")):
        element.text = (element.text or "").replace(f"{old}/", f"{new}/", 1)
    ET.register_namespace("novalite", domain.NAMESPACE)
    return ET.tostring(root, encoding="unicode")


def _told(dom: Any) -> str:
    flags = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
    return str(dom.XMLDesc(flags))


def _busy(dom: Any) -> bool:
    return bool(dom.isActive() and dom.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE)


def _call_off(ask: Ask) -> None:
    """End a migration, unless it is over."""
    with contextlib.suppress(HypervisorDown, InstanceNotFound):
        ask(lambda dom: dom.abortJob())
