"""``/v2/images/{image_id}/locations``: where data lies, for other services."""

from __future__ import annotations

import falcon

from glancelike.api.resource import Resource
from glancelike.errors import InvalidInput
from glancelike.web.body import read_json
from glancelike.web.middleware import caller_of


class ImageLocations(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        resp.media = list(self.service.fetch_locations(caller_of(req), image_id))

    def add(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        body = read_json(req)
        if not isinstance(body, dict) or not isinstance(body.get("url"), str):
            raise InvalidInput("A new location must be an object with a 'url'")
        validation = body.get("validation_data", {})
        if not isinstance(validation, dict) or not all(isinstance(each, str) for each in validation.values()):
            raise InvalidInput("'validation_data' must be an object of strings")
        self.service.add_location(caller_of(req), image_id, body["url"], validation)
        resp.status = 202
