"""A scheduler hook that keeps servers together or apart, as the user hints.

It honours Nova's scheduler hints ``same_host`` and ``different_host``: one
server id or a list of them. A host that doesn't match is refused; with the
option ``soft`` it only counts for less.
"""

from __future__ import annotations

from collections.abc import Iterable

from oslo_config import cfg

from novalite.scheduler.base import Hook, HostState, Request


class AffinityHook(Hook):
    """Places servers with, or away from, the servers named in the hints."""

    name = "affinity"
    options = (
        cfg.BoolOpt("soft", default=False, help="Prefer hosts that match instead of refusing the others."),
        cfg.FloatOpt("weight", default=1.0, help="With soft: how much one matching server counts."),
    )

    def reject(self, request: Request, host: HostState) -> str | None:
        """Refuse a host without a server of ``same_host``, or with one of ``different_host``."""
        if self.settings["soft"]:
            return None
        wanted, unwanted = _ids(request.hints.get("same_host")), _ids(request.hints.get("different_host"))
        if wanted and not wanted & host.instance_ids:
            return f"runs none of the servers of same_host: {', '.join(sorted(wanted))}"
        if met := unwanted & host.instance_ids:
            return f"runs servers of different_host: {', '.join(sorted(met))}"
        return None

    def weigh(self, request: Request, host: HostState) -> float:
        """Count the servers that it's good, less those that it's bad to meet there."""
        good = _ids(request.hints.get("same_host")) & host.instance_ids
        bad = _ids(request.hints.get("different_host")) & host.instance_ids
        return float(self.settings["weight"] * (len(good) - len(bad)))


def _ids(hint: object) -> frozenset[str]:
    if isinstance(hint, str):
        return frozenset({hint})
    return frozenset(str(one) for one in hint) if isinstance(hint, Iterable) else frozenset()
