"""``/v2.1/servers/{server_id}/remote-consoles``, from microversion 2.6 on."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute import microversion
from novalite.api.compute.resource import Resource, body_of, caller_of, demand_version

# What may be asked for, whether a host has it or not.
PROTOCOLS = ["vnc", "spice", "rdp", "serial"]
TYPES = ["novnc", "xvpvnc", "spice-html5", "rdp-html5", "serial"]
MKS, SPICE_DIRECT = (2, 8), (2, 99)  # the microversions that brought them


def _schema(protocols: list[str], types: list[str]) -> Schema:
    console: dict[str, Any] = {
        "type": "object",
        "properties": {"protocol": {"enum": protocols}, "type": {"enum": types}},
        "required": ["protocol", "type"],
        "additionalProperties": False,
    }
    return Schema(
        {
            "type": "object",
            "properties": {"remote_console": console},
            "required": ["remote_console"],
            "additionalProperties": False,
        }
    )


FIRST = _schema(PROTOCOLS, TYPES)
SINCE_MKS = _schema([*PROTOCOLS, "mks"], [*TYPES, "webmks"])
SINCE_DIRECT = _schema([*PROTOCOLS, "mks"], [*TYPES, "webmks", "spice-direct"])


class RemoteConsoles(Resource):
    def create(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        demand_version(req, (2, 6))
        newer = SINCE_DIRECT if microversion.since(req, SPICE_DIRECT) else SINCE_MKS
        asked = body_of(req, newer if microversion.since(req, MKS) else FIRST)["remote_console"]
        url = self.service.consoles.open(caller_of(req), server_id, asked["type"])
        resp.media = {"remote_console": {**asked, "url": url}}
