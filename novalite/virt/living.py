"""Sending a libvirt guest that runs to another libvirtd, with its disk.

The daemons do it among themselves, so it goes on while our process is
started again. The domain is told to the new one with its paths there.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from novalite import faults
from novalite.errors import HypervisorDown, InstanceNotFound, MigrationTimedOut
from novalite.virt import domain
from novalite.virt.base import Arrival
from novalite.virt.pacing import Pace, Terms, gib

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
_OF_TLS = re.compile(r"QEMU.*(certificate|credentials|\btls\b)", re.IGNORECASE | re.DOTALL)
Ask = Callable[[Callable[[Any], Any]], Any]


@dataclass(frozen=True, slots=True)
class Way:
    """A guest's way to another host.

    ``ask`` runs a function on its domain, and so does ``ask_long`` one that
    takes its time; ``disks`` tells the bytes of each of its disks.
    """

    instance_id: str
    ask: Ask
    ask_long: Ask
    here: Path  # the instances_path
    there: Arrival
    terms: Terms
    disks: Callable[[], Iterable[int]]


def send(way: Way, check: Callable[[], None], hurry: Callable[[], bool]) -> None:
    """Send a guest; see ``VirtDriver.send``."""
    ask, there, terms = way.ask, way.there, way.terms
    try:
        memory = ask(lambda dom: dom.maxMemory() << 10)
    except InstanceNotFound:
        return  # it has been sent
    pace = Pace(ask, terms, gib(memory, way.disks()), hurry)
    while True:
        try:
            busy = ask(_busy)
        except InstanceNotFound:
            return  # it has been sent
        if not busy:
            break
        check()  # a job that a killed process of ours has begun
        try:
            pace.look()
        except MigrationTimedOut:
            with contextlib.suppress(InstanceNotFound):  # it has gone meanwhile
                stop(ask)
            pace.go_on()
            raise
        time.sleep(_POLL_SECONDS)
    pace.go_on()  # that job failed
    xml = moved(ask(_told), way.here, Path(there.instances_path), way.instance_id)
    host = f"[{there.address}]" if ":" in there.address else there.address
    params = {
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: xml,
        libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: xml,
        libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{host}",
        libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS: there.address,  # of memory and disks, and no other
        libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: terms.bandwidth,
    }
    flags = _FLAGS | (libvirt.VIR_MIGRATE_TLS if terms.with_native_tls else 0)
    failed: list[BaseException] = []

    def go() -> None:
        try:
            way.ask_long(lambda dom: dom.migrateToURI3(there.uri, params, flags))
        except BaseException as error:  # noqa: BLE001 - it is raised by who waits
            failed.append(error)

    going = threading.Thread(target=go, name=f"send-{way.instance_id}", daemon=True)
    going.start()
    while going.is_alive():
        try:
            check()
            pace.look()
        except BaseException:
            while going.is_alive():  # it can't be called off at each of its steps
                _call_off(ask)
                going.join(_POLL_SECONDS)
            pace.go_on()
            raise
        going.join(_POLL_SECONDS)
        faults.passing("guest-leaves")
    if failed and not isinstance(failed[0], InstanceNotFound):
        pace.go_on()
        raise _told_why(failed[0], terms)


def stop(ask: Ask) -> None:
    """End what is being done with a guest, and wait until it has ended."""
    deadline = time.monotonic() + _STOP_SECONDS
    while ask(_busy):
        if time.monotonic() > deadline:
            raise HypervisorDown(f"what libvirt does with a guest doesn't end within {_STOP_SECONDS:.0f} s")
        _call_off(ask)
        time.sleep(_POLL_SECONDS)


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


def _told_why(error: BaseException, terms: Terms) -> BaseException:
    """Say where to look when it is the certificates that keep a guest here."""
    if terms.with_native_tls and isinstance(error, HypervisorDown) and _OF_TLS.search(str(error)):
        told = "both hosts' certificates for QEMU (migrate_tls_x509_cert_dir in qemu.conf) have to be of an"
        return HypervisorDown(f"{error}; {told} authority that both trust, and to name their addresses")
    return error


def _busy(dom: Any) -> bool:
    return bool(dom.isActive() and dom.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE)


def _call_off(ask: Ask) -> None:
    """End a migration, unless it is over."""
    with contextlib.suppress(HypervisorDown, InstanceNotFound):
        ask(lambda dom: dom.abortJob())
