"""EC2's form: a tree whose leaves are texts, of which a dated version has a part.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from novalite.guestdata.facts import GuestFacts, ec2_id
from novalite.guestdata.openstack import LATEST

META_DATA = "meta-data"
USER_DATA = "user-data"

#: EC2's versions up to the last that Nova has, oldest first.
VERSIONS = (
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
)

# The version that brought an item, where that isn't the first.
_ITEMS = {
    "local-hostname": "2007-01-19",
    "instance-type": "2007-08-29",
    "block-device-mapping": "2007-12-15",
    "kernel-id": "2007-12-15",
    "ramdisk-id": "2007-12-15",
    "placement": "2008-02-01",
    "instance-action": "2008-09-01",
}


class Keys(dict[str, dict[str, str]]):
    """Public keys by number, listed as ``0=name``: EC2 names what it numbers here, and only here."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        super().__init__({str(at): {"openssh-key": line} for at, line in enumerate(keys.values())})
        self.names = list(keys)


def tree(facts: GuestFacts, version: str = LATEST) -> dict[str, Any]:
    """Return all that a version has, empty for a version that isn't there."""
    if version not in (*VERSIONS, LATEST):
        return {}
    told: dict[str, Any] = {META_DATA: meta_data(facts, version)}
    if facts.user_data:
        told[USER_DATA] = facts.user_data
    return told


def meta_data(facts: GuestFacts, version: str = LATEST) -> dict[str, Any]:
    """Return the items below ``meta-data`` of a version."""
    address = next((net.ip_address for net in facts.networks if net.ip_address), "")
    told: dict[str, Any] = {
        "ami-id": ec2_id("ami", facts.image_id) if facts.image_id else "",
        "ami-launch-index": str(facts.launch_index),
        "block-device-mapping": {"ami": facts.root_device.removeprefix("/dev/"), "root": facts.root_device},
        "hostname": facts.hostname,
        "instance-action": "none",
        "instance-id": ec2_id("i", facts.uuid),
        "instance-type": facts.flavor,
        "local-hostname": facts.hostname,
        "local-ipv4": address,
        "placement": {"availability-zone": facts.availability_zone},
        "reservation-id": facts.reservation_id,
    }
    if facts.ephemeral_device:
        told["block-device-mapping"]["ephemeral0"] = facts.ephemeral_device
    if facts.swap_device:
        told["block-device-mapping"]["swap"] = facts.swap_device
    if facts.kernel_id:
        told["kernel-id"] = ec2_id("aki", facts.kernel_id)
    if facts.ramdisk_id:
        told["ramdisk-id"] = ec2_id("ari", facts.ramdisk_id)
    if facts.public_keys:
        told["public-keys"] = Keys(facts.public_keys)
    order = (*VERSIONS, LATEST)
    return {
        name: value
        for name, value in told.items()
        if order.index(version) >= order.index(_ITEMS.get(name, VERSIONS[0]))
    }


def item(found: Any, path: list[str]) -> bytes | None:
    """Return what EC2 answers for a path below a tree, None where there is nothing.

    Of a branch that is a listing: a line each, branches with a slash behind.
    """
    for part in path:
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    if isinstance(found, Keys):
        return "\n".join(f"{at}={name}" for at, name in enumerate(found.names)).encode()
    if isinstance(found, Mapping):
        names = (f"{name}/" if isinstance(found[name], Mapping) else name for name in sorted(found))
        return "\n".join(names).encode()
    return found if isinstance(found, bytes) else str(found).encode()


def drive_json(facts: GuestFacts) -> bytes:
    """Return the newest ``meta-data`` as the one document that a config drive has of it."""
    return json.dumps(meta_data(facts)).encode()
