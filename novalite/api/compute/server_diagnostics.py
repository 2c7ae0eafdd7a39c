"""``/v2.1/servers/{server_id}/diagnostics``: what a guest has used."""

from __future__ import annotations

from typing import Any

import falcon

from novalite.api.compute import microversion
from novalite.api.compute.resource import Resource, caller_of
from novalite.model import Server, utcnow
from novalite.virt.diagnostics import Diagnostics, DiskCounters, NicCounters


class ServerDiagnostics(Resource):
    def show(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        server, told = self.service.actions.diagnostics(caller_of(req), server_id)
        resp.media = _standard(server, told) if microversion.since(req, (2, 48)) else _of_libvirt(told)


def _standard(server: Server, told: Diagnostics) -> dict[str, Any]:
    """Return the format that all hypervisors have since 2.48. Memory in MiB."""
    used = told.memory_used_kib
    since = server.launched_at
    return {
        "state": told.state,
        "driver": told.driver,
        "hypervisor": told.hypervisor,
        "hypervisor_os": "linux",
        "uptime": None if since is None else int((utcnow() - since).total_seconds()),
        "config_drive": server.config_drive,
        "num_cpus": len(told.cpus),
        "num_nics": len(told.nics),
        "num_disks": len(told.disks),
        "memory_details": {
            "maximum": told.memory_max_kib >> 10,
            "used": None if used is None else used >> 10,
        },
        "cpu_details": [{"id": each.id, "time": each.time_ns, "utilisation": None} for each in told.cpus],
        "disk_details": [_disk(each) for each in told.disks],
        "nic_details": [_nic(each) for each in told.nics],
    }


def _disk(value: DiskCounters) -> dict[str, Any]:
    return {
        "read_bytes": value.read_bytes,
        "read_requests": value.read_requests,
        "write_bytes": value.write_bytes,
        "write_requests": value.write_requests,
        "errors_count": value.errors,
    }


def _nic(value: NicCounters) -> dict[str, Any]:
    body: dict[str, Any] = {"mac_address": value.mac}
    for way in ("rx", "tx"):
        body |= {
            f"{way}_octets": getattr(value, f"{way}_bytes"),
            f"{way}_packets": getattr(value, f"{way}_packets"),
            f"{way}_errors": getattr(value, f"{way}_errors"),
            f"{way}_drop": getattr(value, f"{way}_drop"),
            f"{way}_rate": None,
        }
    return body


def _of_libvirt(told: Diagnostics) -> dict[str, Any]:
    """Return what Nova's libvirt driver told before 2.48; what isn't counted is left out. Memory in KiB."""
    body: dict[str, Any] = {f"cpu{each.id}_time": each.time_ns for each in told.cpus}
    body |= {"memory": told.memory_max_kib, "memory-rss": told.memory_used_kib}
    for disk in told.disks:
        body |= {
            f"{disk.name}_read": disk.read_bytes,
            f"{disk.name}_read_req": disk.read_requests,
            f"{disk.name}_write": disk.write_bytes,
            f"{disk.name}_write_req": disk.write_requests,
            f"{disk.name}_errors": disk.errors,
        }
    for nic in told.nics:
        for way in ("rx", "tx"):
            name = f"{nic.name or nic.mac}_{way}"
            body |= {
                name: getattr(nic, f"{way}_bytes"),
                f"{name}_packets": getattr(nic, f"{way}_packets"),
                f"{name}_errors": getattr(nic, f"{way}_errors"),
                f"{name}_drop": getattr(nic, f"{way}_drop"),
            }
    return {name: value for name, value in body.items() if value is not None}
