"""The chance scheduler: any host."""

from __future__ import annotations

import random

from novalite.scheduler.base import Driver, HostState, Request


class ChanceDriver(Driver):
    """Pick one host at random; weights and discounts play no part."""

    name = "chance"

    def pick(self, request: Request, hosts: tuple[HostState, ...]) -> HostState:
        """Return a random host."""
        return random.choice(hosts)  # noqa: S311 - nothing secret about it
