"""The simple scheduler: the least loaded host."""

from __future__ import annotations

from novalite.scheduler.base import Driver, HostState, Request


def load_of(host: HostState) -> float:
    """Tell the largest share that is in use, of CPUs or memory."""
    cpus = host.vcpus_used / host.vcpus if host.vcpus else 1.0
    memory = host.memory_mb_used / host.memory_mb if host.memory_mb else 1.0
    return max(cpus, memory)


class SimpleDriver(Driver):
    """Pick the host the hooks weigh highest, and of equals the least loaded, less their discounts."""

    name = "simple"

    def pick(self, request: Request, hosts: tuple[HostState, ...]) -> HostState:
        """Return the best host; names decide between wholly equal ones."""
        return min(
            hosts, key=lambda host: (-host.weight, load_of(host) - host.discount, host.instances, host.name)
        )
