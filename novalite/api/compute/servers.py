"""``/v2.1/servers``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import falcon

from novalite.api.compute import microversion, view
from novalite.api.compute.addresses import access_addresses, password_of
from novalite.api.compute.booleans import truth
from novalite.api.compute.resource import (
    Resource,
    body_of,
    caller_of,
    demand_known,
    next_link,
    params_of,
    self_links,
)
from novalite.api.compute.server_body import changed, demand_hostname, demand_no_certificates, shown
from novalite.api.compute.server_query import query_of
from novalite.api.compute.server_schema import CREATE, UPDATE
from novalite.errors import FlavorNotFound, ImageMissing, InvalidInput, KeyPairNotFound
from novalite.model import NewServer, Page, Server

SINCE = {
    "description": (2, 19),
    "tags": (2, 52),
    "trusted_image_certificates": (2, 63),
    "host": (2, 74),
    "hypervisor_hostname": (2, 74),
    "hostname": (2, 90),
    "pinned_availability_zone": (2, 104),
}


class Servers(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        page = self._page(req, detail=False)
        resp.media = {
            "servers": [view.brief(req, "servers", each) for each in page.items],
            **next_link(req, "servers", page.next_marker),
        }

    def detail(self, req: falcon.Request, resp: falcon.Response) -> None:
        page = self._page(req, detail=True)
        resp.media = {
            "servers": shown(self.service, req, page.items),
            **next_link(req, "servers", page.next_marker),
        }

    def create(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = body_of(req, CREATE)
        demand_known(req, body["server"], SINCE)
        demand_hostname(req, body["server"])
        _check_networks(req, body["server"])
        try:
            wanted = _new_server(body)
            servers = self.service.servers.create(caller_of(req), wanted)
        except (FlavorNotFound, ImageMissing, KeyPairNotFound) as error:
            # What the URL names is there; what the body names isn't.
            raise InvalidInput(str(error)) from error
        resp.status = 202
        if truth(body["server"].get("return_reservation_id")):
            resp.media = {"reservation_id": servers[0].reservation_id}
            return
        links = self_links(req, f"/servers/{servers[0].id}")
        resp.location = links[0]["href"]
        made = {"id": servers[0].id, "links": links, "adminPass": wanted.admin_password}
        resp.media = {"server": {**made, **view.NO_DETAILS}}

    def show(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        server = self.service.servers.show(caller_of(req), server_id)
        (body,) = shown(self.service, req, (server,), alone=True)
        resp.media = {"server": body}

    def update(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        asked = body_of(req, UPDATE)["server"]
        demand_known(req, asked, SINCE)
        demand_hostname(req, asked)
        values = {name: asked[name] for name in ("name", "description", "hostname") if name in asked}
        values |= access_addresses(asked)
        if "pinned_availability_zone" in asked:
            values["pinned_zone"] = asked["pinned_availability_zone"]
        server = self.service.servers.update(caller_of(req), server_id, **values)
        resp.media = {"server": changed(self.service, req, server)}

    def delete(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        self.service.servers.delete(caller_of(req), server_id)
        resp.status = 204

    def _page(self, req: falcon.Request, *, detail: bool) -> Page[Server]:
        servers, caller = self.service.servers, caller_of(req)
        query = query_of(
            req,
            self.limit_of(params_of(req)),
            everything=servers.filters_all(caller),
            deleted=servers.finds_deleted(caller),
        )
        return servers.list(caller, query, detail=detail)


def _check_networks(req: falcon.Request, asked: Mapping[str, Any]) -> None:
    """Raise InvalidInput unless ``networks`` is said as the microversion has it."""
    networks = asked.get("networks")
    if microversion.since(req, (2, 37)):
        if networks is None:
            raise InvalidInput("Invalid input for ['server']: 'networks' is a required property")
    elif isinstance(networks, str):
        raise InvalidInput(f"Invalid input for ['server']['networks']: {networks!r} is not of type 'array'")


def _new_server(body: Mapping[str, Any]) -> NewServer:
    asked = body["server"]
    zone, host = _zone_and_host(asked)
    demand_no_certificates(asked)
    minimum = int(asked.get("min_count", 1))
    return NewServer(
        name=asked["name"].strip(),
        image_id=_image(asked),
        flavor_id=str(asked["flavorRef"]).rpartition("/")[2],
        key_name=asked.get("key_name"),
        metadata=asked.get("metadata", {}),
        user_data=asked.get("user_data"),
        config_drive=truth(asked.get("config_drive")),
        zone=zone,
        host=host,
        forced=not {"host", "hypervisor_hostname"} & asked.keys(),
        networks="none" if asked.get("networks") == "none" else "auto",
        asked_networks=bool(asked.get("networks")),
        description=asked.get("description"),
        tags=frozenset(asked.get("tags", ())),
        hostname=asked.get("hostname"),
        admin_password=password_of(asked),
        **access_addresses(asked),
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


def _zone_and_host(asked: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return zone and host, of which the zone may name both as ``zone:host``; raise InvalidInput."""
    zone, _, rest = (asked.get("availability_zone") or "").partition(":")
    host, named = rest.partition(":")[0], {asked.get("host"), asked.get("hypervisor_hostname")} - {None}
    if named and host:
        raise InvalidInput(
            "An availability zone that names a host, and host or hypervisor_hostname, exclude each other."
        )
    if len(named) > 1:
        raise InvalidInput("host and hypervisor_hostname differ: no host is called by two names here")
    return zone or None, next(iter(named), host) or None
