"""The tasks a compute host does on servers, each as often as needed.

A task is done by looking at what there is and making it what the record
asks for, so doing one again after a crash, or twice, does no harm. How it
ended is recorded under the lease; see ``db.work``.
"""

from __future__ import annotations

import logging

from novalite import faults
from novalite.compute.build import BaseImages, spec_of, with_image
from novalite.compute.carrying import Places
from novalite.compute.changes import Changes
from novalite.compute.leases import Work
from novalite.compute.live import LiveMoves
from novalite.compute.moves import Moves, moved
from novalite.compute.snapshots import Snapshots
from novalite.compute.worker import INTERRUPTED, Worker
from novalite.config import Settings
from novalite.db import Database
from novalite.errors import InvalidInput, NotFound, QueueDown, Unsupported
from novalite.images import Images
from novalite.model import Fault, Server, TaskState, VmState
from novalite.rpc import Bus
from novalite.virt.base import NEEDS, OFF, PowerAction, PowerState, VirtCap, VirtDriver

LOG = logging.getLogger(__name__)

# Neither time nor another host helps against these.
_HOPELESS = (InvalidInput, NotFound, Unsupported)
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


class Tasks(Worker):
    """Does the task of a server that this process holds the lease of."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        bus: Bus,
        driver: VirtDriver,
        bases: BaseImages,
        images: Images,
        places: Places,
    ) -> None:
        super().__init__(settings, database, driver)
        self._bus = bus
        self._bases = bases
        changes = Changes(settings, database, driver, bases)
        snapshots = Snapshots(settings, database, driver, images)
        moves = Moves(settings, database, bus, driver, bases, places)
        live = LiveMoves(settings, database, bus, driver, bases, places)
        self._others = {**changes.tasks, **snapshots.tasks, **moves.tasks, **live.tasks}
        self._of_moved = moves.of_moved

    def do(self, work: Work) -> None:
        """Do the task, record how it ended, or leave it for later.

        Raises Superseded or StaleRecord when the server must be looked at
        again, and Stopping when this process is to end.
        """
        task = work.server.task_state
        if task is None:
            return
        if task == TaskState.SPAWNING:
            self._spawn(work)
        elif task == TaskState.DELETING:
            self._delete(work)
        elif task in _POWER:
            self._power(work, _POWER[task])
        elif task in self._of_moved and moved(work.server):
            self._of_moved[task](work)
        elif task in self._others:
            self._others[task](work)

    def _spawn(self, work: Work) -> None:
        server = work.server
        if self.spent(server):
            return self._end_build(server, self.spent_fault(server))
        try:
            if server.attempts > 1 and self._driver.list_states().get(server.id) != PowerState.RUNNING:
                # What an attempt that was cut short has left isn't to be built upon.
                self._driver.destroy(server.id)
            source = with_image(server)
            with self._bases.of(source, work.check) as base:
                work.check()
                faults.passing("image-ready")
                self._driver.spawn(spec_of(source, base, self._settings))
        except INTERRUPTED:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the server's owner is told
            return self._build_failed(server, error)
        faults.passing("guest-made")
        self._database.work.built(server, power_state=PowerState.RUNNING)
        LOG.info("server %s runs", server.id)
        return None

    def _build_failed(self, server: Server, error: Exception) -> None:
        fault = self.fault(server, error)
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
        if self.worth_retrying(server, error):
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
            self.log(server, error)
            return self._database.work.release(server)
        faults.passing("guest-removed")
        self._database.work.deleted(server)
        LOG.info("server %s is deleted", server.id)
        return None

    def _power(self, work: Work, action: PowerAction) -> None:
        server = work.server
        fault: Fault | None = None
        if self.spent(server):
            fault = self.spent_fault(server)
        else:
            try:
                self.demand(NEEDS.get(action, VirtCap.NONE))
                self._driver.set_power(server.id, action)
            except Exception as error:  # noqa: BLE001 - whatever it is, the server's owner is told
                fault = self.fault(server, error)
                if self.worth_retrying(server, error):
                    return self._database.work.release(server)
        state = self._driver.list_states().get(server.id)
        faults.passing("power-changed")
        work.check()
        if state is None:
            fault = fault or Fault(500, f"the instance is gone from host {server.host}")
        vm_state = _state_after(server, state, failed=fault is not None)
        self._database.work.powered(server, vm_state=vm_state, power_state=state, fault=fault)
        return None


def _state_after(server: Server, state: PowerState | None, *, failed: bool) -> VmState:
    """Tell what a server is after a power action, by the state its guest has."""
    if state is None:
        return VmState.ERROR
    if state == PowerState.PAUSED:
        return VmState.PAUSED
    if state not in OFF:
        return VmState.ACTIVE
    # A suspended guest has no power either, and one that couldn't go on still waits to.
    suspended = {TaskState.SUSPENDING: not failed, TaskState.RESUMING: failed}
    return VmState.SUSPENDED if suspended.get(server.task_state) else VmState.STOPPED  # type: ignore[arg-type]
