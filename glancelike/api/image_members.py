"""``/v2/images/{image_id}/members``."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.api import wire
from glancelike.api.resource import Resource
from glancelike.errors import InvalidInput
from glancelike.model import MemberStatus
from glancelike.web.body import read_json
from glancelike.web.middleware import caller_of


class ImageMembers(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        members = self.service.list_members(caller_of(req), image_id)
        resp.media = {
            "members": [wire.member(member) for member in members],
            "schema": f"{wire.PREFIX}/schemas/members",
        }

    def create(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        project = self._field(req, "member", "member_id")
        if not project.strip():
            raise InvalidInput("Member can't be empty")
        resp.media = wire.member(self.service.add_member(caller_of(req), image_id, project))

    def show(self, req: falcon.Request, resp: falcon.Response, image_id: str, member_id: str) -> None:
        resp.media = wire.member(self.service.show_member(caller_of(req), image_id, member_id))

    def update(self, req: falcon.Request, resp: falcon.Response, image_id: str, member_id: str) -> None:
        status = MemberStatus(self._field(req, "status", "status"))
        resp.media = wire.member(self.service.set_member_status(caller_of(req), image_id, member_id, status))

    def delete(self, req: falcon.Request, resp: falcon.Response, image_id: str, member_id: str) -> None:
        self.service.remove_member(caller_of(req), image_id, member_id)
        resp.status = 204

    def _field(self, req: falcon.Request, name: str, in_schema: str) -> str:
        """Return the one member that the body must have, checked by the schema."""
        body: Any = read_json(req)
        if not isinstance(body, dict) or name not in body:
            raise InvalidInput(f"Expected a JSON object with '{name}' in the request body")
        self.schemas.member.validate({in_schema: body[name]})
        value: str = body[name]
        return value
