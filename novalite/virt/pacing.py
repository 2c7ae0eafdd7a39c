"""How long a libvirt guest may take to another host, and how it is brought to an end.

The options are Nova's, with its defaults and its way to count: by the GiB of
what is sent. Time is libvirt's own count, which goes on while our process is
started again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import libvirt
from oslo_config import cfg

from novalite.errors import HypervisorDown, InstanceNotFound, InvalidState, MigrationTimedOut
from novalite.virt import guest

ABORT, FORCE_COMPLETE = "abort", "force_complete"
OPTIONS = (
    cfg.BoolOpt(
        "live_migration_with_native_tls",
        default=False,
        help="Send guests that run, memory and disks, encrypted by QEMU. Both hosts' libvirtds need "
        "certificates for it (migrate_tls_x509_cert_dir in qemu.conf).",
    ),
    cfg.IntOpt(
        "live_migration_bandwidth",
        default=0,
        min=0,
        help="MiB a second at which a guest that runs is sent at most; 0 leaves it to the hypervisor.",
    ),
    cfg.IntOpt(
        "live_migration_downtime",
        default=500,
        min=100,
        help="Milliseconds for which a guest may stand still when it goes over to its new host, in the end.",
    ),
    cfg.IntOpt(
        "live_migration_downtime_steps",
        default=10,
        min=3,
        help="Steps in which that is reached; the first is one part of so many.",
    ),
    cfg.IntOpt(
        "live_migration_downtime_delay",
        default=75,
        min=3,
        help="Seconds from one step to the next for each GiB of memory and disk, of either 2 at least.",
    ),
    cfg.IntOpt(
        "live_migration_completion_timeout",
        default=800,
        min=0,
        help="Seconds within which a guest has to be on its new host, for each GiB of memory and disk, of "
        "either 2 at least; 0 is no limit.",
    ),
    cfg.StrOpt(
        "live_migration_timeout_action",
        default=ABORT,
        choices=[
            (ABORT, "it stays where it is"),
            (FORCE_COMPLETE, "it is paused until it is there"),
        ],
        help="What becomes of a guest that isn't there by then.",
    ),
)
_PREFIX = "live_migration_"
_LEAST_GIB = 2.0


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms guests are sent: what the options of these names say."""

    with_native_tls: bool
    bandwidth: int
    downtime: int
    downtime_steps: int
    downtime_delay: int
    completion_timeout: int
    timeout_action: str

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Take them from a driver's settings."""
        return cls(**{each.name: settings[_PREFIX + each.name] for each in fields(cls)})

    def downtime_after(self, seconds: float, gib: float) -> int:
        """Return for how many milliseconds a guest of so many GiB may stand still by then."""
        first = self.downtime / self.downtime_steps
        step = min(int(seconds / (self.downtime_delay * gib)), self.downtime_steps)
        return int(first + (self.downtime - first) * step / self.downtime_steps)

    def timeout(self, gib: float) -> float:
        """Return within how many seconds a guest of so many GiB has to be there."""
        return self.completion_timeout * gib or float("inf")


class Pace:
    """Looks after one guest on its way; ``ask`` runs a function on its domain."""

    def __init__(
        self,
        ask: Callable[[Callable[[Any], Any]], Any],
        terms: Terms,
        size: float,
        hurry: Callable[[], bool],
    ) -> None:
        self._ask = ask
        self._terms = terms
        self._hurry = hurry
        self._paused = False
        self._downtime = 0
        self._gib = size

    def look(self) -> None:
        """Let it stand still for longer as time goes by, and pause it once there is hurry.

        libvirt has it go on where it arrives. Raises MigrationTimedOut when
        it has had its time and is to stay.
        """
        with contextlib.suppress(HypervisorDown, InstanceNotFound, InvalidState):  # it is just arriving
            seconds = self._ask(_seconds)
            if seconds is None:
                return
            timeout = self._terms.timeout(self._gib)
            late = seconds > timeout
            if late and self._terms.timeout_action == ABORT:
                raise MigrationTimedOut(f"the guest isn't on its new host after {timeout:.0f} s, and stays")
            downtime = self._terms.downtime_after(seconds, self._gib)
            if late or self._hurry():
                self._paused = self._paused or self._ask(_pause)
            elif downtime != self._downtime:
                self._ask(lambda dom: dom.migrateSetMaxDowntime(downtime))
                self._downtime = downtime

    def go_on(self) -> None:
        """Have a guest go on that stays here after all."""
        if self._paused:
            self._paused = False
            with contextlib.suppress(HypervisorDown, InstanceNotFound):
                self._ask(guest.start)


def _seconds(dom: Any) -> float | None:
    """Return for how long the guest has been sent, None for one that isn't."""
    kind, milliseconds, *_ = dom.jobInfo()
    return None if kind == libvirt.VIR_DOMAIN_JOB_NONE else milliseconds / 1000


def _pause(dom: Any) -> bool:
    """Pause a guest; tell whether it is so for the sake of its way, and wasn't before."""
    guest.pause(dom)
    return bool(dom.state()[1] == libvirt.VIR_DOMAIN_PAUSED_MIGRATION)


def gib(memory: int, disks: Iterable[int]) -> float:
    """Return how many GiB count as sent, of bytes of memory and of each disk."""
    return sum(max(_LEAST_GIB, size / (1 << 30)) for size in (memory, *disks))
