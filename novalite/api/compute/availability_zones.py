"""``/v2.1/os-availability-zone``."""

from __future__ import annotations

from typing import Any

import falcon

from novalite.api.compute import view
from novalite.api.compute.resource import Resource, caller_of
from novalite.model import ComputeHost, Zone


class AvailabilityZones(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        zones = self.service.hosts.zones(caller_of(req))
        resp.media = {"availabilityZoneInfo": [_zone(zone, None) for zone in zones]}

    def detail(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {
            "availabilityZoneInfo": [
                _zone(zone, {host.name: {"nova-compute": _service(host)} for host in zone.hosts})
                for zone in self.service.hosts.zones(caller_of(req), detail=True)
            ]
        }


def _zone(zone: Zone, hosts: dict[str, Any] | None) -> dict[str, Any]:
    return {"zoneName": zone.name, "zoneState": {"available": zone.available}, "hosts": hosts}


def _service(host: ComputeHost) -> dict[str, Any]:
    return {
        "active": host.enabled,
        "available": host.up,
        "updated_at": view.precise(host.heartbeat_at),
    }
