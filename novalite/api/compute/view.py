"""Values of the model as the Compute API writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import falcon

from novalite.api.compute import microversion
from novalite.api.compute.resource import self_links
from novalite.model import LIVE, ComputeHost, Flavor, KeyPair, Server, Status, TaskState
from novalite.reports import Migration
from novalite.service.servers import Sight

POWER_STATES = {None: 0, "running": 1, "paused": 3, "shutdown": 4, "crashed": 6}
_WITH_PROGRESS = (
    *(Status.BUILD, Status.ACTIVE, Status.REBOOT, Status.HARD_REBOOT),
    *(Status.REBUILD, Status.RESIZE, Status.VERIFY_RESIZE),
)
HOSTNAME = "OS-EXT-SRV-ATTR:hostname"
UNKNOWN = "UNKNOWN"  # what nobody can say of a host
NO_DETAILS = {"security_groups": [{"name": "default"}], "OS-DCF:diskConfig": "MANUAL"}


def instant(value: datetime | None) -> str | None:
    """Write a time to the second, as in ``2026-11-23T02:30:00Z``."""
    return f"{value.isoformat()[:19]}Z" if value is not None else None


def precise(value: datetime | None) -> str | None:
    """Write a time to the microsecond without a zone, as some fields have it."""
    return value.isoformat(timespec="microseconds")[:26] if value is not None else None


def brief(req: falcon.Request, kind: str, thing: Server | Flavor) -> dict[str, Any]:
    """Return what lists without details show."""
    return {"id": thing.id, "name": thing.name, "links": self_links(req, f"/{kind}/{thing.id}")}


def server(
    req: falcon.Request,
    value: Server,
    *,
    sight: Sight,
    hosts: Mapping[str, ComputeHost],
    tags: Sequence[str] = (),
    alone: bool = False,
) -> dict[str, Any]:
    """Return the body that shows a server, as far as ``sight`` goes.

    ``hosts`` are the servers', for those who may see their states; ``alone``
    says that it isn't shown in a list.
    """
    version = microversion.of(req)
    body: dict[str, Any] = {
        **brief(req, "servers", value),
        "status": value.status,
        "tenant_id": value.project,
        "user_id": value.user,
        "hostId": host_id(value.project, value.host),
        "image": {
            "id": value.image.id,
            "links": self_links(req, f"/images/{value.image.id}")[1:],
        },
        "flavor": _embedded(value.flavor, sight) if version >= (2, 47) else _referred(req, value.flavor),
        "created": instant(value.created_at),
        "updated": instant(value.updated_at),
        "metadata": dict(value.metadata),
        "addresses": addresses(value),
        "accessIPv4": value.access_ipv4 or "",
        "accessIPv6": value.access_ipv6 or "",
        "key_name": value.key_name,
        "config_drive": "True" if value.config_drive else "",
        "OS-EXT-AZ:availability_zone": value.zone or "",
        "OS-EXT-STS:task_state": _task(value),
        "OS-EXT-STS:vm_state": value.vm_state,
        "OS-EXT-STS:power_state": POWER_STATES.get(value.power_state, 0),
        "OS-SRV-USG:launched_at": precise(value.launched_at),
        "OS-SRV-USG:terminated_at": precise(value.terminated_at),
        "os-extended-volumes:volumes_attached": [],
        **NO_DETAILS,
    }
    if value.status in _WITH_PROGRESS:
        body["progress"] = 100 if value.status is Status.ACTIVE else 0
    if value.fault is not None and value.status in (Status.ERROR, Status.DELETED):
        body["fault"] = {
            "code": value.fault.code,
            "message": value.fault.message,
            "created": instant(value.fault.created_at),
        }
    since: tuple[tuple[microversion.Version, str, Any], ...] = (
        ((2, 9), "locked", value.locked_by is not None),
        ((2, 19), "description", value.description),
        ((2, 26), "tags", list(tags)),
        ((2, 63), "trusted_image_certificates", None),
        ((2, 73), "locked_reason", value.locked_reason),
        ((2, 90), HOSTNAME, value.hostname),
        ((2, 96), "pinned_availability_zone", value.pinned_zone),
        ((2, 100), "scheduler_hints", dict(value.hints)),
    )
    body |= {name: shown for needed, name, shown in since if version >= needed}
    if version >= (2, 98):
        body["image"] |= {"properties": dict(value.image.properties)}
    if alone and version >= (2, 71):
        body["server_groups"] = [] if value.group_id is None else [value.group_id]
    if sight.extended:
        body |= _extended(req, value)
    if version >= (2, 16) and sight.unknown_status:
        status = _host_status(value, hosts)
        if sight.host_status or status == UNKNOWN:
            body["host_status"] = status
    return body


def _task(value: Server) -> str | None:
    """Return a task by Nova's name; it has one for all steps of a live migration."""
    return "migrating" if value.task_state in (TaskState.LIVE_PREP, *LIVE) else value.task_state


def _extended(req: falcon.Request, value: Server) -> dict[str, Any]:
    version = microversion.of(req)
    body: dict[str, Any] = {
        "OS-EXT-SRV-ATTR:host": value.host,
        "OS-EXT-SRV-ATTR:hypervisor_hostname": value.host,
        "OS-EXT-SRV-ATTR:instance_name": f"instance-{value.id}",
    }
    if version >= (2, 3):
        body |= {
            "OS-EXT-SRV-ATTR:reservation_id": value.reservation_id,
            "OS-EXT-SRV-ATTR:launch_index": value.launch_index,
            HOSTNAME: value.hostname,
            "OS-EXT-SRV-ATTR:kernel_id": value.image.properties.get("kernel_id", ""),
            "OS-EXT-SRV-ATTR:ramdisk_id": value.image.properties.get("ramdisk_id", ""),
            "OS-EXT-SRV-ATTR:root_device_name": "/dev/vda",
            "OS-EXT-SRV-ATTR:user_data": value.user_data,
        }
    return body


def _host_status(value: Server, hosts: Mapping[str, ComputeHost]) -> str:
    if value.host is None:
        return ""
    host = hosts.get(value.host)
    if host is None:
        return UNKNOWN
    if not host.enabled:
        return "MAINTENANCE"
    return "UP" if host.up else "DOWN"


def host_id(project: str, host: str | None) -> str:
    """Name a host without telling which: same project and host, same id."""
    return hashlib.sha224(f"{project}{host}".encode()).hexdigest() if host else ""


def _referred(req: falcon.Request, value: Flavor) -> dict[str, Any]:
    return {"id": value.id, "links": self_links(req, f"/flavors/{value.id}")[1:]}


def _embedded(value: Flavor, sight: Sight) -> dict[str, Any]:
    """Return the flavor as it was when the server got it."""
    specs = {"extra_specs": dict(value.extra_specs)} if sight.extra_specs else {}
    return {
        "original_name": value.name,
        "vcpus": value.vcpus,
        "ram": value.memory_mb,
        "disk": value.disk_gb,
        "ephemeral": value.ephemeral_gb,
        "swap": value.swap_mb,
        **specs,
    }


def addresses(value: Server, *, full: bool = True) -> dict[str, list[dict[str, Any]]]:
    """Return a server's addresses by network; ``full`` says of which kind and whose they are."""
    networks: dict[str, list[dict[str, Any]]] = {}
    for each in value.addresses:
        more = {"OS-EXT-IPS:type": each.kind, "OS-EXT-IPS-MAC:mac_addr": each.mac} if full else {}
        networks.setdefault(each.network, []).append({"addr": each.address, "version": each.version, **more})
    return networks


def brief_flavor(req: falcon.Request, value: Flavor) -> dict[str, Any]:
    """Return what lists of flavors without details show."""
    body = brief(req, "flavors", value)
    return {**body, "description": value.description} if microversion.since(req, (2, 55)) else body


def flavor(req: falcon.Request, value: Flavor, *, specs: bool) -> dict[str, Any]:
    """Return the body that shows a flavor, with its extra ``specs`` where they are told with it."""
    body = {
        **brief_flavor(req, value),
        "ram": value.memory_mb,
        "disk": value.disk_gb,
        "vcpus": value.vcpus,
        "swap": value.swap_mb or (0 if microversion.since(req, (2, 75)) else ""),
        "OS-FLV-EXT-DATA:ephemeral": value.ephemeral_gb,
        "os-flavor-access:is_public": value.public,
    }
    if not microversion.since(req, (2, 102)):
        body |= {"rxtx_factor": value.rxtx_factor, "OS-FLV-DISABLED:disabled": False}
    told = specs and microversion.since(req, (2, 61))
    return {**body, "extra_specs": dict(value.extra_specs)} if told else body


def keypair(req: falcon.Request, value: KeyPair) -> dict[str, Any]:
    """Return what lists show of a key pair."""
    body = {"name": value.name, "public_key": value.public_key, "fingerprint": value.fingerprint}
    return {**body, "type": value.type} if microversion.of(req) >= (2, 2) else body


def migration(req: falcon.Request, value: Migration, *, hosts: bool) -> dict[str, Any]:
    """Return what every body of a migration has, without its ``hosts`` where they aren't told."""
    source, dest = (value.source_host, value.dest_host) if hosts else (None, None)
    body: dict[str, Any] = {
        "id": value.id,
        "status": value.status,
        "source_compute": source,
        "source_node": source,
        "dest_compute": dest,
        "dest_node": dest,
        "dest_host": None,
        "created_at": precise(value.created_at),
        "updated_at": precise(value.updated_at),
    }
    since = (
        ((2, 59), "uuid", value.uuid),
        ((2, 80), "project_id", value.project_id),
        ((2, 80), "user_id", value.user_id),
    )
    return body | {name: shown for needed, name, shown in since if microversion.since(req, needed)}
