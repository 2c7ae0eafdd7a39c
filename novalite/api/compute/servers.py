"""``/v2.1/servers``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import falcon

from novalite.api.compute import view
from novalite.api.compute.resource import (
    Resource,
    body_of,
    caller_of,
    flag,
    next_link,
    params_of,
    self_links,
)
from novalite.api.compute.server_schema import CREATE, UPDATE
from novalite.errors import FlavorNotFound, Forbidden, ImageMissing, InvalidInput, KeyPairNotFound
from novalite.model import (
    SERVER_SORT_FIELDS,
    Caller,
    ComputeHost,
    NewServer,
    Page,
    Server,
    ServerQuery,
    SortKey,
    Status,
)

# Query parameter -> field of ServerQuery
FILTERS = {
    "name": "name",
    "host": "host",
    "image": "image_id",
    "flavor": "flavor_id",
    "user_id": "user",
    "tenant_id": "project",
    "project_id": "project",
    "availability_zone": "zone",
    "key_name": "key_name",
    "reservation_id": "reservation_id",
}
TIMES = {"changes-since": "changes_since", "changes-before": "changes_before"}
UNKNOWN_FILTERS = frozenset({"ip", "ip6", "tags", "tags-any", "not-tags", "not-tags-any"})
SORT_NAMES = {"display_name": "name", "project_id": "project", "user_id": "user", "uuid": "id"}
SORT_NAMES["availability_zone"] = "zone"


class Servers(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        page = self._page(req)
        resp.media = {
            "servers": [view.brief(req, "servers", each) for each in page.items],
            **next_link(req, "servers", page.next_marker),
        }

    def detail(self, req: falcon.Request, resp: falcon.Response) -> None:
        page = self._page(req)
        caller = caller_of(req)
        hosts = self._hosts(caller)
        resp.media = {
            "servers": [view.server(req, each, admin=caller.admin, hosts=hosts) for each in page.items],
            **next_link(req, "servers", page.next_marker),
        }

    def create(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = body_of(req, CREATE)
        try:
            servers = self.service.servers.create(caller_of(req), _new_server(body))
        except (FlavorNotFound, ImageMissing, KeyPairNotFound) as error:
            # What the URL names is there; what the body names isn't.
            raise InvalidInput(str(error)) from error
        resp.status = 202
        if _true(body["server"].get("return_reservation_id")):
            resp.media = {"reservation_id": servers[0].reservation_id}
            return
        links = self_links(req, f"/servers/{servers[0].id}")
        resp.location = links[0]["href"]
        resp.media = {"server": {"id": servers[0].id, "links": links, **view.NO_DETAILS}}

    def show(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        self._answer(req, resp, self.service.servers.show(caller_of(req), server_id))

    def update(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        name = body_of(req, UPDATE)["server"]["name"]
        self._answer(req, resp, self.service.servers.update(caller_of(req), server_id, name=name))

    def delete(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        self.service.servers.delete(caller_of(req), server_id)
        resp.status = 204

    def _answer(self, req: falcon.Request, resp: falcon.Response, server: Server) -> None:
        caller = caller_of(req)
        shown = view.server(req, server, admin=caller.admin, hosts=self._hosts(caller))
        resp.media = {"server": shown}

    def _hosts(self, caller: Caller) -> dict[str, ComputeHost]:
        return {host.name: host for host in self.service.hosts.list(caller)} if caller.admin else {}

    def _page(self, req: falcon.Request) -> Page[Server]:
        caller = caller_of(req)
        params = params_of(req)
        query = _query(params, caller, self.limit_of(params))
        return self.service.servers.list(caller, query)


def _query(params: Mapping[str, str], caller: Caller, limit: int) -> ServerQuery:
    """Make a ServerQuery; parameters nobody knows are passed over, as in Nova."""
    unknown = sorted(UNKNOWN_FILTERS & params.keys())
    if unknown:
        raise InvalidInput(f"servers can't be filtered by {unknown[0]} here")
    found: dict[str, Any] = {
        field: params[name] for name, field in FILTERS.items() if params.get(name) is not None
    }
    found |= {field: _instant(name, params[name]) for name, field in TIMES.items() if name in params}
    if "status" in params:
        statuses = _statuses(params["status"])
        found["statuses"] = statuses
        found["deleted"] = Status.DELETED in statuses
    found["deleted"] = found.get("deleted") or flag(params, "deleted")
    if found["deleted"] and not caller.admin:
        if "status" in params:
            raise Forbidden("only administrators list deleted servers")
        found["deleted"] = False
    every = flag(params, "all_tenants") or flag(params, "all_projects")
    return ServerQuery(
        **found,
        all_projects=every,
        sort=_sort(params),
        limit=limit,
        marker=params.get("marker"),
    )


def _statuses(value: str) -> frozenset[Status]:
    """Return the status asked for; one that no server ever has matches none."""
    return frozenset(status for status in Status if status == value.upper())


def _sort(params: Mapping[str, str]) -> tuple[SortKey, ...]:
    key = SORT_NAMES.get(params.get("sort_key", ""), params.get("sort_key", "created_at"))
    direction = params.get("sort_dir", "desc")
    if key not in SERVER_SORT_FIELDS:
        raise InvalidInput(f"sort_key must be one of {', '.join(sorted(SERVER_SORT_FIELDS))}, not '{key}'")
    if direction not in ("asc", "desc"):
        raise InvalidInput(f"sort_dir must be asc or desc, not '{direction}'")
    return (SortKey(key, direction == "desc"),)


def _instant(name: str, value: str) -> datetime:
    try:
        # An unescaped "+" of a zone offset arrives as a blank.
        parsed = datetime.fromisoformat(value.strip().replace(" ", "+"))
    except ValueError:
        raise InvalidInput(f"{name} must be a time such as 2026-11-23T02:30:00Z, not '{value}'") from None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def _new_server(body: Mapping[str, Any]) -> NewServer:
    asked = body["server"]
    zone, host = _zone_and_host(asked.get("availability_zone"))
    minimum = int(asked.get("min_count", 1))
    return NewServer(
        name=asked["name"].strip(),
        image_id=_image(asked),
        flavor_id=str(asked["flavorRef"]).rpartition("/")[2],
        key_name=asked.get("key_name"),
        metadata=asked.get("metadata", {}),
        user_data=asked.get("user_data"),
        config_drive=_true(asked.get("config_drive")),
        zone=zone,
        host=host,
        hints=body.get("os:scheduler_hints")
        or body.get("OS-SCH-HNT:scheduler_hints")
        or asked.get("os:scheduler_hints", {}),
        min_count=minimum,
        max_count=int(asked.get("max_count", minimum)),
    )


def _image(asked: Mapping[str, Any]) -> str:
    """Return the image's id, from the reference or the one disk."""
    by_reference = asked.get("imageRef", "").rpartition("/")[2]
    by_disk = next((disk["uuid"] for disk in asked.get("block_device_mapping_v2", ())), "")
    if by_reference and by_disk and by_reference != by_disk:
        raise InvalidInput("imageRef and block_device_mapping_v2 name different images")
    image: str = by_reference or by_disk
    if not image:
        raise InvalidInput("Invalid input for ['server']: imageRef is needed, servers boot from images")
    return image


def _zone_and_host(value: str | None) -> tuple[str | None, str | None]:
    """Split ``zone:host``; either may be empty."""
    zone, _, host = (value or "").partition(":")
    return zone or None, host.partition(":")[0] or None


def _true(value: Any) -> bool:
    return str(value).lower() in ("true", "1")
