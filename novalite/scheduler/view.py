"""The scheduler's view of all hosts, of which only what has changed is read again.

A host's generation moves on with everything that schedulers decide by, so
what was read at a generation is true for as long as the host has it, and one's
own claim tells what the next is. What a decision costs thus doesn't grow with
the number of servers. A view that has become old meanwhile does no harm: a
claim is a compare-and-set.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from datetime import datetime

from novalite.db.hosts import HostRecords
from novalite.model import ComputeHost, Flavor
from novalite.scheduler.base import HostState
from novalite.scheduler.selection import state_of


@dataclass(frozen=True, slots=True)
class Seen:
    """A host as it was read, and what hooks and drivers see of it."""

    host: ComputeHost
    state: HostState


class HostView:
    """All hosts as they are when ``read`` is called; thread-safe.

    What ``read`` returns is never changed afterwards.
    """

    def __init__(self, hosts: HostRecords) -> None:
        self._hosts = hosts
        self._lock = threading.Lock()
        self._seen: Mapping[str, Seen] = {}
        self._generations: Mapping[str, int] = {}
        self._down: Mapping[str, datetime] = {}
        self._images: Mapping[str, frozenset[str]] = {}  # by their digests, which hosts may share

    def read(self) -> Mapping[str, Seen]:
        """Return the hosts by name."""
        with self._lock:
            known, images = self._generations, self._images
        look = self._hosts.look(known, images.keys())
        with self._lock:
            # Another thread may know better by now: what it has learnt meanwhile is left to it,
            # unless it's older. A host that was deleted and is back begins with any generation.
            now = self._generations
            self._forget({name for name in look.gone if now.get(name) == known[name]})
            if look.images:
                self._images = {**images, **self._images, **look.images}
            self._know(
                [
                    host
                    for host in look.changed
                    if now.get(host.name) == known.get(host.name) or host.generation > now[host.name]
                ]
            )
            if look.images:
                used = {each.host.images_digest for each in self._seen.values()}
                self._images = {digest: each for digest, each in self._images.items() if digest in used}
            if look.down != self._down:
                self._tell_down(look.down)
            return self._seen

    def claimed(self, host: ComputeHost, flavor: Flavor, server_id: str) -> None:
        """Take along that a server of a flavor was placed on a host which was read here."""
        after = replace(
            host,
            vcpus_used=host.vcpus_used + flavor.vcpus,
            memory_mb_used=host.memory_mb_used + flavor.memory_mb,
            disk_gb_used=host.disk_gb_used + flavor.disks_gb,
            server_ids=host.server_ids | {server_id},
            generation=host.generation + 1,
        )
        with self._lock:
            if self._generations.get(host.name) == host.generation:
                self._know([after])

    def _forget(self, names: Set[str]) -> None:
        if names:
            self._seen = {name: seen for name, seen in self._seen.items() if name not in names}
            self._generations = {name: self._generations[name] for name in self._seen}

    def _know(self, hosts: list[ComputeHost]) -> None:
        if hosts:
            self._seen = {**self._seen, **{host.name: self._seen_as(host) for host in hosts}}
            self._generations = {**self._generations, **{host.name: host.generation for host in hosts}}

    def _seen_as(self, host: ComputeHost) -> Seen:
        return Seen(host, state_of(host, self._images.get(host.images_digest or "", frozenset())))

    def _tell_down(self, down: Mapping[str, datetime]) -> None:
        told = {}
        for name in down.keys() | self._down.keys():
            if (seen := self._seen.get(name)) is not None:
                up, beat = name not in down, down.get(name, seen.host.heartbeat_at)
                told[name] = Seen(replace(seen.host, up=up, heartbeat_at=beat), seen.state)
        self._seen = {**self._seen, **told}
        self._down = dict(down)
