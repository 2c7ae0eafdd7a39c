"""``/v2/stores/{store_id}/{image_id}``: an image's copy in one store."""

from __future__ import annotations

import falcon

from glancelike.api.resource import Resource
from glancelike.web.middleware import caller_of


class Stores(Resource):
    def remove(self, req: falcon.Request, resp: falcon.Response, store_id: str, image_id: str) -> None:
        self.service.remove_copy(caller_of(req), store_id, image_id)
        resp.status = 204
