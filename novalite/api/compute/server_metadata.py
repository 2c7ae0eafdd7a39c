"""``/v2.1/servers/{server_id}/metadata``."""

from __future__ import annotations

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute.resource import Resource, body_of, caller_of
from novalite.api.compute.server_schema import METADATA
from novalite.errors import InvalidInput
from novalite.model import Server

ALL = Schema(
    {
        "type": "object",
        "properties": {"metadata": METADATA},
        "required": ["metadata"],
        "additionalProperties": False,
    }
)
ONE = Schema(
    {
        "type": "object",
        "properties": {"meta": {**METADATA, "minProperties": 1, "maxProperties": 1}},
        "required": ["meta"],
        "additionalProperties": False,
    }
)


class ServerMetadata(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        resp.media = {"metadata": dict(self.service.metadata.all(caller_of(req), server_id))}

    def add(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        metadata = body_of(req, ALL)["metadata"]
        _answer(resp, self.service.metadata.add(caller_of(req), server_id, metadata))

    def replace(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        metadata = body_of(req, ALL)["metadata"]
        _answer(resp, self.service.metadata.replace(caller_of(req), server_id, metadata))

    def show(self, req: falcon.Request, resp: falcon.Response, server_id: str, key: str) -> None:
        resp.media = {"meta": {key: self.service.metadata.item(caller_of(req), server_id, key)}}

    def set(self, req: falcon.Request, resp: falcon.Response, server_id: str, key: str) -> None:
        meta = body_of(req, ONE)["meta"]
        if key not in meta:
            raise InvalidInput(f"the body sets {next(iter(meta))!r}, the URL names {key!r}")
        self.service.metadata.set_item(caller_of(req), server_id, key, meta[key])
        resp.media = {"meta": meta}

    def delete(self, req: falcon.Request, resp: falcon.Response, server_id: str, key: str) -> None:
        self.service.metadata.remove(caller_of(req), server_id, key)
        resp.status = 204


def _answer(resp: falcon.Response, server: Server) -> None:
    resp.media = {"metadata": dict(server.metadata)}
