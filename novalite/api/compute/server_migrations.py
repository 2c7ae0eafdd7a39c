"""``/v2.1/servers/{id}/migrations``: live migrations that are under way."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import falcon

from glancelike.web.validation import Schema
from novalite.api.compute import microversion, view
from novalite.api.compute.resource import Resource, body_of, caller_of, demand_version
from novalite.errors import NotFound
from novalite.reports import Migration
from novalite.virt.diagnostics import Transfer

FORCE_COMPLETE = Schema(
    {
        "type": "object",
        "properties": {"force_complete": {"type": "null"}},
        "required": ["force_complete"],
        "additionalProperties": False,
    }
)
FORCED, SHOWN, ABORTED, ABORTED_EARLY = (2, 22), (2, 23), (2, 24), (2, 65)


class ServerMigrations(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        demand_version(req, SHOWN)
        living, caller = self.service.living, caller_of(req)
        found, hosts = living.list(caller, server_id), living.tells_hosts(caller)
        resp.media = {"migrations": [_shown(req, each, living.sent(each), hosts=hosts) for each in found]}

    def show(self, req: falcon.Request, resp: falcon.Response, server_id: str, migration_id: str) -> None:
        demand_version(req, SHOWN)
        found = self.service.living.show(caller_of(req), server_id, _number(migration_id))
        resp.media = {"migration": _shown(req, found, self.service.living.sent(found), hosts=True)}

    def abort(self, req: falcon.Request, resp: falcon.Response, server_id: str, migration_id: str) -> None:
        demand_version(req, ABORTED)
        early = microversion.since(req, ABORTED_EARLY)
        self.service.living.abort(caller_of(req), server_id, _number(migration_id), early=early)
        resp.status = 202

    def act(self, req: falcon.Request, resp: falcon.Response, server_id: str, migration_id: str) -> None:
        demand_version(req, FORCED)
        body_of(req, FORCE_COMPLETE)
        self.service.living.force_complete(caller_of(req), server_id, _number(migration_id))
        resp.status = 202


def _number(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and len(text) < 10):
        raise NotFound(f"Migration {text} not found.")
    return int(text)


def _shown(req: falcon.Request, value: Migration, sent: Transfer, *, hosts: bool) -> dict[str, Any]:
    counted = {f"{name}_bytes": count for name, count in asdict(sent).items()}
    return {"server_uuid": value.server_id, **counted, **view.migration(req, value, hosts=hosts)}
