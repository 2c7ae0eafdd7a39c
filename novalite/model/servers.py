"""Servers, and what they are asked to be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from novalite.model.basics import utcnow
from novalite.model.catalog import Flavor
from novalite.model.images import ImageInfo
from novalite.model.states import STATUS_OF_STATE, STATUS_OF_TASK, Status, TaskState, VmState


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a server is in error, as the API shows it."""

    code: int
    message: str
    created_at: datetime = field(default_factory=utcnow)


@dataclass(frozen=True, slots=True)
class Address:
    """One address of a server on one network."""

    network: str
    address: str
    mac: str
    version: int = 4
    kind: str = "fixed"


@dataclass(frozen=True, slots=True)
class Server:
    """One server's record.

    ``flavor`` and ``image`` are snapshots taken when it was created.
    ``version`` is the compare-and-set counter, 1 when new. ``attempts``
    counts how often a worker took up the present task, ``request_id`` tells
    the request that ordered it. ``lease_*`` tell who works on it.
    ``user_data`` is base64, as the caller sent it. ``locked_by`` is "owner"
    or "admin". ``task_args`` is what the present task needs to know, and ends
    with it; ``kept`` is what a later action needs: what there was before a
    resize, the image of a shelved server.
    """

    id: str
    name: str
    project: str
    user: str
    flavor: Flavor
    image: ImageInfo
    vm_state: VmState = VmState.BUILDING
    task_state: TaskState | None = TaskState.SCHEDULING
    power_state: str | None = None  # a virt.base.PowerState
    host: str | None = None
    zone: str | None = None  # the host's, once it has one
    forced_host: str | None = None
    key_name: str | None = None
    public_key: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    user_data: str | None = None
    config_drive: bool = False
    networks: str = "auto"  # or "none": no network card
    description: str | None = None
    locked_by: str | None = None
    locked_reason: str | None = None
    hints: Mapping[str, Any] = field(default_factory=dict)
    addresses: tuple[Address, ...] = ()
    fault: Fault | None = None
    reservation_id: str = ""
    launch_index: int = 0
    created_at: datetime = field(default_factory=utcnow)
    updated_at: datetime = field(default_factory=utcnow)
    launched_at: datetime | None = None
    terminated_at: datetime | None = None
    access_ipv4: str | None = None
    access_ipv6: str | None = None
    task_args: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)
    request_id: str | None = None
    attempts: int = 0
    tried_hosts: tuple[str, ...] = ()
    group_id: str | None = None  # the server group it's in
    hostname: str = ""  # the guest's; made of the name where nothing is said
    pinned_zone: str | None = None  # the zone that was asked for, where it stays
    version: int = 1
    lease_holder: str | None = None
    lease_until: datetime | None = None

    def __post_init__(self) -> None:
        if not self.hostname:
            object.__setattr__(self, "hostname", host_name(self.name, self.id))

    @property
    def status(self) -> Status:
        """Tell the status the Compute API shows."""
        if self.task_state in STATUS_OF_TASK and self.vm_state != VmState.DELETED:
            return STATUS_OF_TASK[self.task_state]
        return STATUS_OF_STATE[self.vm_state]


def host_name(name: str, server_id: str) -> str:
    """Make a guest's host name of a server's name: a DNS label."""
    label = re.sub(r"[ _.]+", "-", name.lower())
    label = re.sub(r"[^a-z0-9-]", "", label).strip("-")[:63].rstrip("-")
    return label or f"server-{server_id}"


@dataclass(frozen=True, slots=True)
class NewServer:
    """What ``ComputeService.servers.create`` is asked for.

    ``host`` is where they are to be; it is ``forced`` where the zone named it,
    which another rule lets callers do. ``asked_networks`` says that ``networks``
    are what the caller asked for, and not the default. From ``min_count`` up
    to ``max_count`` servers are made, as many as the quota allows.
    """

    name: str
    image_id: str
    flavor_id: str
    key_name: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    user_data: str | None = None
    config_drive: bool = False
    zone: str | None = None
    host: str | None = None
    forced: bool = True
    hints: Mapping[str, Any] = field(default_factory=dict)
    networks: str = "auto"
    asked_networks: bool = False
    description: str | None = None
    tags: frozenset[str] = frozenset()
    access_ipv4: str | None = None
    access_ipv6: str | None = None
    hostname: str | None = None
    admin_password: str | None = field(default=None, repr=False)
    min_count: int = 1
    max_count: int = 1


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What a server is to become; None leaves what it has."""

    image_id: str
    name: str | None = None
    metadata: Mapping[str, str] | None = None
    access_ipv4: str | None = None
    access_ipv6: str | None = None
    set_description: bool = False
    description: str | None = None
    set_key: bool = False
    key_name: str | None = None
    set_user_data: bool = False
    user_data: str | None = None
    hostname: str | None = None
    admin_password: str = field(default="", repr=False)
    preserve_ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is to be: on a host, in a zone; ``set_zone`` with no zone is in any."""

    host: str | None = None
    set_zone: bool = False
    zone: str | None = None


ANYWHERE = Place()
