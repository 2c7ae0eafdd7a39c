"""``/v2/images/{image_id}/tags/{tag}``."""

from __future__ import annotations

import falcon

from glancelike.api.resource import Resource
from glancelike.web.middleware import caller_of


class ImageTags(Resource):
    def add(self, req: falcon.Request, resp: falcon.Response, image_id: str, tag: str) -> None:
        self.service.add_tag(caller_of(req), image_id, tag)
        resp.status = 204

    def remove(self, req: falcon.Request, resp: falcon.Response, image_id: str, tag: str) -> None:
        self.service.remove_tag(caller_of(req), image_id, tag)
        resp.status = 204
