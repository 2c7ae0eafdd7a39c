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

    def store_details(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {"stores": [_detail(each) for each in self.service.store_details(caller_of(req))]}

    def usage(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {"usage": self.service.usage(caller_of(req))}

    def import_methods(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {
            "import-methods": {
                "description": "Import methods available.",
                "type": "array",
                "value": list(self.service.settings.enabled_import_methods),
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


def _detail(store: StoreInfo) -> dict[str, Any]:
    body = {
        **_store(store),
        "type": store.type,
        "weight": store.weight,
        "properties": dict(store.properties),
    }
    if store.unavailable is not None:
        body["unavailable"] = store.unavailable
    return body
