"""The scheduler's view of all hosts, of which only what has changed is read again.

A host's generation moves on with everything that schedulers decide by, so
what was read at a generation is true for as long as the host has it. What a
decision costs thus doesn't grow with the number of servers. A view that has
become old meanwhile does no harm: a claim is a compare-and-set.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace

from novalite.db.hosts import HostRecords
from novalite.model import ComputeHost
from novalite.scheduler.base import HostState
from novalite.scheduler.selection import state_of


@dataclass(frozen=True, slots=True)
class Seen:
    """A host as it was read, and what hooks and drivers see of it."""

    host: ComputeHost
    state: HostState


class HostView:
    """All hosts as they are when ``read`` is called; thread-safe."""

    def __init__(self, hosts: HostRecords) -> None:
        self._hosts = hosts
        self._lock = threading.Lock()
        self._seen: dict[str, Seen] = {}

    def read(self) -> Mapping[str, Seen]:
        """Return the hosts by name."""
        marks = self._hosts.marks()
        with self._lock:
            known = dict(self._seen)
        stale = [
            mark.name
            for mark in marks
            if (seen := known.get(mark.name)) is None or seen.host.generation != mark.generation
        ]
        known.update((host.name, Seen(host, state_of(host))) for host in self._hosts.some(stale))
        found = {}
        for mark in marks:
            seen = known.get(mark.name)
            if seen is None:
                continue  # it went meanwhile
            if seen.host.up != mark.up:
                told = replace(seen.host, up=mark.up, heartbeat_at=mark.heartbeat_at)
                seen = Seen(told, seen.state)
            found[mark.name] = seen
        with self._lock:
            self._seen = found
        return found
