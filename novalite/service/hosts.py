"""What may be asked of hosts and availability zones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from novalite.db import Database
from novalite.errors import InvalidInput
from novalite.model import Caller, ComputeHost, Server, Zone
from novalite.service.checks import demand_admin
from novalite.service.orders import demand_admin_for


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
        demand_admin_for(caller, "os_compute_api:os-services:update")
        return self._hosts.set_forced_down(name, forced_down=forced_down)

    def of(self, servers: Iterable[Server]) -> dict[str, ComputeHost]:
        """Map the names of servers' hosts to them, without what is claimed there."""
        names = {server.host for server in servers if server.host is not None}
        return {host.name: host for host in self._hosts.briefly(names)}

    def delete(self, caller: Caller, name: str) -> None:
        """Forget a host without servers; raise Forbidden, NotFound or Conflict."""
        demand_admin_for(caller, "os_compute_api:os-services:delete")
        self._hosts.delete(name)

    def servers(self, caller: Caller, names: Collection[str]) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Map hosts to the ids and names of their servers; raise Forbidden."""
        demand_admin_for(caller, "os_compute_api:os-hypervisors:servers")
        return self._hosts.servers(names)

    def uptime(self, caller: Caller, name: str) -> str:
        """Ask a host how long it is up; raise Forbidden, NotFound, and InvalidInput when it's down."""
        demand_admin_for(caller, "os_compute_api:os-hypervisors:uptime")
        host = self._hosts.get(name)
        if not host.up or host.uptime is None:
            raise InvalidInput(f"Compute service of {name} is unavailable at this time.")
        return host.uptime

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
