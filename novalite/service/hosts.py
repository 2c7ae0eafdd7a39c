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

    def set_forced_down(self, caller: Caller, name: str, forced_down: bool) -> ComputeHost:
        """Say that a host is down, or that it is no longer so; raise Forbidden or NotFound.

        Whoever says so knows that no guest runs there any more: its servers
        may then be evacuated at once.
        """
        demand_admin(caller, "say that hosts are down")
        return self._hosts.set_forced_down(name, forced_down=forced_down)

    def of(self, servers: Iterable[Server]) -> dict[str, ComputeHost]:
        """Map the names of servers' hosts to them, without what is claimed there."""
        names = {server.host for server in servers if server.host is not None}
        return {host.name: host for host in self._hosts.briefly(names)}

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
