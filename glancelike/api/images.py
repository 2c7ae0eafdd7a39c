"""``/v2/images`` and ``/v2/images/{image_id}``."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.api import patch, wire
from glancelike.api.query import parse_pairs, parse_query
from glancelike.api.resource import Resource
from glancelike.errors import InvalidInput
from glancelike.model import Change, ChangeOp, Image
from glancelike.service.fields import READ_ONLY
from glancelike.web.body import read_json, require_media_type
from glancelike.web.middleware import caller_of


class Images(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        pairs = parse_pairs(req.query_string)
        query = parse_query(pairs, self.service.settings)
        page = self.service.list_images(caller_of(req), query)
        images = [self._body(req, image) for image in page.images]
        resp.media = wire.page("images", "/images", images, pairs, page.next_marker)

    def create(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = read_json(req)
        if isinstance(body, dict):
            # What only the service may set is refused there, as forbidden.
            self.schemas.image.validate(
                {name: value for name, value in body.items() if name not in READ_ONLY - {"id"}}
            )
        else:
            self.schemas.image.validate(body)
        image = self.service.create_image(caller_of(req), body)
        resp.status = 201
        resp.location = f"{req.prefix}{wire.PREFIX}/images/{image.id}"
        self._tell_ways_in(req, resp)
        resp.media = self._body(req, image)

    def show(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        resp.media = self._body(req, self.service.show_image(caller_of(req), image_id))

    def update(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        resp.set_header("Accept-Patch", f"{patch.V20}, {patch.V21}")
        media_type = require_media_type(req, patch.V21, patch.V20)
        changes = patch.parse_patch(media_type, read_json(req, media_type))
        for change in changes:
            self._validate(change)
        resp.media = self._body(req, self.service.update_image(caller_of(req), image_id, changes))

    def delete(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        self.service.delete_image(caller_of(req), image_id)
        resp.status = 204

    def _body(self, req: falcon.Request, image: Image) -> dict[str, Any]:
        return wire.image(image, self.service.places(caller_of(req), image))

    def _tell_ways_in(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Name the import methods and the stores, for the data that comes next."""
        methods = self.service.settings.enabled_import_methods
        if methods:
            resp.set_header("OpenStack-image-import-methods", ",".join(methods))
        stores = self.service.stores(caller_of(req))
        resp.set_header("OpenStack-image-store-ids", ",".join(store.id for store in stores))

    def _validate(self, change: Change) -> None:
        """Check a new value's type; what may be changed at all the service decides."""
        name = change.path[0]
        if change.op is ChangeOp.REMOVE:
            if name in self.service.settings.custom_schema.required:
                raise InvalidInput(f"Property {name} is required and may not be removed.")
            return
        if name in READ_ONLY:
            return
        if len(change.path) == 1:
            self.schemas.image_part.validate({name: change.value})
        elif name == "tags" and not isinstance(change.value, str):
            raise InvalidInput(f"A tag must be a string, not {change.value!r}.")
