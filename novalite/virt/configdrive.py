"""Config drives: an iso labelled config-2 that tells a guest who it is.

The layout is the OpenStack metadata format, version 2, as cloud-init reads it,
with the EC2 form beside it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from novalite.errors import ConfigError, InvalidInput, Unavailable

LABEL = "config-2"
_TOOLS = ("genisoimage", "xorrisofs", "mkisofs")
_BUILD_SECONDS = 60


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
    random_seed: bytes = b""
    ec2_id: str = ""
    image_id: str = ""
    flavor: str = ""
    admin_password: str = field(default="", repr=False)


def openstack_files(facts: GuestFacts) -> dict[str, bytes]:
    """Return the drive's files, by path inside it."""
    files = {
        "openstack/latest/meta_data.json": _json(meta_data(facts)),
        "openstack/latest/network_data.json": _json(network_data(facts.networks)),
        "openstack/latest/vendor_data.json": _json(dict(facts.vendor_data)),
        "ec2/latest/meta-data.json": _json(ec2_meta_data(facts)),
    }
    if facts.user_data:
        files["openstack/latest/user_data"] = facts.user_data
        files["ec2/latest/user-data"] = facts.user_data
    return files


def meta_data(facts: GuestFacts) -> dict[str, Any]:
    """Return the content of ``meta_data.json``."""
    told: dict[str, Any] = {
        "uuid": facts.uuid,
        "name": facts.name,
        "hostname": facts.hostname,
        "availability_zone": facts.availability_zone,
        "launch_index": facts.launch_index,
        "project_id": facts.project_id,
        "meta": dict(facts.meta),
        "devices": [],
        "dedicated_cpus": [],
    }
    if facts.public_keys:
        told["public_keys"] = dict(facts.public_keys)
        told["keys"] = [
            {"name": name, "type": kind_of_key(line), "data": line}
            for name, line in facts.public_keys.items()
        ]
    if facts.admin_password:
        told["admin_pass"] = facts.admin_password
    if facts.random_seed:
        told["random_seed"] = base64.b64encode(facts.random_seed).decode()
    return told


def kind_of_key(text: str) -> str:
    """Tell the kind of a key pair by what guests are given of it."""
    return "x509" if text.startswith("-----BEGIN CERTIFICATE-----") else "ssh"


def network_data(networks: Sequence[GuestNetwork]) -> dict[str, list[dict[str, Any]]]:
    """Return the content of ``network_data.json``."""
    links, nets, services = [], [], []
    for index, net in enumerate(networks):
        links.append(
            {
                "id": f"tap{index}",
                "type": "phy",
                "ethernet_mac_address": net.mac,
                "mtu": net.mtu,
                "vif_id": None,
            }
        )
        entry: dict[str, Any] = {
            "id": f"network{index}",
            "link": f"tap{index}",
            "network_id": net.network_id,
            "type": "ipv4" if net.ip_address else "ipv4_dhcp",
        }
        if net.ip_address:
            entry |= {"ip_address": net.ip_address, "netmask": net.netmask, "routes": []}
            if net.gateway:
                route = {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": net.gateway}  # noqa: S104 - a route
                entry["routes"] = [route]
        nets.append(entry)
        services += [{"type": "dns", "address": address} for address in net.dns]
    return {"links": links, "networks": nets, "services": services}


def ec2_meta_data(facts: GuestFacts) -> dict[str, Any]:
    """Return the content of ``ec2/latest/meta-data.json``."""
    address = next((net.ip_address for net in facts.networks if net.ip_address), "")
    told: dict[str, Any] = {
        "ami-id": facts.image_id,
        "ami-launch-index": facts.launch_index,
        "hostname": facts.hostname,
        "instance-id": facts.ec2_id or facts.uuid,
        "instance-type": facts.flavor,
        "local-hostname": facts.hostname,
        "local-ipv4": address,
        "placement": {"availability-zone": facts.availability_zone},
    }
    if facts.public_keys:
        told["public-keys"] = {
            str(index): {"_name": f"{index}={name}", "openssh-key": line}
            for index, (name, line) in enumerate(facts.public_keys.items())
        }
    return told


def build(files: Mapping[str, bytes], target: Path) -> None:
    """Write an iso 9660 file system of ``files`` to ``target``, all or nothing.

    The file is readable by its owner only: user data holds secrets. Raises
    InvalidInput for a path that leaves the drive, ConfigError when no tool
    that makes iso files is installed, and Unavailable when writing fails.
    """
    tool = next(filter(None, map(shutil.which, _TOOLS)), None)
    if tool is None:
        raise ConfigError(f"a config drive needs one of {', '.join(_TOOLS)}; install genisoimage")
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        # beside the target: mode 0700, on the same file system, swept with the instance
        with tempfile.TemporaryDirectory(prefix=".config-", dir=target.parent) as folder:
            for name, content in files.items():
                path = Path(folder, _inside(name))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            fresh.touch(mode=0o600)
            _run([tool, "-quiet", "-o", str(fresh), "-V", LABEL, "-r", "-J", "-l", folder])
        with fresh.open("rb") as written:
            os.fsync(written.fileno())
        fresh.replace(target)
    except OSError as exc:
        raise Unavailable(f"config drive {target}: {exc}") from exc
    finally:
        fresh.unlink(missing_ok=True)


def _run(argv: list[str]) -> None:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_BUILD_SECONDS
        )
    except subprocess.TimeoutExpired as exc:
        raise Unavailable(f"{argv[0]} took over {_BUILD_SECONDS} s") from exc
    if done.returncode:
        raise Unavailable(f"{argv[0]}: {done.stderr.decode(errors='replace').strip()[:500]}")


def _inside(name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise InvalidInput(f"config drive: {name!r} is no path inside the drive")
    return str(PurePosixPath(name))


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
