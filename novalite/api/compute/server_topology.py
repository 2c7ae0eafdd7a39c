"""``/v2.1/servers/{server_id}/topology``: guests have no NUMA nodes of their own here."""

from __future__ import annotations

import falcon

from novalite.api.compute.resource import Resource, caller_of, demand_version


class ServerTopology(Resource):
    def show(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        demand_version(req, (2, 78))
        self.service.servers.demand_topology(caller_of(req), server_id)
        resp.media = {"nodes": [], "pagesize_kb": None}
