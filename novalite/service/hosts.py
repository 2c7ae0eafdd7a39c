"""What may be asked of hosts and availability zones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from novalite.db import Database
from novalite.model import Caller, ComputeHost, Server, Zone
from novalite.service.checks import demand_admin


class Hosts:
    """The use cases of hosts; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._hosts = database.hosts

    def list(self, caller: Caller) -> tuple[ComputeHost, ...]:
        """Return all hosts by name; raise Forbidden."""
        demand_admin(caller, "list hosts")
        return self._hosts.list()

    def of(self, caller: Caller, servers: Iterable[Server]) -> dict[str, ComputeHost]:
        """Map the names of servers' hosts to these, without what is claimed of them; raise Forbidden."""
        demand_admin(caller, "see hosts")
        found = self._hosts.states(server.host for server in servers if server.host is not None)
        return {host.name: host for host in found}

    def show(self, caller: Caller, name: str) -> ComputeHost:
        """Return one host; raise Forbidden or NotFound."""
        demand_admin(caller, "see hosts")
        return self._hosts.get(name)

    def set_enabled(
        self, caller: Caller, name: str, enabled: bool, *, reason: str | None = None
    ) -> ComputeHost:
        """Say whether a host may get new servers; raise Forbidden or NotFound."""
        demand_admin(caller, "enable or disable hosts")
        return self._hosts.set_enabled(name, enabled=enabled, reason=None if enabled else reason)

    def zones(self, caller: Caller) -> tuple[Zone, ...]:
        """Return the zones by name, for administrators with their hosts."""
        hosts: dict[str, list[ComputeHost]] = defaultdict(list)
        for host in self._hosts.list():
            hosts[host.zone].append(host)
        return tuple(
            Zone(
                name,
                available=any(host.up and host.enabled for host in inside),
                hosts=tuple(inside) if caller.admin else (),
            )
            for name, inside in sorted(hosts.items())
        )
