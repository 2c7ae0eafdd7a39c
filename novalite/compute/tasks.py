"""The tasks a compute host does on servers, each as often as needed.

A task is done by looking at what there is and making it what the record
asks for, so doing one again after a crash, or twice, does no harm. How it
ended is recorded under the lease; see ``db.work``.
"""

from __future__ import annotations

import logging

from novalite import faults
from novalite.compute.build import BaseImages, spec_of
from novalite.compute.leases import Stopping, Superseded, Work
from novalite.config import Settings
from novalite.db import Database
from novalite.errors import InvalidInput, NotFound, NovaliteError, QueueDown, StaleRecord, Unsupported
from novalite.model import Fault, Server, TaskState, VmState
from novalite.rpc import Bus
from novalite.virt.base import NEEDS, PowerAction, PowerState, VirtCap, VirtDriver

LOG = logging.getLogger(__name__)

# Neither time nor another host helps against these.
_HOPELESS = (InvalidInput, NotFound, Unsupported)
_INTERRUPTED = (Superseded, Stopping, StaleRecord)
_POWER = {
    TaskState.POWERING_ON: PowerAction.START,
    TaskState.POWERING_OFF: PowerAction.STOP,
    TaskState.REBOOTING: PowerAction.SOFT_REBOOT,
    TaskState.REBOOTING_HARD: PowerAction.HARD_REBOOT,
    TaskState.PAUSING: PowerAction.PAUSE,
    TaskState.UNPAUSING: PowerAction.UNPAUSE,
    TaskState.SUSPENDING: PowerAction.SUSPEND,
    TaskState.RESUMING: PowerAction.RESUME,
}


class Tasks:
    """Does the task of a server that this process holds the lease of."""

    def __init__(
        self, settings: Settings, database: Database, bus: Bus, driver: VirtDriver, bases: BaseImages
    ) -> None:
        self._settings = settings
        self._database = database
        self._bus = bus
        self._driver = driver
        self._bases = bases

    def do(self, work: Work) -> None:
        """Do the task, record how it ended, or leave it for later.

        Raises Superseded or StaleRecord when the server must be looked at
        again, and Stopping when this process is to end.
        """
        task = work.server.task_state
        if task == TaskState.SPAWNING:
            self._spawn(work)
        elif task == TaskState.DELETING:
            self._delete(work)
        elif task in _POWER:
            self._power(work, _POWER[task])

    def _spawn(self, work: Work) -> None:
        server = work.server
        if self._spent(server):
            return self._end_build(server, self._spent_fault(server))
        try:
            if server.attempts > 1 and self._driver.list_states().get(server.id) != PowerState.RUNNING:
                # What an attempt that was cut short has left isn't to be built upon.
                self._driver.destroy(server.id)
            with self._bases.of(server, work.check) as base:
                work.check()
                faults.passing("image-ready")
                self._driver.spawn(spec_of(server, base, self._settings))
        except _INTERRUPTED:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the server's owner is told
            return self._build_failed(server, error)
        faults.passing("guest-made")
        self._database.work.built(server, power_state=PowerState.RUNNING)
        LOG.info("server %s runs", server.id)
        return None

    def _build_failed(self, server: Server, error: Exception) -> None:
        fault = self._fault(server, error)
        if isinstance(error, _HOPELESS):
            return self._end_build(server, fault)
        if self._other_hosts(server):
            self._clean(server)
            self._database.work.reschedule(server, fault)
            try:
                self._bus.schedule(server.id)
            except QueueDown as down:
                LOG.warning("server %s: a scheduler will find it by itself: %s", server.id, down)
            return None
        if self._worth_retrying(server, error):
            return self._database.work.release(server)
        return self._end_build(server, fault)

    def _other_hosts(self, server: Server) -> list[str]:
        tried = {*server.tried_hosts, self._settings.host}
        if server.forced_host is not None or len(tried) >= self._settings.scheduler.max_attempts:
            return []
        return [
            host.name
            for host in self._database.hosts.list()
            if host.up and host.enabled and host.name not in tried
        ]

    def _end_build(self, server: Server, fault: Fault) -> None:
        self._clean(server)
        self._database.work.failed(server, fault)

    def _clean(self, server: Server) -> None:
        try:
            self._driver.destroy(server.id)
        except Exception as error:  # noqa: BLE001 - nothing may keep the failure from being recorded
            # It isn't placed here any more, so the next sweep finds it.
            LOG.warning("server %s: not cleaned up yet: %s", server.id, error)

    def _delete(self, work: Work) -> None:
        server = work.server
        try:
            self._driver.destroy(server.id)
        except Exception as error:  # noqa: BLE001 - see below
            # A delete is never given up: it stays to be done until it succeeds.
            self._log(server, error)
            return self._database.work.release(server)
        faults.passing("guest-removed")
        self._database.work.deleted(server)
        LOG.info("server %s is deleted", server.id)
        return None

    def _power(self, work: Work, action: PowerAction) -> None:
        server = work.server
        fault: Fault | None = None
        if self._spent(server):
            fault = self._spent_fault(server)
        else:
            try:
                self._demand(NEEDS.get(action, VirtCap.NONE))
                self._driver.set_power(server.id, action)
            except Exception as error:  # noqa: BLE001 - whatever it is, the server's owner is told
                fault = self._fault(server, error)
                if self._worth_retrying(server, error):
                    return self._database.work.release(server)
        state = self._driver.list_states().get(server.id)
        faults.passing("power-changed")
        work.check()
        if state is None:
            fault = fault or Fault(500, f"the instance is gone from host {server.host}")
        vm_state = _state_after(server, state, failed=fault is not None)
        self._database.work.powered(server, vm_state=vm_state, power_state=state, fault=fault)
        return None

    def _demand(self, capability: VirtCap) -> None:
        if capability not in self._driver.capabilities:
            raise Unsupported(f"virt driver {self._driver.name} can't do that: it lacks {capability.name}")

    def _worth_retrying(self, server: Server, error: Exception) -> bool:
        again = server.attempts < self._settings.scheduler.max_attempts
        return again and isinstance(error, NovaliteError) and error.retryable

    def _spent(self, server: Server) -> bool:
        return server.attempts > self._settings.scheduler.max_attempts

    def _spent_fault(self, server: Server) -> Fault:
        begun = f"{server.task_state} was begun {server.attempts - 1} times on host {server.host}"
        return Fault(500, f"{begun} and never ended")

    def _fault(self, server: Server, error: Exception) -> Fault:
        self._log(server, error)
        told = str(error) if isinstance(error, NovaliteError) else f"{type(error).__name__}: {error}"
        return Fault(400 if isinstance(error, InvalidInput) else 500, told)

    @staticmethod
    def _log(server: Server, error: Exception) -> None:
        unexpected = not isinstance(error, NovaliteError)
        LOG.warning("server %s: %s failed: %s", server.id, server.task_state, error, exc_info=unexpected)


def _state_after(server: Server, state: PowerState | None, *, failed: bool) -> VmState:
    """Tell what a server is after a power action, by the state its guest has."""
    if state is None:
        return VmState.ERROR
    if state == PowerState.PAUSED:
        return VmState.PAUSED
    if state not in (PowerState.SHUTDOWN, PowerState.CRASHED):
        return VmState.ACTIVE
    # A suspended guest has no power either, and one that couldn't go on still waits to.
    suspended = {TaskState.SUSPENDING: not failed, TaskState.RESUMING: failed}
    return VmState.SUSPENDED if suspended.get(server.task_state) else VmState.STOPPED  # type: ignore[arg-type]
