"""``/v2.1/os-services``: the compute workers."""

from __future__ import annotations

import uuid
from typing import Any

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute import microversion, view
from novalite.api.compute.booleans import BOOLEAN, truth
from novalite.api.compute.host_ids import id_of, number_of, uuid_of
from novalite.api.compute.resource import Resource, body_of, caller_of, demand_version, params_of
from novalite.errors import InvalidInput, NotFound
from novalite.model import ComputeHost

BINARY = "nova-compute"
HOST: dict[str, Any] = {
    "host": {"type": "string", "minLength": 1, "maxLength": 255},
    "binary": {"const": BINARY},
}
REASON: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 255}


def _schema(properties: dict[str, Any], *required: str, **more: Any) -> Schema:
    told = {"type": "object", "properties": properties, "required": list(required)}
    return Schema({**told, "additionalProperties": False, **more})


SWITCH = _schema(HOST, "host", "binary")
SWITCH_OFF = _schema({**HOST, "disabled_reason": REASON}, "host", "binary", "disabled_reason")
FORCE_DOWN = _schema({**HOST, "forced_down": BOOLEAN}, "host", "binary", "forced_down")
UPDATE = _schema(
    {"status": {"enum": ["enabled", "disabled"]}, "disabled_reason": REASON, "forced_down": BOOLEAN},
    minProperties=1,
)
BY_UUID = (2, 53)


class Services(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        params = params_of(req)
        hosts = self.service.hosts.services(caller_of(req))
        if params.get("binary", BINARY) != BINARY:
            hosts = ()
        resp.media = {
            "services": [_service(req, host) for host in hosts if params.get("host", host.name) == host.name]
        }

    def enable(self, req: falcon.Request, resp: falcon.Response) -> None:
        self._switch(req, resp, SWITCH, enabled=True)

    def disable(self, req: falcon.Request, resp: falcon.Response) -> None:
        self._switch(req, resp, SWITCH, enabled=False)

    def disable_with_reason(self, req: falcon.Request, resp: falcon.Response) -> None:
        self._switch(req, resp, SWITCH_OFF, enabled=False)

    def force_down(self, req: falcon.Request, resp: falcon.Response) -> None:
        demand_version(req, (2, 11))
        _demand_by_name(req)
        body = body_of(req, FORCE_DOWN)
        down = truth(body["forced_down"])
        self.service.hosts.set_forced_down(caller_of(req), body["host"], down)
        resp.media = {"service": {**body, "forced_down": down}}

    def update(self, req: falcon.Request, resp: falcon.Response, service_id: str) -> None:
        if not microversion.since(req, BY_UUID):
            raise NotFound("Unknown action")
        asked = body_of(req, UPDATE)
        if "disabled_reason" in asked and asked.get("status") != "disabled":
            raise InvalidInput(
                "Specifying disabled_reason requires that status is disabled, too."
                if "status" not in asked
                else "Specifying disabled_reason with a status other than disabled is invalid."
            )
        caller, host = caller_of(req), self._find(req, service_id, "update")
        if "status" in asked:
            enabled = asked["status"] == "enabled"
            host = self.service.hosts.set_enabled(
                caller, host.name, enabled, reason=asked.get("disabled_reason")
            )
        if "forced_down" in asked:
            host = self.service.hosts.set_forced_down(caller, host.name, truth(asked["forced_down"]))
        resp.media = {"service": _service(req, host)}

    def delete(self, req: falcon.Request, resp: falcon.Response, service_id: str) -> None:
        self.service.hosts.delete(caller_of(req), self._find(req, service_id, "delete").name)
        resp.status = 204

    def _switch(self, req: falcon.Request, resp: falcon.Response, schema: Schema, *, enabled: bool) -> None:
        _demand_by_name(req)
        body = body_of(req, schema)
        reason = body.get("disabled_reason")
        host = self.service.hosts.set_enabled(caller_of(req), body["host"], enabled, reason=reason)
        resp.media = {"service": {**body, "status": _status(host)}}

    def _find(self, req: falcon.Request, service_id: str, operation: str) -> ComputeHost:
        by_uuid = microversion.since(req, BY_UUID)
        if by_uuid:
            service_id = _uuid(service_id)
        elif not service_id.isdecimal():
            raise InvalidInput(f"id must be an integer, not '{service_id}'")
        for host in self.service.hosts.services(caller_of(req), operation):
            if service_id == (uuid_of(host) if by_uuid else str(number_of(host))):
                return host
        raise NotFound(f"Service {service_id} not found.")


def _demand_by_name(req: falcon.Request) -> None:
    """Take the last part of the path for an id where the microversion does so, which it then isn't."""
    if microversion.since(req, BY_UUID):
        _uuid(req.path.rpartition("/")[2])


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise InvalidInput(f"Invalid uuid {text}") from None


def _service(req: falcon.Request, host: ComputeHost) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": id_of(req, host),
        "binary": BINARY,
        "host": host.name,
        "zone": host.zone,
        "status": _status(host),
        "state": "up" if host.up else "down",
        "updated_at": view.precise(host.heartbeat_at),
        "disabled_reason": host.disabled_reason,
    }
    if microversion.of(req) >= (2, 11):
        body["forced_down"] = host.forced_down
    return body


def _status(host: ComputeHost) -> str:
    return "enabled" if host.enabled else "disabled"
