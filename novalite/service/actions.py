"""What else may be done to a server, and what was done.

Orders for the workers return when they are recorded, as in ``servers``.
"""

from __future__ import annotations

from typing import Any

from novalite.db import Database
from novalite.errors import InvalidState
from novalite.model import Action, ActionQuery, Caller, Page, Server, TaskState, VmState
from novalite.rpc import Bus
from novalite.service.orders import Orders, demand_admin_for
from novalite.virt.diagnostics import Diagnostics


class ServerActions:
    """The use cases of actions on servers; thread-safe."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._orders = Orders(database, bus)

    def pause(self, caller: Caller, server_id: str) -> Server:
        """Order the guest's processors to be halted; raise InvalidState."""
        return self._orders.act(caller, server_id, "pause", TaskState.PAUSING, {VmState.ACTIVE})

    def unpause(self, caller: Caller, server_id: str) -> Server:
        """Order a paused guest to go on; raise InvalidState."""
        return self._orders.act(caller, server_id, "unpause", TaskState.UNPAUSING, {VmState.PAUSED})

    def suspend(self, caller: Caller, server_id: str) -> Server:
        """Order the guest's memory to be kept on disk; raise InvalidState."""
        return self._orders.act(caller, server_id, "suspend", TaskState.SUSPENDING, {VmState.ACTIVE})

    def resume(self, caller: Caller, server_id: str) -> Server:
        """Order a suspended guest to go on; raise InvalidState."""
        return self._orders.act(caller, server_id, "resume", TaskState.RESUMING, {VmState.SUSPENDED})

    def lock(self, caller: Caller, server_id: str, *, reason: str | None = None) -> Server:
        """Keep everybody but administrators from changing a server.

        What is locked already stays as its owner finds it: the lock of an
        administrator isn't made the owner's own.
        """
        by = "owner" if self._owns(caller, server_id) else "admin"

        def change(server: Server) -> dict[str, Any]:
            if server.locked_by is not None and by == "owner":
                return {}
            return {"locked_by": by, "locked_reason": reason}

        return self._orders.change(caller, server_id, change, action="lock", lock=False)

    def unlock(self, caller: Caller, server_id: str) -> Server:
        """Take a lock away; an administrator's, only administrators may.

        Raises Forbidden.
        """
        owns = self._owns(caller, server_id)

        def change(server: Server) -> dict[str, Any]:
            if server.locked_by == "admin" and owns:
                demand_admin_for(caller, "os_compute_api:os-lock-server:unlock:unlock_override")
            return {"locked_by": None, "locked_reason": None} if server.locked_by else {}

        return self._orders.change(caller, server_id, change, action="unlock", lock=False)

    def reset_state(self, caller: Caller, server_id: str, *, active: bool) -> Server:
        """Declare a server active or in error; what was being done to it is called off.

        Raises Forbidden.
        """
        demand_admin_for(caller, "os_compute_api:os-admin-actions:reset_state")
        values = {
            "vm_state": VmState.ACTIVE if active else VmState.ERROR,
            "task_state": None,
            "attempts": 0,
            "lease_holder": None,
            "lease_until": None,
        }
        return self._orders.change(caller, server_id, lambda _: values, lock=False)

    def list(
        self, caller: Caller, server_id: str, query: ActionQuery, *, deleted: bool = False
    ) -> Page[Action]:
        """Return a page of what was ordered of a server, newest first.

        ``deleted`` lets it be a deleted one. Raises ServerNotFound or InvalidInput.
        """
        self._orders.show(caller, server_id, deleted=deleted)
        return self._database.actions.list(server_id, query)

    def show(self, caller: Caller, server_id: str, request_id: str, *, deleted: bool = False) -> Action:
        """Return an action with its events; raise ServerNotFound or NotFound."""
        self._orders.show(caller, server_id, deleted=deleted)
        return self._database.actions.get(server_id, request_id)

    def diagnostics(self, caller: Caller, server_id: str) -> tuple[Server, Diagnostics]:
        """Return a server and what its guest has used.

        Raises Forbidden, ServerNotFound, InvalidState for a server without a
        guest that runs, Unsupported, and Unavailable when the host is away.
        """
        demand_admin_for(caller, "os_compute_api:os-server-diagnostics")
        server = self._orders.show(caller, server_id)
        if server.host is None:
            raise InvalidState(f"Instance {server_id} is not ready")
        return server, Diagnostics.of(self._bus.diagnostics(server.host, server_id))

    def _owns(self, caller: Caller, server_id: str) -> bool:
        return self._orders.show(caller, server_id).project == (caller.project or "")
