"""``/v2.1/os-services``: the compute workers, for administrators."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute import microversion, view
from novalite.api.compute.hypervisors import number_of
from novalite.api.compute.resource import Resource, body_of, caller_of, params_of, truth
from novalite.api.compute.server_schema import BOOLEAN
from novalite.model import ComputeHost

BINARY = "nova-compute"
HOST: dict[str, Any] = {
    "host": {"type": "string", "minLength": 1, "maxLength": 255},
    "binary": {"const": BINARY},
}
SWITCH = Schema(
    {
        "type": "object",
        "properties": HOST,
        "required": ["host", "binary"],
        "additionalProperties": False,
    }
)
SWITCH_OFF = Schema(
    {
        "type": "object",
        "properties": {**HOST, "disabled_reason": {"type": "string", "minLength": 1, "maxLength": 255}},
        "required": ["host", "binary", "disabled_reason"],
        "additionalProperties": False,
    }
)
FORCE_DOWN = Schema(
    {
        "type": "object",
        "properties": {**HOST, "forced_down": BOOLEAN},
        "required": ["host", "binary"],
        "additionalProperties": False,
    }
)


class Services(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        params = params_of(req)
        hosts = self.service.hosts.list(caller_of(req))
        if params.get("binary", BINARY) != BINARY:
            hosts = ()
        resp.media = {
            "services": [_service(req, host) for host in hosts if params.get("host", host.name) == host.name]
        }

    def enable(self, req: falcon.Request, resp: falcon.Response) -> None:
        self._switch(req, resp, body_of(req, SWITCH), enabled=True)

    def disable(self, req: falcon.Request, resp: falcon.Response) -> None:
        self._switch(req, resp, body_of(req, SWITCH), enabled=False)

    def disable_with_reason(self, req: falcon.Request, resp: falcon.Response) -> None:
        self._switch(req, resp, body_of(req, SWITCH_OFF), enabled=False)

    def force_down(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Say that a host is down, or no longer so: from 2.11 to 2.52, after which services have ids."""
        if not (2, 11) <= microversion.of(req) < (2, 53):
            raise falcon.HTTPNotFound(description="The resource could not be found.")
        body = body_of(req, FORCE_DOWN)
        down = truth(body.get("forced_down", True))
        host = self.service.hosts.set_forced_down(caller_of(req), body["host"], down)
        resp.media = {"service": {"binary": BINARY, "host": host.name, "forced_down": host.forced_down}}

    def _switch(
        self, req: falcon.Request, resp: falcon.Response, body: dict[str, Any], *, enabled: bool
    ) -> None:
        reason = body.get("disabled_reason")
        host = self.service.hosts.set_enabled(caller_of(req), body["host"], enabled, reason=reason)
        resp.media = {"service": {**body, "status": _status(host)}}


def _service(req: falcon.Request, host: ComputeHost) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": number_of(host),
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
