"""``/v2.1/os-keypairs``: the keys of one user."""

from __future__ import annotations

from collections.abc import Mapping

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute import microversion, view
from novalite.api.compute.resource import Resource, body_of, caller_of, next_link, params_of
from novalite.errors import InvalidInput
from novalite.model import SSH, X509

CREATE = Schema(
    {
        "type": "object",
        "properties": {
            "keypair": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 255},
                    "public_key": {"type": ["string", "null"]},
                    "type": {"enum": [SSH, X509]},
                    "user_id": {"type": "string", "minLength": 1, "maxLength": 255},
                },
                "required": ["name"],
                "additionalProperties": False,
            }
        },
        "required": ["keypair"],
        "additionalProperties": False,
    }
)


class KeyPairs(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        params = params_of(req)
        page = self.service.keypairs.list(
            caller_of(req),
            limit=self.limit_of(params),
            marker=params.get("marker"),
            user=_user(req, params),
        )
        resp.media = {
            "keypairs": [{"keypair": view.keypair(req, each)} for each in page.items],
            **next_link(req, "keypairs", page.next_marker),
        }

    def create(self, req: falcon.Request, resp: falcon.Response) -> None:
        asked = body_of(req, CREATE)["keypair"]
        version = microversion.of(req)
        for name, since in (("type", (2, 2)), ("user_id", (2, 10))):
            if name in asked and version < since:
                raise InvalidInput(f"Invalid input for ['keypair']: '{name}' needs microversion 2.{since[1]}")
        if version >= (2, 92) and asked.get("public_key") is None:
            raise InvalidInput("Invalid input for ['keypair']: 'public_key' is a required property")
        keypairs, caller, name = self.service.keypairs, caller_of(req), asked["name"]
        kind, user, private = asked.get("type", SSH), _user(req, asked), None
        if asked.get("public_key") is not None:
            pair = keypairs.import_key(caller, name, asked["public_key"], kind=kind, user=user)
        else:
            pair, private = keypairs.create(caller, name, kind=kind, user=user)
        shown = {**view.keypair(req, pair), "user_id": pair.user}
        if private is not None:
            shown["private_key"] = private
        resp.status = 201 if version >= (2, 2) else 200
        resp.media = {"keypair": shown}

    def show(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        pair = self.service.keypairs.show(caller_of(req), name, user=_user(req, params_of(req)))
        resp.media = {
            "keypair": {
                **view.keypair(req, pair),
                "user_id": pair.user,
                "created_at": view.precise(pair.created_at),
                "updated_at": None,
                "deleted": False,
                "deleted_at": None,
                "id": 0,
            }
        }

    def delete(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        self.service.keypairs.delete(caller_of(req), name, user=_user(req, params_of(req)))
        resp.status = 204 if microversion.of(req) >= (2, 2) else 202


def _user(req: falcon.Request, asked: Mapping[str, str]) -> str | None:
    """Return the user whose key pairs are asked for, if one is named."""
    return asked.get("user_id") if microversion.since(req, (2, 10)) else None
