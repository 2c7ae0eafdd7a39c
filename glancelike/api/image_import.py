"""``/v2/images/{image_id}/stage``, ``…/import`` and ``…/tasks``."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.api import wire
from glancelike.api.image_data import OCTETS, announced_size
from glancelike.api.resource import EMPTY, Resource
from glancelike.errors import InvalidInput
from glancelike.service.imports import ImportRequest
from glancelike.web.body import RequestBody, read_json, require_media_type
from glancelike.web.middleware import caller_of

STORE_HEADER = "X-Image-Meta-Store"


class ImageImport(Resource):
    def stage(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        require_media_type(req, OCTETS)
        self.service.stage(caller_of(req), image_id, RequestBody(req), size=announced_size(req))
        resp.status = 204

    def start(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        request = parse_import(read_json(req), req.get_header(STORE_HEADER))
        self.service.import_image(caller_of(req), image_id, request)
        resp.status, resp.content_type = 202, EMPTY

    def tasks(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        tasks = self.service.image_tasks(caller_of(req), image_id)
        resp.media = {"tasks": [wire.task(task) for task in tasks]}


def parse_import(body: Any, store: str | None) -> ImportRequest:
    """Read the body of an import request; raise InvalidInput naming the fault."""
    if not isinstance(body, dict) or not isinstance(body.get("method"), dict):
        raise InvalidInput("Import request requires a 'method' field.")
    parameters = dict(body["method"])
    name = parameters.pop("name", None)
    if not isinstance(name, str):
        raise InvalidInput("Import request requires a 'name' field.")
    flags = {"all_stores": False, "all_stores_must_succeed": True}
    for flag in flags:
        flags[flag] = body.get(flag, flags[flag])
        if not isinstance(flags[flag], bool):
            raise InvalidInput(f"'{flag}' must be boolean value only")
    stores = body.get("stores")
    if stores is not None and not (
        isinstance(stores, list) and stores and all(isinstance(each, str) for each in stores)
    ):
        raise InvalidInput("'stores' must be a list of store identifiers")
    if flags["all_stores"] and (stores is not None or store is not None):
        raise InvalidInput(
            "All_stores parameter can't be used with x-image-meta-store header or stores parameter"
        )
    if stores is not None and store is not None:
        raise InvalidInput("Stores parameter and x-image-meta-store header can't be both specified")
    wanted = stores if stores is not None else [store] if store is not None else None
    return ImportRequest(name, parameters, None if wanted is None else tuple(wanted), **flags)
