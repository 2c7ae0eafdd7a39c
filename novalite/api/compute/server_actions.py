"""``/v2.1/servers/{server_id}/action``: one member of the body is the action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import falcon

from glancelike.web.body import read_json
from glancelike.web.validation import Schema
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
        "type": ["object", "null"],
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


class ServerActions(Resource):
    def run(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        body = read_json(req)
        if not isinstance(body, dict) or len(body) != 1:
            raise InvalidInput("Invalid input for the request body: expected one member, the action")
        ((name, arguments),) = body.items()
        if name not in ACTIONS:
            raise InvalidInput(f"There is no such action: {name}")
        schema, act = ACTIONS[name]
        fault = schema.fault(arguments)
        if fault is not None:
            raise InvalidInput(f"Invalid input for [{name!r}]{fault.where}: {fault.message}")
        act(self, req, resp, server_id, arguments)

    def _start(self, req: falcon.Request, resp: falcon.Response, server_id: str, _: Any) -> None:
        self.service.servers.start(caller_of(req), server_id)
        resp.status = 202

    def _stop(self, req: falcon.Request, resp: falcon.Response, server_id: str, _: Any) -> None:
        self.service.servers.stop(caller_of(req), server_id)
        resp.status = 202

    def _reboot(self, req: falcon.Request, resp: falcon.Response, server_id: str, arguments: Any) -> None:
        hard = arguments["type"].upper() == "HARD"
        self.service.servers.reboot(caller_of(req), server_id, hard=hard)
        resp.status = 202

    def _console(self, req: falcon.Request, resp: falcon.Response, server_id: str, arguments: Any) -> None:
        length = (arguments or {}).get("length")
        lines = None if length is None else int(length)
        output = self.service.servers.console_output(caller_of(req), server_id, lines=lines)
        resp.media = {"output": output}


Act = Callable[[ServerActions, falcon.Request, falcon.Response, str, Any], None]
ACTIONS: dict[str, tuple[Schema, Act]] = {
    "os-start": (NOTHING, ServerActions._start),
    "os-stop": (NOTHING, ServerActions._stop),
    "reboot": (REBOOT, ServerActions._reboot),
    "os-getConsoleOutput": (CONSOLE, ServerActions._console),
}
