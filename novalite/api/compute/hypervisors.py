"""``/v2.1/os-hypervisors``: the hosts, for administrators."""

from __future__ import annotations

import re
import zlib
from typing import Any

import falcon

from novalite.api.compute import microversion
from novalite.api.compute.resource import Resource, caller_of, next_link, params_of
from novalite.errors import InvalidInput, NotFound, Unsupported
from novalite.model import ComputeHost


class Hypervisors(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        hosts, links = self._page(req)
        resp.media = {"hypervisors": [_brief(host) for host in hosts], **links}

    def detail(self, req: falcon.Request, resp: falcon.Response) -> None:
        hosts, links = self._page(req)
        resp.media = {"hypervisors": [_full(req, host) for host in hosts], **links}

    def show(self, req: falcon.Request, resp: falcon.Response, hypervisor_id: str) -> None:
        resp.media = {"hypervisor": _full(req, self._find(req, hypervisor_id))}

    def uptime(self, req: falcon.Request, resp: falcon.Response, hypervisor_id: str) -> None:
        """Answer 501, which clients take for "not known here"."""
        host = self._find(req, hypervisor_id)
        raise Unsupported(f"the uptime of host {host.name} isn't known here")

    def statistics(self, req: falcon.Request, resp: falcon.Response) -> None:
        hosts = [_full(req, host) for host in self.service.hosts.list(caller_of(req))]
        resp.media = {
            "hypervisor_statistics": {
                "count": len(hosts),
                **{name: sum(host[name] for host in hosts) for name in SUMMED},
            }
        }

    def _page(self, req: falcon.Request) -> tuple[tuple[ComputeHost, ...], dict[str, Any]]:
        """Return the hosts asked for and, from 2.33 on, the link to the next page."""
        hosts = self.service.hosts.list(caller_of(req))
        if not microversion.since(req, (2, 33)):
            return hosts, {}
        params = params_of(req)
        hosts = tuple(sorted(hosts, key=number_of))
        if "marker" in params:
            places = [n for n, host in enumerate(hosts) if str(number_of(host)) == params["marker"]]
            if not places:
                raise InvalidInput(f"Marker {params['marker']} could not be found.")
            hosts = hosts[places[0] + 1 :]
        limit = self.limit_of(params)
        last = str(number_of(hosts[limit - 1])) if 0 < limit < len(hosts) else None
        return hosts[:limit], next_link(req, "hypervisors", last)

    def _find(self, req: falcon.Request, hypervisor_id: str) -> ComputeHost:
        for host in self.service.hosts.list(caller_of(req)):
            if str(number_of(host)) == hypervisor_id:
                return host
        raise NotFound(f"Hypervisor with ID '{hypervisor_id}' could not be found.")


SUMMED = (
    *("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "free_ram_mb", "local_gb", "local_gb_used"),
    *("free_disk_gb", "disk_available_least", "running_vms", "current_workload"),
)


def number_of(host: ComputeHost) -> int:
    """Number a host: these microversions want an integer, hosts have names only."""
    return zlib.crc32(host.name.encode()) & 0x7FFFFFFF


def _brief(host: ComputeHost) -> dict[str, Any]:
    return {
        "id": number_of(host),
        "hypervisor_hostname": host.name,
        "state": "up" if host.up else "down",
        "status": "enabled" if host.enabled else "disabled",
    }


def _full(req: falcon.Request, host: ComputeHost) -> dict[str, Any]:
    free_disk = host.disk_gb - host.disk_gb_used
    return {
        **_brief(host),
        "hypervisor_type": host.hypervisor_type,
        "hypervisor_version": _version_number(host.hypervisor_version),
        "host_ip": host.ip or "",
        "cpu_info": {"arch": host.arch} if microversion.since(req, (2, 28)) else "",
        "vcpus": host.vcpus,
        "vcpus_used": host.vcpus_used,
        "memory_mb": host.memory_mb,
        "memory_mb_used": host.memory_mb_used,
        "free_ram_mb": host.memory_mb - host.memory_mb_used,
        "local_gb": host.disk_gb,
        "local_gb_used": host.disk_gb_used,
        "free_disk_gb": free_disk,
        "disk_available_least": free_disk,
        "running_vms": len(host.server_ids),
        "current_workload": 0,
        "service": {"id": number_of(host), "host": host.name, "disabled_reason": host.disabled_reason},
    }


def _version_number(text: str) -> int:
    """Write 7.2.22 as 7002022."""
    numbers = [int(part) for part in re.findall(r"\d+", text)[:3]]
    major, minor, micro = [*numbers, 0, 0, 0][:3]
    return major * 1_000_000 + minor * 1_000 + micro
