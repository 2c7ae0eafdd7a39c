"""What may be asked of hosts and availability zones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from novalite.db import Database
from novalite.errors import InvalidInput
from novalite.model import Caller, ComputeHost, Server, Zone
from novalite.policy import NOBODYS, Policy

HYPERVISORS = "os_compute_api:os-hypervisors:"
SERVICES = "os_compute_api:os-services:"
ZONES = "os_compute_api:os-availability-zone:"


class Hosts:
    """The use cases of hosts; thread-safe.

    A host is a hypervisor and a service: what is done by one name or the
    other has rules of its own.
    """

    def __init__(self, database: Database, policy: Policy) -> None:
        self._hosts = database.hosts
        self._policy = policy

    def hypervisors(self, caller: Caller, operation: str = "list") -> tuple[ComputeHost, ...]:
        """Return all hosts by name for an operation on hypervisors; raise Forbidden."""
        self._policy.check(caller, f"{HYPERVISORS}{operation}", NOBODYS)
        return self._hosts.list()

    def services(self, caller: Caller, operation: str = "list") -> tuple[ComputeHost, ...]:
        """Return all hosts by name for an operation on services; raise Forbidden."""
        self._policy.check(caller, f"{SERVICES}{operation}", NOBODYS)
        return self._hosts.list()

    def show(self, caller: Caller, name: str) -> ComputeHost:
        """Return one host; raise Forbidden or NotFound."""
        self._policy.check(caller, f"{HYPERVISORS}show", NOBODYS)
        return self._hosts.get(name)

    def set_enabled(
        self, caller: Caller, name: str, enabled: bool, *, reason: str | None = None
    ) -> ComputeHost:
        """Say whether a host may get new servers; raise Forbidden or NotFound."""
        self._policy.check(caller, f"{SERVICES}update", NOBODYS)
        return self._hosts.set_enabled(name, enabled=enabled, reason=None if enabled else reason)

    def set_forced_down(self, caller: Caller, name: str, forced_down: bool) -> ComputeHost:
        """Say that a host is down, or that it is no longer so; raise Forbidden or NotFound.

        Whoever says so knows that no guest runs there any more: its servers
        may then be evacuated at once.
        """
        self._policy.check(caller, f"{SERVICES}update", NOBODYS)
        return self._hosts.set_forced_down(name, forced_down=forced_down)

    def of(self, servers: Iterable[Server]) -> dict[str, ComputeHost]:
        """Map the names of servers' hosts to them, without what is claimed there."""
        names = {server.host for server in servers if server.host is not None}
        return {host.name: host for host in self._hosts.briefly(names)}

    def delete(self, caller: Caller, name: str) -> None:
        """Forget a host without servers; raise Forbidden, NotFound or Conflict."""
        self._policy.check(caller, f"{SERVICES}delete", NOBODYS)
        self._hosts.delete(name)

    def servers(self, names: Collection[str]) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Map hosts that the caller was shown to the ids and names of their servers."""
        return self._hosts.servers(names)

    def uptime(self, caller: Caller, name: str) -> str:
        """Ask a host how long it is up; raise Forbidden, NotFound, and InvalidInput when it's down."""
        self._policy.check(caller, f"{HYPERVISORS}uptime", NOBODYS)
        host = self._hosts.get(name)
        if not host.up or host.uptime is None:
            raise InvalidInput(f"Compute service of {name} is unavailable at this time.")
        return host.uptime

    def zones(self, caller: Caller, *, detail: bool = False) -> tuple[Zone, ...]:
        """Return the zones by name, in ``detail`` with their hosts; raise Forbidden."""
        self._policy.check(caller, f"{ZONES}{'detail' if detail else 'list'}", NOBODYS)
        hosts: dict[str, list[ComputeHost]] = defaultdict(list)
        for host in self._hosts.list():
            hosts[host.zone].append(host)
        return tuple(
            Zone(
                name,
                available=any(host.up and host.enabled for host in inside),
                hosts=tuple(inside) if detail else (),
            )
            for name, inside in sorted(hosts.items())
        )
