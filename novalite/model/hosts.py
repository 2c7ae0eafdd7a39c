"""Hosts that run servers, and zones of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from novalite.model.basics import utcnow


@dataclass(frozen=True, slots=True)
class ComputeHost:
    """One host that runs servers: what it offers, and what is claimed.

    ``zone`` is that of its aggregates, or else what the host itself says.
    ``generation`` counts changes of what schedulers decide by; a claim is
    a compare-and-set on it. ``up`` says whether its heartbeat is fresh and
    nobody has said that it is down all the same (``forced_down``).
    ``server_ids`` are the servers placed here; what is claimed by one that
    moves, its other host has as well. ``disks_url`` is where other hosts
    fetch disks of servers that leave. ``images_digest`` changes with which
    images it has.
    """

    name: str
    zone: str
    hypervisor_type: str
    hypervisor_version: str
    virt_type: str
    arch: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    ip: str | None = None
    console_url: str | None = None  # where its guests' consoles are served
    vcpus_used: int = 0
    memory_mb_used: int = 0
    disk_gb_used: int = 0
    server_ids: frozenset[str] = frozenset()
    enabled: bool = True
    disabled_reason: str | None = None
    forced_down: bool = False
    uptime: str | None = None  # in the words of the program of that name, at the last heartbeat
    up: bool = True
    heartbeat_at: datetime = field(default_factory=utcnow)
    generation: int = 0
    disks_url: str | None = None
    images_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Zone:
    """An availability zone; it is available when one of its hosts is up."""

    name: str
    available: bool
    hosts: tuple[ComputeHost, ...] = ()
