"""The scheduler's contracts: one driver picks, any number of hooks advise.

All are pure functions on frozen values: no database, no queue, no clock.

- A hook's ``reject`` says why a host can't take the request, or None; a
  hook that raises refuses the host, with the exception as the reason.
- A hook's ``weigh`` says how good the host is, higher being better; the
  weights of all hooks add up. Drivers that look at load use them.
- A hook's ``discount`` says how much of the host's load is to be overlooked;
  they add up as well. A weight decides whatever the load; a discount makes
  a host that is only that much more loaded win.
- The driver's ``pick`` gets the hosts that nobody rejected, never an empty
  tuple, and returns one of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from novalite.groupings import GroupPlaces


@dataclass(frozen=True, slots=True)
class HostState:
    """One compute host that is up. Memory in MiB, disk in GiB."""

    name: str
    zone: str
    vcpus: int
    vcpus_used: int
    memory_mb: int
    memory_mb_used: int
    disk_gb: int
    disk_gb_used: int
    instances: int
    virt_type: str
    arch: str
    hypervisor_type: str = ""
    hypervisor_version: str = ""
    instance_ids: frozenset[str] = frozenset()  # what is placed here
    weight: float = 0.0  # the sum of the hooks' weights
    discount: float = 0.0  # the sum of the hooks' discounts, shares of a host
    images: frozenset[str] = frozenset()  # ids of images that it has fetched already, the latest used


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. Memory in MiB, disk in GiB."""

    instance_id: str
    project: str | None
    vcpus: int
    memory_mb: int
    disk_gb: int
    zone: str | None = None
    image_properties: Mapping[str, str] = field(default_factory=dict)
    extra_specs: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)
    group: GroupPlaces | None = None  # where the others of its server group are
    image_id: str = ""  # what its host has to have; empty where a disk comes with the server


class Driver(ABC):
    """Base class of scheduler drivers, entry points ``novalite.scheduler.drivers``."""

    name: ClassVar[str]

    @abstractmethod
    def pick(self, request: Request, hosts: tuple[HostState, ...]) -> HostState:
        """Return one of ``hosts``, which is never empty.

        Raises NoValidHost when none of them will do.
        """


class Hook:
    """Base class of scheduler hooks, entry points ``novalite.scheduler.hooks``.

    Override any of the three methods. ``options`` are oslo.config options; ``settings``
    maps their names to values. They stand in the configuration section
    ``group``, which is the hook's name where it says nothing else. A hook
    that is ``always`` asked has a say even where an administrator forces a
    server onto a host.
    """

    name: ClassVar[str]
    group: ClassVar[str | None] = None
    always: ClassVar[bool] = False
    options: ClassVar[tuple[Any, ...]] = ()

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        known = {opt.dest: opt.default for opt in self.options}
        self.settings: Mapping[str, Any] = {**known, **(settings or {})}

    def reject(self, request: Request, host: HostState) -> str | None:
        """Return why ``host`` can't take ``request``, or None if it can."""
        return None

    def weigh(self, request: Request, host: HostState) -> float:
        """Return how good ``host`` is for ``request``; 0.0 is neutral."""
        return 0.0

    def discount(self, request: Request, host: HostState) -> float:
        """Return how much of the load of ``host`` to overlook: 0.1 is a tenth of it, 0.0 nothing."""
        return 0.0
