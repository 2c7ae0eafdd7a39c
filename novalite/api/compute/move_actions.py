"""Actions that move a server to another host; see ``server_actions``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute import microversion
from novalite.api.compute.addresses import password_of
from novalite.api.compute.booleans import BOOLEAN, truth
from novalite.api.compute.guest_actions import Act
from novalite.api.compute.resource import caller_of, demand_known
from novalite.api.compute.server_schema import PASSWORD
from novalite.errors import InvalidInput
from novalite.service import ComputeService

HOST: dict[str, Any] = {"type": ["string", "null"], "minLength": 1, "maxLength": 255}
EVACUATE = Schema(
    {
        "type": "object",
        "properties": {
            "host": {**HOST, "type": "string"},
            "onSharedStorage": BOOLEAN,
            "adminPass": PASSWORD,
            "force": BOOLEAN,
        },
        "additionalProperties": False,
    }
)


def _migrate(
    service: ComputeService, req: falcon.Request, resp: falcon.Response, server_id: str, asked: Any
) -> None:
    host = None
    if microversion.since(req, (2, 56)):  # before, nobody looks at what comes along
        if not isinstance(asked or {}, dict) or set(asked or {}) - {"host"}:
            raise InvalidInput("Invalid input for ['migrate']: expected nothing, or a host")
        host = (asked or {}).get("host")
        if host is not None and not (isinstance(host, str) and 0 < len(host) <= 255):
            raise InvalidInput("Invalid input for ['migrate'].host: it must be a host's name")
    service.moves.migrate(caller_of(req), server_id, host)


def _evacuate(
    service: ComputeService, req: falcon.Request, resp: falcon.Response, server_id: str, asked: Any
) -> None:
    demand_known(req, asked, {"force": (2, 29)})
    version = microversion.of(req)
    for name, since in (("onSharedStorage", (2, 14)), ("force", (2, 68))):
        if name in asked and version >= since:
            raise InvalidInput(
                f"Invalid input for ['evacuate']: {name} isn't known from {microversion.text(since)} on"
            )
    if version < (2, 14):
        if "onSharedStorage" not in asked:
            raise InvalidInput("Invalid input for ['evacuate']: 'onSharedStorage' is a required property")
        if truth(asked["onSharedStorage"]):
            raise InvalidInput("There is no shared storage: servers' disks are on their own hosts alone")
    # A host that is named was taken unasked, until the scheduler was asked unless forced.
    force = truth(asked.get("force")) if version >= (2, 29) else "host" in asked
    password = password_of(asked)
    service.moves.evacuate(
        *(caller_of(req), server_id, asked.get("host")),
        force=force,
        password=password,
        off=version >= (2, 95),
    )
    resp.status = 200
    if version < (2, 14):
        resp.media = {"adminPass": password}


def _migrate_live(
    service: ComputeService, req: falcon.Request, resp: falcon.Response, server_id: str, asked: Any
) -> None:
    demand_known(req, asked, {"force": (2, 30)})
    version = microversion.of(req)
    for name, since in (("disk_over_commit", (2, 25)), ("force", (2, 68))):
        if name in asked and version >= since:
            raise InvalidInput(
                f"Invalid input for ['os-migrateLive']: {name} isn't known from {microversion.text(since)} on"
            )
    if version < (2, 25) and ("disk_over_commit" not in asked or asked["block_migration"] == "auto"):
        raise InvalidInput("Invalid input for ['os-migrateLive']: before 2.25 all is to be said")
    if asked["block_migration"] != "auto" and not truth(asked["block_migration"]):
        raise InvalidInput("There is no shared storage: servers' disks have to go along (block_migration)")
    # A host that is named was taken unasked, until the scheduler was asked unless forced.
    force = truth(asked.get("force")) if version >= (2, 30) else bool(asked["host"])
    service.moves.live_migrate(caller_of(req), server_id, asked["host"], force=force)


LIVE = Schema(
    {
        "type": "object",
        "properties": {
            "host": HOST,
            "block_migration": {"anyOf": [*BOOLEAN["anyOf"], {"enum": ["auto"]}]},
            "disk_over_commit": BOOLEAN,
            "force": BOOLEAN,
        },
        "required": ["host", "block_migration"],
        "additionalProperties": False,
    }
)
ACTIONS: Mapping[str, tuple[Schema, Act]] = {
    "migrate": (Schema({}), _migrate),
    "os-migrateLive": (LIVE, _migrate_live),
    "evacuate": (EVACUATE, _evacuate),
}
