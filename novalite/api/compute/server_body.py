"""What is shown of servers, with what else it takes, read once for all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import falcon

from novalite.api.compute import microversion, view
from novalite.api.compute.resource import caller_of
from novalite.errors import InvalidInput
from novalite.model import Server
from novalite.service import ComputeService


def shown(
    service: ComputeService, req: falcon.Request, servers: Sequence[Server], *, alone: bool = False
) -> list[dict[str, Any]]:
    """Return the bodies of servers that the caller may see; ``alone`` where it isn't a list."""
    sight = service.servers.sight(caller_of(req), servers[0] if alone else None)
    told = sight.unknown_status and microversion.since(req, (2, 16))  # what state their hosts are in
    hosts = service.hosts.of(servers) if told else {}
    tags = service.tags.of(servers) if microversion.since(req, (2, 26)) else {}
    return [
        view.server(req, each, sight=sight, hosts=hosts, tags=tags.get(each.id, ()), alone=alone)
        for each in servers
    ]


_LABEL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-]{0,61}[a-zA-Z0-9]")

# What an update and a rebuild leave out until 2.75.
_LEFT_OUT = ("OS-EXT-", "OS-SRV-USG:", "os-extended-volumes:", "config_drive", "key_name", "host_status")


def changed(service: ComputeService, req: falcon.Request, server: Server) -> dict[str, Any]:
    """Return the body of a server in the answer to its change, which says less."""
    (body,) = shown(service, req, (server,), alone=True)
    if microversion.since(req, (2, 75)):
        return body
    return {
        name: value
        for name, value in body.items()
        if not name.startswith(_LEFT_OUT) and name != "security_groups"
    }


def demand_no_certificates(asked: Mapping[str, Any]) -> None:
    """Raise InvalidInput for certificates to trust: signatures of images aren't looked at here."""
    if asked.get("trusted_image_certificates") is not None:
        raise InvalidInput(
            "trusted_image_certificates can't be honoured: signatures of images aren't verified here"
        )


def demand_hostname(req: falcon.Request, asked: Mapping[str, Any]) -> None:
    """Raise InvalidInput for a host name of several labels before 2.94."""
    name = asked.get("hostname")
    if name is not None and not microversion.since(req, (2, 94)) and not _LABEL.fullmatch(name):
        raise InvalidInput(
            f"Invalid input for ['server']['hostname']: {name!r} isn't one label of a host name"
        )
