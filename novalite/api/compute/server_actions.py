"""``/v2.1/servers/{server_id}/action``: one member of the body is the action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import falcon

from glancelike.web.body import read_json
from glancelike.web.validation import Schema
from novalite.api.compute import guest_actions, microversion, move_actions
from novalite.api.compute.resource import Resource, caller_of
from novalite.errors import InvalidInput

NOTHING = Schema({})  # Nova looks at nothing here, clients send null or {}
REBOOT = Schema(
    {
        "type": "object",
        "properties": {"type": {"enum": ["SOFT", "HARD", "soft", "hard", "Soft", "Hard"]}},
        "required": ["type"],
        "additionalProperties": False,
    }
)
CONSOLE = Schema(
    {
        "type": "object",
        "properties": {
            "length": {
                "anyOf": [
                    {"type": "integer", "minimum": -1},
                    {"type": "string", "pattern": "^(-1|[0-9]{1,9})$"},
                    {"type": "null"},
                ]
            }
        },
        "additionalProperties": False,
    }
)


LOCK = Schema(
    {
        "type": ["object", "null"],
        "properties": {"locked_reason": {"type": "string", "minLength": 1, "maxLength": 255}},
        "additionalProperties": False,
    }
)
SERIAL_CONSOLE = Schema(
    {
        "type": "object",
        "properties": {"type": {"enum": ["serial"]}},
        "required": ["type"],
        "additionalProperties": False,
    }
)
RESET_STATE = Schema(
    {
        "type": "object",
        "properties": {"state": {"enum": ["active", "error"]}},
        "required": ["state"],
        "additionalProperties": False,
    }
)


OTHERS = {**guest_actions.ACTIONS, **move_actions.ACTIONS}


class ServerActions(Resource):
    def run(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        body = read_json(req)
        if not isinstance(body, dict) or len(body) != 1:
            raise InvalidInput("Invalid input for the request body: expected one member, the action")
        ((name, arguments),) = body.items()
        of_guest = OTHERS.get(name)
        if of_guest is None and name not in ACTIONS:
            raise InvalidInput(f"There is no such action: {name}")
        schema = of_guest[0] if of_guest else ACTIONS[name][0]
        fault = schema.fault(arguments)
        if fault is not None:
            raise InvalidInput(f"Invalid input for [{name!r}]{fault.where}: {fault.message}")
        resp.status = 202
        if of_guest:
            of_guest[1](self.service, req, resp, server_id, arguments)
        else:
            ACTIONS[name][1](self, req, resp, server_id, arguments)

    def _start(self, req: falcon.Request, resp: falcon.Response, server_id: str, _: Any) -> None:
        self.service.servers.start(caller_of(req), server_id)

    def _stop(self, req: falcon.Request, resp: falcon.Response, server_id: str, _: Any) -> None:
        self.service.servers.stop(caller_of(req), server_id)

    def _reboot(self, req: falcon.Request, resp: falcon.Response, server_id: str, arguments: Any) -> None:
        hard = arguments["type"].upper() == "HARD"
        self.service.servers.reboot(caller_of(req), server_id, hard=hard)

    def _console(self, req: falcon.Request, resp: falcon.Response, server_id: str, arguments: Any) -> None:
        length = arguments.get("length")
        lines = None if length is None else int(length)
        output = self.service.servers.console_output(caller_of(req), server_id, lines=lines)
        resp.status = 200
        resp.media = {"output": output}

    def _serial_console(
        self, req: falcon.Request, resp: falcon.Response, server_id: str, arguments: Any
    ) -> None:
        if microversion.since(req, (2, 6)):
            raise falcon.HTTPNotFound(description="From 2.6 on consoles are asked for by remote-consoles.")
        url = self.service.consoles.open(caller_of(req), server_id, arguments["type"])
        resp.status = 200
        resp.media = {"console": {"type": arguments["type"], "url": url}}

    def _lock(self, req: falcon.Request, resp: falcon.Response, server_id: str, arguments: Any) -> None:
        # Before 2.73 nobody looks at what comes along, as with the other plain actions.
        reason = (arguments or {}).get("locked_reason") if microversion.since(req, (2, 73)) else None
        self.service.actions.lock(caller_of(req), server_id, reason=reason)

    def _reset_state(
        self, req: falcon.Request, resp: falcon.Response, server_id: str, arguments: Any
    ) -> None:
        active = arguments["state"] == "active"
        self.service.actions.reset_state(caller_of(req), server_id, active=active)

    def _force_delete(self, req: falcon.Request, _resp: falcon.Response, server_id: str, _: Any) -> None:
        self.service.servers.force_delete(caller_of(req), server_id)

    def _restore(self, req: falcon.Request, _resp: falcon.Response, server_id: str, _: Any) -> None:
        self.service.servers.restore(caller_of(req), server_id)

    def _plain(self, req: falcon.Request, server_id: str, name: str) -> None:
        getattr(self.service.actions, name)(caller_of(req), server_id)


def _plain(name: str) -> tuple[Schema, Act]:
    """Make an action without arguments, which the service knows by ``name``."""
    return NOTHING, lambda self, req, _resp, server_id, _: self._plain(req, server_id, name)


Act = Callable[[ServerActions, falcon.Request, falcon.Response, str, Any], None]
ACTIONS: dict[str, tuple[Schema, Act]] = {
    "os-start": (NOTHING, ServerActions._start),
    "os-stop": (NOTHING, ServerActions._stop),
    "reboot": (REBOOT, ServerActions._reboot),
    "pause": _plain("pause"),
    "unpause": _plain("unpause"),
    "suspend": _plain("suspend"),
    "resume": _plain("resume"),
    "lock": (LOCK, ServerActions._lock),
    "unlock": _plain("unlock"),
    "forceDelete": (NOTHING, ServerActions._force_delete),
    "restore": (NOTHING, ServerActions._restore),
    "os-resetState": (RESET_STATE, ServerActions._reset_state),
    "os-getSerialConsole": (SERIAL_CONSOLE, ServerActions._serial_console),
    "os-getConsoleOutput": (CONSOLE, ServerActions._console),
}
