"""What doing any task needs: when to give it up, and how a failure is told."""

from __future__ import annotations

import logging
from collections.abc import Callable

from novalite.compute.leases import Stopping, Superseded
from novalite.config import Settings
from novalite.db import Database
from novalite.errors import InvalidInput, NovaliteError, StaleRecord, Unsupported
from novalite.model import Fault, Server, VmState
from novalite.virt.base import OFF, PowerAction, PowerState, VirtCap, VirtDriver

LOG = logging.getLogger(__name__)
INTERRUPTED = (Superseded, Stopping, StaleRecord)


class Worker:
    """Base of what does tasks."""

    def __init__(self, settings: Settings, database: Database, driver: VirtDriver) -> None:
        self._settings = settings
        self._database = database
        self._driver = driver

    def attempt(self, server: Server, act: Callable[[], None]) -> tuple[bool, Fault | None]:
        """Do one attempt: tell whether the task has ended, and with which fault.

        One that may be repeated is given back, and has not ended.
        """
        if self.spent(server):
            return True, self.spent_fault(server)
        try:
            act()
        except INTERRUPTED:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the server's owner is told
            fault = self.fault(server, error)
            if self.worth_retrying(server, error):
                self._database.work.release(server)
                return False, None
            return True, fault
        return True, None

    def end(self, server: Server) -> None:
        """Have a guest shut down, if it is there and on."""
        if self.state(server) not in (None, *OFF):
            self._driver.set_power(server.id, PowerAction.STOP)

    def state(self, server: Server) -> PowerState | None:
        """Tell a guest's power state, None when it's gone."""
        return self._driver.list_states().get(server.id)

    def demand(self, capability: VirtCap) -> None:
        """Raise Unsupported unless the driver has a capability."""
        if capability not in self._driver.capabilities:
            raise Unsupported(f"virt driver {self._driver.name} can't do that: it lacks {capability.name}")

    def quietly(self, server: Server, act: Callable[[], None]) -> None:
        """Bring back what a failed task has changed, as far as that can be."""
        try:
            act()
        except NovaliteError as error:
            LOG.warning("server %s: can't be brought back to what it was: %s", server.id, error)

    def worth_retrying(self, server: Server, error: Exception) -> bool:
        """Tell whether a later attempt may succeed."""
        again = server.attempts < self._settings.scheduler.max_attempts
        return again and isinstance(error, NovaliteError) and error.retryable

    def spent(self, server: Server) -> bool:
        """Tell whether there were attempts enough."""
        return server.attempts > self._settings.scheduler.max_attempts

    def spent_fault(self, server: Server) -> Fault:
        """Say that all attempts were cut short."""
        begun = f"{server.task_state} was begun {server.attempts - 1} times on host {server.host}"
        return Fault(500, f"{begun} and never ended")

    def fault(self, server: Server, error: Exception) -> Fault:
        """Make of an error what the server's owner is told."""
        self.log(server, error)
        told = str(error) if isinstance(error, NovaliteError) else f"{type(error).__name__}: {error}"
        return Fault(400 if isinstance(error, InvalidInput) else 500, told)

    @staticmethod
    def log(server: Server, error: Exception) -> None:
        """Log an error, with its trace when nobody expected it."""
        unexpected = not isinstance(error, NovaliteError)
        LOG.warning("server %s: %s failed: %s", server.id, server.task_state, error, exc_info=unexpected)


def state_by_power(state: PowerState | None) -> VmState:
    """Tell what a server is by what its guest is, when there is nothing else to it."""
    if state is None:
        return VmState.ERROR
    states = {PowerState.PAUSED: VmState.PAUSED, PowerState.RUNNING: VmState.ACTIVE}
    return states.get(state, VmState.STOPPED)
