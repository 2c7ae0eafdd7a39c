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
    hosts = {host.name: host for host in service.hosts.list(caller)} if caller.admin else {}
    tags = service.tags.of(servers) if microversion.since(req, (2, 26)) else {}
    return [
        view.server(req, each, admin=caller.admin, hosts=hosts, tags=tags.get(each.id, ()))
        for each in servers
    ]
