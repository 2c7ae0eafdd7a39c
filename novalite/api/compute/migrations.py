"""``/v2.1/os-migrations``: what was resized or moved."""

from __future__ import annotations

import uuid
import zlib
from typing import Any

import falcon

from novalite.api.compute import microversion, view
from novalite.api.compute.resource import Resource, caller_of, instant, next_link, params_of
from novalite.errors import InvalidInput
from novalite.reports import Migration, MigrationQuery

# Query parameter -> field of MigrationQuery
FILTERS = {
    "instance_uuid": "server_id",
    "status": "status",
    "migration_type": "migration_type",
    "host": "host",
    "source_compute": "source_host",
}
FILTERS_280 = {"project_id": "project_id", "user_id": "user_id"}


class Migrations(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        params = params_of(req)
        names = FILTERS | (FILTERS_280 if microversion.since(req, (2, 80)) else {})
        found: dict[str, Any] = {field: params[name] for name, field in names.items() if name in params}
        paged = microversion.since(req, (2, 59))
        if paged:
            found |= {"limit": self.limit_of(params), "marker": _marker(params.get("marker"))}
            times = ["changes-since"] + ["changes-before"] * microversion.since(req, (2, 66))
            found |= {name.replace("-", "_"): instant(name, params[name]) for name in times if name in params}
            if (
                "changes_before" in found
                and found.get("changes_since", found["changes_before"]) > (found["changes_before"])
            ):
                raise InvalidInput("The value of changes-since must be less than or equal to changes-before.")
        caller = caller_of(req)
        page = self.service.reports.migrations(caller, MigrationQuery(**found))
        hosts = self.service.reports.tells_hosts(caller)
        resp.media = {
            "migrations": [_full(req, each, hosts=hosts) for each in page.items],
            **(next_link(req, "migrations", page.next_marker) if paged else {}),
        }


def _marker(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise InvalidInput(f"marker must be a UUID, not '{text}'") from None


def _number(flavor_id: str) -> int:
    """Number a flavor: Nova tells its database's own number here, which no other request knows."""
    return zlib.crc32(flavor_id.encode()) & 0x7FFFFFFF


def _full(req: falcon.Request, value: Migration, *, hosts: bool) -> dict[str, Any]:
    body = {
        "instance_uuid": value.server_id,
        "old_instance_type_id": _number(value.old_flavor_id),
        "new_instance_type_id": _number(value.new_flavor_id),
        **view.migration(req, value, hosts=hosts),
    }
    return {**body, "migration_type": value.migration_type} if microversion.since(req, (2, 23)) else body
