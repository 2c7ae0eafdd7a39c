"""What is shown of servers, with what else it takes, read once for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import falcon

from novalite.api.compute import microversion, view
from novalite.api.compute.resource import caller_of
from novalite.model import Server
from novalite.service import ComputeService


def shown(service: ComputeService, req: falcon.Request, servers: Sequence[Server]) -> list[dict[str, Any]]:
    """Return the bodies of servers that the caller may see."""
    caller = caller_of(req)
    told = caller.admin and microversion.since(req, (2, 16))  # what state their hosts are in
    hosts = service.hosts.of(servers) if told else {}
    tags = service.tags.of(servers) if microversion.since(req, (2, 26)) else {}
    return [
        view.server(req, each, admin=caller.admin, hosts=hosts, tags=tags.get(each.id, ()))
        for each in servers
    ]


# What an update and a rebuild leave out until 2.75.
_LEFT_OUT = ("OS-EXT-", "OS-SRV-USG:", "os-extended-volumes:", "config_drive", "key_name", "host_status")


def changed(service: ComputeService, req: falcon.Request, server: Server) -> dict[str, Any]:
    """Return the body of a server in the answer to its change, which says less."""
    (body,) = shown(service, req, (server,))
    if microversion.since(req, (2, 75)):
        return body
    return {
        name: value
        for name, value in body.items()
        if not name.startswith(_LEFT_OUT) and name != "security_groups"
    }
