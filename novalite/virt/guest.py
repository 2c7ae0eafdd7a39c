"""What is done to one libvirt domain: small steps, each tolerant of a repeat.

Every function may raise libvirt's own error, which ``Connection.call`` turns
into one of ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from novalite.errors import InvalidState
from novalite.virt import domain
from novalite.virt.base import PowerState

_STATES = {
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.CRASHED,
}


def state(dom: Any) -> PowerState:
    """Return the power state."""
    number, reason = dom.state()
    if number == libvirt.VIR_DOMAIN_SHUTOFF and reason == libvirt.VIR_DOMAIN_SHUTOFF_CRASHED:
        return PowerState.CRASHED
    return _STATES.get(number, PowerState.RUNNING)


def counters(dom: Any) -> tuple[PowerState, dict[str, Any], list[tuple[str, str]], dict[str, Any]]:
    """Return a running guest's state and statistics, its cards' addresses and host's ends, and its job.

    Raises InvalidState for a guest that is off.
    """
    demand_active(dom)
    ((_, stats),) = dom.connect().domainListGetStats([dom], 0, 0)
    described = ET.fromstring(dom.XMLDesc())  # noqa: S314 - libvirt's own output
    cards = [
        (_attribute(each, "mac", "address"), _attribute(each, "target", "dev"))
        for each in described.iterfind("devices/interface")
    ]
    job = dom.jobStats()
    return state(dom), stats, cards, job if job.get("type", 0) != libvirt.VIR_DOMAIN_JOB_NONE else {}


def _attribute(element: ET.Element, child: str, name: str) -> str:
    found = element.find(child)
    return "" if found is None else found.get(name, "")


def owner(dom: Any) -> str:
    """Return the instances_path whose guest it is; empty for others' domains."""
    try:
        return domain.read_owner(dom.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, domain.NAMESPACE))
    except libvirt.libvirtError as exc:
        if exc.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return ""
        raise


def start(dom: Any) -> None:
    """Start or resume, unless it runs.

    A start that a killed process of ours asked for may still be going on: it
    is waited for, and then refused because the guest runs.
    """
    if state(dom) is PowerState.RUNNING:
        return
    for last in (False, True):
        try:
            if dom.isActive():
                dom.resume()
            else:
                dom.create()
            return
        except libvirt.libvirtError as exc:
            if state(dom) is PowerState.RUNNING:
                return
            # a libvirtd that was killed and is back may still be putting away the
            # guest's former process, and take a new one along
            if last or exc.get_error_code() != libvirt.VIR_ERR_INTERNAL_ERROR:
                raise


def end(dom: Any) -> None:
    """Cut the power, and forget a suspended guest's memory."""
    if dom.hasManagedSaveImage():
        dom.managedSaveRemove()
    if dom.isActive():
        with tolerating(libvirt.VIR_ERR_OPERATION_INVALID):  # it ended meanwhile
            dom.destroy()


def pause(dom: Any) -> None:
    """Halt the processors."""
    if state(dom) is PowerState.PAUSED:
        return
    demand_active(dom)
    dom.suspend()


def suspend(dom: Any) -> None:
    """Keep the memory on disk, from where the next start goes on."""
    if not dom.isActive() and dom.hasManagedSaveImage():
        return
    demand_active(dom)
    dom.managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING)


def demand_active(dom: Any) -> None:
    """Raise InvalidState for a guest that is off."""
    if not dom.isActive():
        raise InvalidState(f"instance {dom.UUIDString()} isn't running")


def terminal(dom: Any) -> str:
    """Return the path of the terminal at the first serial port."""
    demand_active(dom)
    source = ET.fromstring(dom.XMLDesc()).find("devices/serial[@type='pty']/source")  # noqa: S314 - libvirt's own
    path = "" if source is None else source.get("path", "")
    if not path.startswith("/dev/pts/"):
        raise InvalidState(f"instance {dom.UUIDString()} has no serial terminal")
    return path


def undefine(dom: Any) -> None:
    """Forget a domain; one that runs goes on, with nothing left when it ends."""
    if dom.isPersistent():
        dom.undefineFlags(
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        )


def press_power_button(dom: Any) -> None:
    """Ask the guest to shut down."""
    with tolerating(libvirt.VIR_ERR_OPERATION_INVALID):
        if state(dom) is PowerState.PAUSED:
            dom.resume()  # a paused guest can't hear
        dom.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)


@contextlib.contextmanager
def tolerating(code: int) -> Iterator[None]:
    """Pass over one libvirt error code."""
    try:
        yield
    except libvirt.libvirtError as exc:
        if exc.get_error_code() != code:
            raise
