"""``/v2.1/os-hypervisors``: the hosts."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import falcon

from novalite.api.compute import microversion
from novalite.api.compute.host_ids import id_of
from novalite.api.compute.resource import Resource, caller_of, demand_until, flag, next_link, params_of
from novalite.errors import InvalidInput, NotFound
from novalite.model import ComputeHost

Servers = Mapping[str, Sequence[tuple[str, str]]]  # host -> ids and names
BY_UUID = (2, 53)
WITHOUT_SIZES = (2, 88)


class Hypervisors(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        hosts, links = self._page(req, "list")
        resp.media = {"hypervisors": [_brief(req, host) for host in hosts], **links}
        self._add_servers(req, resp.media["hypervisors"], hosts)

    def detail(self, req: falcon.Request, resp: falcon.Response) -> None:
        hosts, links = self._page(req, "list-detail")
        resp.media = {"hypervisors": [_full(req, host) for host in hosts], **links}
        self._add_servers(req, resp.media["hypervisors"], hosts)

    def show(self, req: falcon.Request, resp: falcon.Response, hypervisor_id: str) -> None:
        host = self._find(req, hypervisor_id, "show")
        resp.media = {"hypervisor": _full(req, host)}
        self._add_servers(req, [resp.media["hypervisor"]], [host])

    def uptime(self, req: falcon.Request, resp: falcon.Response, hypervisor_id: str) -> None:
        demand_until(req, WITHOUT_SIZES)
        host = self._find(req, hypervisor_id, "uptime")
        told = self.service.hosts.uptime(caller_of(req), host.name)
        resp.media = {"hypervisor": {**_brief(req, host), "uptime": told}}

    def search(self, req: falcon.Request, resp: falcon.Response, hypervisor_id: str) -> None:
        demand_until(req, BY_UUID)
        found = self._matching(req, hypervisor_id, "search")
        resp.media = {"hypervisors": [_brief(req, host) for host in found]}

    def servers(self, req: falcon.Request, resp: falcon.Response, hypervisor_id: str) -> None:
        demand_until(req, BY_UUID)
        hosts = self._matching(req, hypervisor_id, "servers")
        found = self.service.hosts.servers([host.name for host in hosts])
        resp.media = {"hypervisors": [_with_servers(req, _brief(req, host), host, found) for host in hosts]}

    def statistics(self, req: falcon.Request, resp: falcon.Response) -> None:
        demand_until(req, WITHOUT_SIZES)
        found = self.service.hosts.hypervisors(caller_of(req), "statistics")
        hosts = [_full(req, host) for host in found]
        resp.media = {
            "hypervisor_statistics": {
                "count": len(hosts),
                **{name: sum(host[name] for host in hosts) for name in SUMMED},
            }
        }

    def _page(self, req: falcon.Request, operation: str) -> tuple[Sequence[ComputeHost], dict[str, Any]]:
        """Return the hosts asked for and, from 2.33 on, the link to the next page."""
        params = params_of(req)
        if microversion.since(req, BY_UUID) and "hypervisor_hostname_pattern" in params:
            if {"limit", "marker"} & params.keys():
                raise InvalidInput(
                    "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not "
                    "supported."
                )
            return self._matching(req, params["hypervisor_hostname_pattern"], operation), {}
        hosts = self.service.hosts.hypervisors(caller_of(req), operation)
        if not microversion.since(req, (2, 33)):
            return hosts, {}
        hosts = tuple(sorted(hosts, key=lambda host: str(id_of(req, host))))
        if "marker" in params:
            places = [n for n, host in enumerate(hosts) if str(id_of(req, host)) == params["marker"]]
            if not places:
                raise InvalidInput(f"Marker {params['marker']} could not be found.")
            hosts = hosts[places[0] + 1 :]
        limit = self.limit_of(params)
        last = str(id_of(req, hosts[limit - 1])) if 0 < limit < len(hosts) else None
        return hosts[:limit], next_link(req, "hypervisors", last)

    def _matching(self, req: falcon.Request, pattern: str, operation: str) -> Sequence[ComputeHost]:
        """Return the hosts with a text in their name; raise NotFound."""
        hosts = self.service.hosts.hypervisors(caller_of(req), operation)
        found = [host for host in hosts if pattern in host.name]
        if not found:
            raise NotFound(f"No hypervisor matching '{pattern}' could be found.")
        return found

    def _add_servers(
        self, req: falcon.Request, bodies: Sequence[dict[str, Any]], hosts: Sequence[ComputeHost]
    ) -> None:
        """Add the servers of hosts where they are asked for."""
        if not microversion.since(req, BY_UUID) or not flag(params_of(req), "with_servers"):
            return
        found = self.service.hosts.servers([host.name for host in hosts])
        for body, host in zip(bodies, hosts, strict=True):
            _with_servers(req, body, host, found)

    def _find(self, req: falcon.Request, hypervisor_id: str, operation: str) -> ComputeHost:
        if microversion.since(req, BY_UUID):
            try:
                hypervisor_id = str(uuid.UUID(hypervisor_id))
            except ValueError:
                raise InvalidInput(f"Invalid uuid {hypervisor_id}") from None
        for host in self.service.hosts.hypervisors(caller_of(req), operation):
            if str(id_of(req, host)) == hypervisor_id:
                return host
        raise NotFound(f"Hypervisor with ID '{hypervisor_id}' could not be found.")


SUMMED = (
    *("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "free_ram_mb", "local_gb", "local_gb_used"),
    *("free_disk_gb", "disk_available_least", "running_vms", "current_workload"),
)


def _brief(req: falcon.Request, host: ComputeHost) -> dict[str, Any]:
    return {
        "id": id_of(req, host),
        "hypervisor_hostname": host.name,
        "state": "up" if host.up else "down",
        "status": "enabled" if host.enabled else "disabled",
    }


def _full(req: falcon.Request, host: ComputeHost) -> dict[str, Any]:
    body = {
        **_brief(req, host),
        "hypervisor_type": host.hypervisor_type,
        "hypervisor_version": _version_number(host.hypervisor_version),
        "host_ip": host.ip or "",
        "service": {"id": id_of(req, host), "host": host.name, "disabled_reason": host.disabled_reason},
    }
    if microversion.since(req, WITHOUT_SIZES):
        return {**body, "uptime": host.uptime if host.up else None}
    return {**body, **_sizes(req, host)}


def _sizes(req: falcon.Request, host: ComputeHost) -> dict[str, Any]:
    free_disk = host.disk_gb - host.disk_gb_used
    return {
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
    }


def _with_servers(
    req: falcon.Request, body: dict[str, Any], host: ComputeHost, found: Servers
) -> dict[str, Any]:
    """Add a host's servers to its body; until 2.75 one without any says nothing."""
    servers = [{"uuid": server_id, "name": name} for server_id, name in found.get(host.name, ())]
    if servers or microversion.since(req, (2, 75)):
        body["servers"] = servers
    return body


def _version_number(text: str) -> int:
    """Write 7.2.22 as 7002022."""
    numbers = [int(part) for part in re.findall(r"\d+", text)[:3]]
    major, minor, micro = [*numbers, 0, 0, 0][:3]
    return major * 1_000_000 + minor * 1_000 + micro
