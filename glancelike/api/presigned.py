"""``/v2/images/{image_id}/presigned``: data that a client writes to the store itself."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.api.image_import import STORE_HEADER
from glancelike.api.operation import Json
from glancelike.api.resource import Resource
from glancelike.api.validation import Schema
from glancelike.web.body import read_json
from glancelike.web.middleware import caller_of

NEW: dict[str, Any] = {
    "type": "object",
    "properties": {
        "size": {"type": "integer", "minimum": 0, "maximum": 2**60},
        "digest": {"type": "string", "description": "What the data must be, as sha256:<hex>"},
        "store": {"type": "string"},
    },
    "required": ["size"],
    "additionalProperties": False,
    "examples": [{"size": 1000}],
}
SHOWN: Json = {
    "type": "object",
    "properties": {
        "upload": {"type": "string"},
        "method": {"type": "string"},
        "url": {"type": "string"},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "expires_at": {"type": "string"},
    },
    "required": ["upload", "method", "url", "headers", "expires_at"],
}
CHECKED = Schema("presigned upload", NEW)


class Presigned(Resource):
    def create(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        given = read_json(req)
        CHECKED.validate(given)
        upload, url, expires_at = self.service.create_presigned(
            caller_of(req),
            image_id,
            size=given["size"],
            digest=given.get("digest"),
            store=given.get("store", req.get_header(STORE_HEADER)),
        )
        resp.status = 201
        resp.cache_control = ["no-store"]
        resp.media = {
            "upload": upload.id,
            "method": "PUT",
            "url": url,
            "headers": {"Content-Length": str(upload.length)},
            "expires_at": expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def complete(self, req: falcon.Request, resp: falcon.Response, image_id: str, upload_id: str) -> None:
        self.service.complete_presigned(caller_of(req), image_id, upload_id)
        resp.status = 204
