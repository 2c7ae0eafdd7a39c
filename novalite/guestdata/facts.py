"""A server's record as what its guest may know of it."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from novalite.config import NetworkSettings
from novalite.model import Server
from novalite.virt.base import Nic
from novalite.virt.devices import disk_bus, disk_name

_SEED_BYTES = 512  # as many as Nova gives
_EC2_DIGITS = 17  # of an instance id, as EC2 has had them since 2016


@dataclass(frozen=True, slots=True)
class GuestNetwork:
    """One network card as the guest should set it up."""

    mac: str
    ip_address: str = ""  # empty: by DHCP
    netmask: str = ""
    gateway: str = ""
    dns: Sequence[str] = ()
    mtu: int = 1500
    network_id: str = ""


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """All that a guest learns about itself."""

    uuid: str
    name: str
    hostname: str
    availability_zone: str = "nova"
    launch_index: int = 0
    project_id: str = ""
    public_keys: Mapping[str, str] = field(default_factory=dict)  # key name -> OpenSSH line
    meta: Mapping[str, str] = field(default_factory=dict)
    user_data: bytes = b""
    vendor_data: Mapping[str, Any] = field(default_factory=dict)
    networks: Sequence[GuestNetwork] = ()
    random_seed: bytes = field(default=b"", repr=False)
    reservation_id: str = ""
    image_id: str = ""
    kernel_id: str = ""
    ramdisk_id: str = ""
    flavor: str = ""
    root_device: str = "/dev/vda"
    ephemeral_device: str = ""  # empty: there is none
    swap_device: str = ""  # likewise
    admin_password: str = field(default="", repr=False)


def mac_of(server_id: str) -> str:
    """Make a server's MAC address: the same again at every attempt."""
    tail = hashlib.sha256(server_id.encode()).digest()[:3]
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in tail)


def nics_of(server: Server, network: NetworkSettings) -> tuple[Nic, ...]:
    """Return a server's network cards."""
    if "none" in (network.kind, server.networks):
        return ()
    return (Nic(mac_of(server.id), network.kind, network.source),)


def facts_of(server: Server, network: NetworkSettings) -> GuestFacts:
    """Tell what a guest learns about itself; the random seed is another one each time.

    The administrator's password is known while the guest is made, and never after.
    """
    bus = disk_bus(server.image.properties)
    ephemeral = bool(server.flavor.ephemeral_gb)
    keys = {server.key_name: server.public_key} if server.key_name and server.public_key else {}
    return GuestFacts(
        uuid=server.id,
        name=server.name,
        hostname=server.hostname,
        availability_zone=server.zone or "",
        launch_index=server.launch_index,
        project_id=server.project,
        public_keys=keys,
        meta=server.metadata,
        user_data=base64.b64decode(server.user_data) if server.user_data else b"",
        networks=tuple(GuestNetwork(mac=nic.mac) for nic in nics_of(server, network)),
        random_seed=secrets.token_bytes(_SEED_BYTES),
        reservation_id=server.reservation_id,
        image_id=server.image.id,
        kernel_id=server.image.properties.get("kernel_id", ""),
        ramdisk_id=server.image.properties.get("ramdisk_id", ""),
        flavor=server.flavor.name,
        root_device=f"/dev/{disk_name(bus, 0)}",
        ephemeral_device=f"/dev/{disk_name(bus, 1)}" if ephemeral else "",
        swap_device=f"/dev/{disk_name(bus, 1 + ephemeral)}" if server.flavor.swap_mb else "",
        admin_password=str(server.task_args.get("admin_password") or ""),
    )


def ec2_id(kind: str, uuid: str) -> str:
    """Write a UUID as an id of EC2's form: ``i-6f1d2a4e9c3b4f7a8``.

    The digits are the UUID's first, so that what it names can be found again.
    """
    return f"{kind}-{uuid.replace('-', '')[:_EC2_DIGITS]}"
