"""``/v2.1/servers/{server_id}/ips``: the addresses of a server, as its body has them."""

from __future__ import annotations

import falcon

from novalite.api.compute import view
from novalite.api.compute.resource import Resource, caller_of
from novalite.errors import NotFound


class ServerIps(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        server = self.service.servers.addresses(caller_of(req), server_id)
        resp.media = {"addresses": view.addresses(server, full=False)}

    def show(self, req: falcon.Request, resp: falcon.Response, server_id: str, network: str) -> None:
        server = self.service.servers.addresses(caller_of(req), server_id, network)
        found = view.addresses(server, full=False)
        if network not in found:
            raise NotFound("Instance is not a member of specified network")
        resp.media = {network: found[network]}
