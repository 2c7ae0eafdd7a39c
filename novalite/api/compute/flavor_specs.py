"""Extra specs of flavors, and who may use those that aren't public."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute import known_specs, microversion
from novalite.api.compute.resource import Resource, body_of, caller_of
from novalite.errors import InvalidInput

SPECS: dict[str, Any] = {
    "type": "object",
    "propertyNames": {"minLength": 1, "maxLength": 255},
    "additionalProperties": {"type": ["string", "number"], "maxLength": 255},
}
ALL = Schema(
    {
        "type": "object",
        "properties": {"extra_specs": SPECS},
        "required": ["extra_specs"],
        "additionalProperties": False,
    }
)
ONE = Schema({**SPECS, "minProperties": 1, "maxProperties": 1})
TENANT: dict[str, Any] = {
    "type": "object",
    "properties": {"tenant": {"type": "string", "minLength": 1, "maxLength": 255}},
    "required": ["tenant"],
    "additionalProperties": False,
}
ACTION = Schema(
    {
        "type": "object",
        "properties": {"addTenantAccess": TENANT, "removeTenantAccess": TENANT},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
)


class FlavorSpecs(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response, flavor_id: str) -> None:
        resp.media = {"extra_specs": dict(self.service.flavors.specs(caller_of(req), flavor_id))}

    def add(self, req: falcon.Request, resp: falcon.Response, flavor_id: str) -> None:
        specs = {key: str(value) for key, value in body_of(req, ALL)["extra_specs"].items()}
        _check(req, specs)
        self.service.flavors.add_specs(caller_of(req), flavor_id, specs)
        resp.media = {"extra_specs": specs}

    def show(self, req: falcon.Request, resp: falcon.Response, flavor_id: str, key: str) -> None:
        resp.media = {key: self.service.flavors.spec(caller_of(req), flavor_id, key)}

    def set(self, req: falcon.Request, resp: falcon.Response, flavor_id: str, key: str) -> None:
        specs = {name: str(value) for name, value in body_of(req, ONE).items()}
        if key not in specs:
            raise InvalidInput("Request body and URI mismatch")
        _check(req, specs)
        self.service.flavors.set_spec(caller_of(req), flavor_id, key, specs[key])
        resp.media = specs

    def delete(self, req: falcon.Request, resp: falcon.Response, flavor_id: str, key: str) -> None:
        self.service.flavors.delete_spec(caller_of(req), flavor_id, key)
        resp.status = 200


class FlavorAccess(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response, flavor_id: str) -> None:
        _answer(resp, flavor_id, self.service.flavors.access(caller_of(req), flavor_id))

    def act(self, req: falcon.Request, resp: falcon.Response, flavor_id: str) -> None:
        ((action, told),) = body_of(req, ACTION).items()
        caller, flavors = caller_of(req), self.service.flavors
        if action == "removeTenantAccess":
            _answer(resp, flavor_id, flavors.take_access(caller, flavor_id, told["tenant"]))
            return
        public = not microversion.since(req, (2, 7))
        _answer(resp, flavor_id, flavors.give_access(caller, flavor_id, told["tenant"], public=public))


def _check(req: falcon.Request, specs: Mapping[str, str]) -> None:
    if microversion.since(req, (2, 86)):
        known_specs.check(specs)


def _answer(resp: falcon.Response, flavor_id: str, projects: tuple[str, ...]) -> None:
    resp.media = {"flavor_access": [{"flavor_id": flavor_id, "tenant_id": each} for each in projects]}
