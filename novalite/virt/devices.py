"""What disks are called in a guest: one rule for the domain and for what the guest is told."""

from __future__ import annotations

from collections.abc import Mapping

from novalite.errors import InvalidInput

#: Where disks may be attached -> how the guest's names of them begin.
DISK_BUSES = {"virtio": "vd", "scsi": "sd", "sata": "sd", "ide": "hd"}


def disk_bus(image_properties: Mapping[str, str]) -> str:
    """Return the bus that an image wants its disks at; raise InvalidInput for one that isn't known."""
    bus = image_properties.get("hw_disk_bus", "virtio")
    if bus not in DISK_BUSES:
        raise InvalidInput(f"hw_disk_bus {bus!r} isn't one of {', '.join(sorted(DISK_BUSES))}")
    return bus


def disk_name(bus: str, number: int) -> str:
    """Name a guest's disk by its number: the root disk is 0, then come the ephemeral disk and the swap disk,
    as far as there are any."""
    return f"{DISK_BUSES[bus]}{'abcd'[number]}"
