"""``/v2.1/servers/{server_id}/tags``, from microversion 2.26 on."""

from __future__ import annotations

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute.microversion import PREFIX
from novalite.api.compute.resource import Resource, body_of, caller_of, demand_version
from novalite.api.compute.server_schema import TAGS

ALL = Schema(
    {
        "type": "object",
        "properties": {"tags": TAGS},
        "required": ["tags"],
        "additionalProperties": False,
    }
)
SINCE = (2, 26)


class ServerTags(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        demand_version(req, SINCE)
        resp.media = {"tags": list(self.service.tags.list(caller_of(req), server_id))}

    def replace(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        demand_version(req, SINCE)
        tags = body_of(req, ALL)["tags"]
        resp.media = {"tags": list(self.service.tags.replace(caller_of(req), server_id, tags))}

    def clear(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        demand_version(req, SINCE)
        self.service.tags.clear(caller_of(req), server_id)
        resp.status = 204

    def show(self, req: falcon.Request, resp: falcon.Response, server_id: str, tag: str) -> None:
        demand_version(req, SINCE)
        self.service.tags.demand(caller_of(req), server_id, tag)
        resp.status = 204

    def add(self, req: falcon.Request, resp: falcon.Response, server_id: str, tag: str) -> None:
        demand_version(req, SINCE)
        added = self.service.tags.add(caller_of(req), server_id, tag)
        resp.status = 201 if added else 204
        if added:
            resp.location = f"{req.prefix}{PREFIX}/servers/{server_id}/tags/{tag}"

    def delete(self, req: falcon.Request, resp: falcon.Response, server_id: str, tag: str) -> None:
        demand_version(req, SINCE)
        self.service.tags.remove(caller_of(req), server_id, tag)
        resp.status = 204
