"""The zone scheduler: any host of the zone asked for."""

from __future__ import annotations

import random

from novalite.errors import NoValidHost
from novalite.scheduler.base import Driver, HostState, Request


class ZoneDriver(Driver):
    """Pick a random host of the request's zone, or where none is named, of any.

    The manager keeps to the zone under every driver; this one doesn't rely
    on it, so that it can be used alone.
    """

    name = "zone"

    def pick(self, request: Request, hosts: tuple[HostState, ...]) -> HostState:
        """Return a random host of the zone; raise NoValidHost without one."""
        inside = [host for host in hosts if request.zone in (None, host.zone)]
        if not inside:
            raise NoValidHost({host.name: f"is in zone {host.zone}, not {request.zone}" for host in hosts})
        return random.choice(inside)  # noqa: S311 - nothing secret about it
