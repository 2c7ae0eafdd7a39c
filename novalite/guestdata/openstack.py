"""OpenStack's form: JSON documents, of which a dated version has a part.

https://docs.openstack.org/nova/latest/user/metadata.html
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from novalite.guestdata.facts import GuestFacts, GuestNetwork

META_DATA = "meta_data.json"
NETWORK_DATA = "network_data.json"
USER_DATA = "user_data"
VENDOR_DATA = "vendor_data.json"
VENDOR_DATA2 = "vendor_data2.json"

#: Nova's versions, oldest first.
VERSIONS = (
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "2025-04-04",
)
LATEST = "latest"

# The version that brought a document, or a member of meta_data.json, where that isn't the first.
_DOCUMENTS = {VENDOR_DATA: "2013-10-17", NETWORK_DATA: "2015-10-15", VENDOR_DATA2: "2016-10-06"}
_MEMBERS = {
    "random_seed": "2013-04-04",
    "project_id": "2015-10-15",
    "devices": "2016-06-30",
    "dedicated_cpus": "2020-10-14",
}


def documents(facts: GuestFacts, version: str = LATEST) -> dict[str, bytes]:
    """Return a version's documents by name, none for a version that isn't there."""
    if version not in (*VERSIONS, LATEST):
        return {}
    told = {
        META_DATA: _json(_since(meta_data(facts), _MEMBERS, version)),
        # Nobody configures any: the first is the operator's file, the second is asked of services.
        VENDOR_DATA: _json(dict(facts.vendor_data)),
        VENDOR_DATA2: _json({}),
        NETWORK_DATA: _json(network_data(facts.networks)),
    }
    if facts.user_data:
        told[USER_DATA] = facts.user_data
    return _since(told, _DOCUMENTS, version)


def meta_data(facts: GuestFacts) -> dict[str, Any]:
    """Return the newest content of ``meta_data.json``."""
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


def _since(told: dict[str, Any], added: Mapping[str, str], version: str) -> dict[str, Any]:
    """Leave out what came after a version; dates sort as text, and "latest" after them."""
    return {name: value for name, value in told.items() if version >= added.get(name, "")}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
