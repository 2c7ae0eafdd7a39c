"""``/v2/info/…``: what this service offers."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.api.resource import Resource
from glancelike.model import StoreInfo
from glancelike.web.middleware import caller_of


class Info(Resource):
    def stores(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {"stores": [_store(each) for each in self.service.stores(caller_of(req))]}

    def import_methods(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {
            "import-methods": {
                "description": "Import methods available.",
                "type": "array",
                "value": [],
            }
        }


def _store(store: StoreInfo) -> dict[str, Any]:
    body: dict[str, Any] = {"id": store.id}
    if store.description:
        body["description"] = store.description
    if store.default:
        body["default"] = "true"
    if store.read_only:
        body["read-only"] = "true"
    return body
