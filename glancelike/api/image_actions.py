"""``/v2/images/{image_id}/actions/…``."""

from __future__ import annotations

import falcon

from glancelike.api.resource import Resource
from glancelike.web.middleware import caller_of


class ImageActions(Resource):
    def deactivate(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        self.service.deactivate_image(caller_of(req), image_id)
        resp.status = 204

    def reactivate(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        self.service.reactivate_image(caller_of(req), image_id)
        resp.status = 204
