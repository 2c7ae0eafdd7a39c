"""What else may be done to a server, and what was done.

Orders for the workers return when they are recorded, as in ``servers``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from novalite.db import Database
from novalite.errors import InvalidState
from novalite.model import Action, ActionQuery, Caller, Page, Server, TaskState, VmState
from novalite.policy import Policy
from novalite.rpc import Bus
from novalite.service.orders import Orders
from novalite.virt.diagnostics import Diagnostics


@dataclass(frozen=True, slots=True)
class Insight:
    """What a caller may see of the steps of an action: all of them, and what they failed of."""

    events: bool
    details: bool


class ServerActions:
    """The use cases of actions on servers; thread-safe."""

    def __init__(self, database: Database, bus: Bus, policy: Policy) -> None:
        self._database = database
        self._bus = bus
        self._policy = policy
        self._orders = Orders(database, bus, policy)

    def pause(self, caller: Caller, server_id: str) -> Server:
        """Order the guest's processors to be halted; raise InvalidState."""
        rule = "os_compute_api:os-pause-server:pause"
        return self._orders.act(caller, server_id, rule, "pause", TaskState.PAUSING, {VmState.ACTIVE})

    def unpause(self, caller: Caller, server_id: str) -> Server:
        """Order a paused guest to go on; raise InvalidState."""
        rule = "os_compute_api:os-pause-server:unpause"
        return self._orders.act(caller, server_id, rule, "unpause", TaskState.UNPAUSING, {VmState.PAUSED})

    def suspend(self, caller: Caller, server_id: str) -> Server:
        """Order the guest's memory to be kept on disk; raise InvalidState."""
        rule = "os_compute_api:os-suspend-server:suspend"
        return self._orders.act(caller, server_id, rule, "suspend", TaskState.SUSPENDING, {VmState.ACTIVE})

    def resume(self, caller: Caller, server_id: str) -> Server:
        """Order a suspended guest to go on; raise InvalidState."""
        rule = "os_compute_api:os-suspend-server:resume"
        return self._orders.act(caller, server_id, rule, "resume", TaskState.RESUMING, {VmState.SUSPENDED})

    def lock(self, caller: Caller, server_id: str, *, reason: str | None = None) -> Server:
        """Keep everybody but administrators from changing a server.

        What is locked already stays as its owner finds it: the lock of an
        administrator isn't made the owner's own.
        """

        def change(server: Server) -> dict[str, Any]:
            by = "owner" if _owns(caller, server) else "admin"
            if server.locked_by is not None and by == "owner":
                return {}
            return {"locked_by": by, "locked_reason": reason}

        rule = "os_compute_api:os-lock-server:lock"
        return self._orders.change(caller, server_id, rule, change, action="lock", lock=False)

    def unlock(self, caller: Caller, server_id: str) -> Server:
        """Take a lock away; that of somebody else a rule of its own lets callers.

        Raises Forbidden.
        """

        def change(server: Server) -> dict[str, Any]:
            if server.locked_by not in (None, "owner" if _owns(caller, server) else "admin"):
                self._policy.check(caller, "os_compute_api:os-lock-server:unlock:unlock_override", server)
            return {"locked_by": None, "locked_reason": None} if server.locked_by else {}

        rule = "os_compute_api:os-lock-server:unlock"
        return self._orders.change(caller, server_id, rule, change, action="unlock", lock=False)

    def reset_state(self, caller: Caller, server_id: str, *, active: bool) -> Server:
        """Declare a server active or in error; what was being done to it is called off.

        Raises Forbidden.
        """
        values = {
            "vm_state": VmState.ACTIVE if active else VmState.ERROR,
            "task_state": None,
            "attempts": 0,
            "lease_holder": None,
            "lease_until": None,
        }
        rule = "os_compute_api:os-admin-actions:reset_state"
        return self._orders.change(caller, server_id, rule, lambda _: values, lock=False)

    def list(
        self, caller: Caller, server_id: str, query: ActionQuery, *, deleted: bool = False
    ) -> Page[Action]:
        """Return a page of what was ordered of a server, newest first.

        ``deleted`` lets it be a deleted one. Raises ServerNotFound or InvalidInput.
        """
        self._orders.show(caller, server_id, "os_compute_api:os-instance-actions:list", deleted=deleted)
        return self._database.actions.list(server_id, query)

    def show(
        self, caller: Caller, server_id: str, request_id: str, *, deleted: bool = False
    ) -> tuple[Action, Insight]:
        """Return an action with its events, and what of them the caller may see.

        Raises ServerNotFound, Forbidden or NotFound.
        """
        rule = "os_compute_api:os-instance-actions:show"
        server = self._orders.show(caller, server_id, rule, deleted=deleted)
        insight = Insight(
            events=self._policy.allows(caller, "os_compute_api:os-instance-actions:events", server),
            details=self._policy.allows(caller, "os_compute_api:os-instance-actions:events:details", server),
        )
        return self._database.actions.get(server_id, request_id), insight

    def diagnostics(self, caller: Caller, server_id: str) -> tuple[Server, Diagnostics]:
        """Return a server and what its guest has used.

        Raises Forbidden, ServerNotFound, InvalidState for a server without a
        guest that runs, Unsupported, and Unavailable when the host is away.
        """
        server = self._orders.show(caller, server_id, "os_compute_api:os-server-diagnostics")
        if server.host is None:
            raise InvalidState(f"Instance {server_id} is not ready")
        return server, Diagnostics.of(self._bus.diagnostics(server.host, server_id))


def _owns(caller: Caller, server: Server) -> bool:
    return server.project == (caller.project or "")
