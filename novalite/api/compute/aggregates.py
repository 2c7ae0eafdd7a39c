"""``/v2.1/os-aggregates``: sets of hosts."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute import microversion, view
from novalite.api.compute.resource import Resource, body_of, caller_of, demand_version
from novalite.errors import ImageMissing, InvalidInput
from novalite.groupings import Aggregate

NAME: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 255}
ZONE: dict[str, Any] = {"type": ["string", "null"], "minLength": 1, "maxLength": 255}


def _aggregate_schema(**more: Any) -> Schema:
    """Return the schema of a body that tells a name, a zone, or both."""
    told = {"type": "object", "properties": {"name": NAME, "availability_zone": ZONE}, **more}
    return Schema(
        {
            "type": "object",
            "properties": {"aggregate": {**told, "additionalProperties": False}},
            "required": ["aggregate"],
            "additionalProperties": False,
        }
    )


def _of_host() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"host": NAME},
        "required": ["host"],
        "additionalProperties": False,
    }


CREATE = _aggregate_schema(required=["name"])
UPDATE = _aggregate_schema(minProperties=1)
ACTION = Schema(
    {
        "type": "object",
        "properties": {
            "add_host": _of_host(),
            "remove_host": _of_host(),
            "set_metadata": {
                "type": "object",
                "properties": {
                    "metadata": {
                        "type": "object",
                        "propertyNames": {"minLength": 1, "maxLength": 255},
                        "additionalProperties": {"type": ["string", "null"], "maxLength": 255},
                    }
                },
                "required": ["metadata"],
                "additionalProperties": False,
            },
        },
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
)


CACHE = Schema(
    {
        "type": "object",
        "properties": {
            "cache": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": {"id": {"type": "string", "minLength": 1, "maxLength": 36}},
                    "required": ["id"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["cache"],
        "additionalProperties": False,
    }
)


class Aggregates(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        found = self.service.aggregates.list(caller_of(req))
        resp.media = {"aggregates": [_full(req, each) for each in found]}

    def create(self, req: falcon.Request, resp: falcon.Response) -> None:
        asked = body_of(req, CREATE)["aggregate"]
        made = self.service.aggregates.create(
            caller_of(req), asked["name"].strip(), _stripped(asked.get("availability_zone"))
        )
        # Nova leaves out of this one answer what is known to be empty.
        left_out = ("hosts", "metadata")
        shown = {name: value for name, value in _full(req, made).items() if name not in left_out}
        resp.media = {"aggregate": shown}

    def show(self, req: falcon.Request, resp: falcon.Response, aggregate_id: str) -> None:
        found = self.service.aggregates.show(caller_of(req), _number(aggregate_id))
        resp.media = {"aggregate": _full(req, found)}

    def update(self, req: falcon.Request, resp: falcon.Response, aggregate_id: str) -> None:
        asked = body_of(req, UPDATE)["aggregate"]
        caller, number = caller_of(req), _number(aggregate_id)
        if "availability_zone" in asked and asked["availability_zone"] is None:
            raise InvalidInput(
                f"Cannot update aggregate {number}. Reason: an aggregate does not support empty named "
                f"availability zone."
            )
        changed = self.service.aggregates.update(
            *(caller, number),
            name=_stripped(asked.get("name")),
            zone=_stripped(asked.get("availability_zone")),
        )
        resp.media = {"aggregate": _full(req, changed)}

    def delete(self, req: falcon.Request, resp: falcon.Response, aggregate_id: str) -> None:
        self.service.aggregates.delete(caller_of(req), _number(aggregate_id))
        resp.status = 200

    def act(self, req: falcon.Request, resp: falcon.Response, aggregate_id: str) -> None:
        ((action, told),) = body_of(req, ACTION).items()
        caller, number, service = caller_of(req), _number(aggregate_id), self.service.aggregates
        if action == "set_metadata":
            changed = service.set_metadata(caller, number, told["metadata"])
        elif action == "add_host":
            changed = service.add_host(caller, number, told["host"])
        else:
            changed = service.remove_host(caller, number, told["host"])
        resp.media = {"aggregate": _full(req, changed)}

    def precache(self, req: falcon.Request, resp: falcon.Response, aggregate_id: str) -> None:
        demand_version(req, (2, 81))
        wanted = [each["id"] for each in body_of(req, CACHE)["cache"]]
        try:
            self.service.aggregates.precache(caller_of(req), _number(aggregate_id), wanted)
        except ImageMissing as error:
            # What the URL names is there; what the body names isn't.
            raise InvalidInput(str(error)) from error
        resp.status = 202


def _number(aggregate_id: str) -> int:
    """Return an aggregate's id; raise InvalidInput for what can't be one."""
    digits = aggregate_id.removeprefix("-")
    if not digits.isdecimal() or not digits.isascii() or len(digits) > 9:
        raise InvalidInput(f"id must be an integer, not '{aggregate_id}'")
    return int(aggregate_id)


def _stripped(text: str | None) -> str | None:
    return None if text is None else text.strip()


def _full(req: falcon.Request, value: Aggregate) -> dict[str, Any]:
    zone = {} if value.zone is None else {"availability_zone": value.zone}
    body: dict[str, Any] = {
        "id": value.id,
        "name": value.name,
        "availability_zone": value.zone,
        "hosts": list(value.hosts),
        "metadata": {**value.metadata, **zone},
        "created_at": view.precise(value.created_at),
        "updated_at": view.precise(value.updated_at),
        "deleted": False,
        "deleted_at": None,
    }
    return {**body, "uuid": value.uuid} if microversion.since(req, (2, 41)) else body
