"""``/v2.1/os-services``: the compute workers, for administrators."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute import microversion, view
from novalite.api.compute.hypervisors import number_of
from novalite.api.compute.resource import Resource, body_of, caller_of, params_of
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
        body["forced_down"] = False
    return body


def _status(host: ComputeHost) -> str:
    return "enabled" if host.enabled else "disabled"
