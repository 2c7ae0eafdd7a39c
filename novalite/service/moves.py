"""Servers that are moved to another host."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from novalite.db import Database
from novalite.errors import InvalidInput, InvalidState, NotFound
from novalite.model import Caller, Server, TaskState, VmState
from novalite.policy import Policy
from novalite.rpc import Bus
from novalite.service.orders import Orders, demand_state

_MOVABLE = frozenset({VmState.ACTIVE, VmState.STOPPED})
_RUNNING = frozenset({VmState.ACTIVE, VmState.PAUSED})
_EVACUABLE = _MOVABLE | {VmState.ERROR}
_RULES = {
    TaskState.RESIZE_PREP: "os_compute_api:os-migrate-server:migrate",
    TaskState.LIVE_PREP: "os_compute_api:os-migrate-server:migrate_live",
}
_EVACUATE = "os_compute_api:os-evacuate"


class Moves:
    """The use cases; thread-safe."""

    def __init__(self, database: Database, bus: Bus, policy: Policy) -> None:
        self._database = database
        self._orders = Orders(database, bus, policy)

    def migrate(self, caller: Caller, server_id: str, host: str | None = None) -> Server:
        """Order a server to another host, where it is to be confirmed or reverted as after a resize.

        Its guest is off meanwhile. Raises Forbidden, InvalidInput for a host
        that isn't there or is its own, and InvalidState, also when its own
        is down, which has the disk.
        """
        return self._away(caller, server_id, "migrate", TaskState.RESIZE_PREP, _MOVABLE, host)

    def live_migrate(
        self, caller: Caller, server_id: str, host: str | None = None, *, force: bool = False
    ) -> Server:
        """Order a guest that runs to go on on another host, with its disk.

        ``force`` takes ``host`` whatever most hooks say. Raises what ``migrate`` does.
        """
        if force and not host:
            raise InvalidInput("Can't force to a non-provided destination")
        action, task = "live-migration", TaskState.LIVE_PREP
        return self._away(caller, server_id, action, task, _RUNNING, host, force=force)

    def _away(
        self,
        caller: Caller,
        server_id: str,
        action: str,
        task: TaskState,
        states: Set[VmState],
        host: str | None,
        **told: Any,
    ) -> Server:
        rule = f"{_RULES[task]}:host" if host else _RULES[task]
        self._orders.show(caller, server_id, rule)
        try:
            self._demand_host(host)
        except NotFound as error:
            raise InvalidInput(str(error)) from error

        def change(server: Server) -> dict[str, Any]:
            demand_state(server, action, states)
            own = self._own_host(server, action)
            if host == own:
                raise InvalidInput(f"Unable to migrate instance ({server_id}) to current host ({own}).")
            if not self._orders.is_up(own):
                raise InvalidState(f"Cannot '{action}' instance {server_id} while its host {own} is down")
            return {"task_state": task, "attempts": 0, "task_args": {"host": host, **told}}

        return self._ordered(caller, server_id, rule, action, change)

    def evacuate(
        self,
        caller: Caller,
        server_id: str,
        host: str | None = None,
        *,
        force: bool = False,
        password: str | None = None,
        off: bool = False,
    ) -> Server:
        """Order a server of a dead host to be made anew of its image on another one.

        ``force`` takes ``host`` whatever the scheduler's hooks say, but for
        those that are always asked. The guest runs if it did, unless it is to
        be ``off``. Raises Forbidden, NotFound for a host that
        isn't there, InvalidInput when its own isn't down, and InvalidState.
        """
        self._orders.show(caller, server_id, _EVACUATE)
        if force and not host:
            raise InvalidInput("Can't force to a non-provided destination")
        self._demand_host(host)

        def change(server: Server) -> dict[str, Any]:
            own = self._own_host(server, "evacuate")
            if host == own:
                raise InvalidInput("The target host can't be the same one.")
            demand_state(server, "evacuate", _EVACUABLE)
            if self._orders.is_up(own):
                raise InvalidInput(f"Compute service of {own} is still in use.")
            told = {"host": host, "force": force, "admin_password": password or "", "off": off}
            return {"task_state": TaskState.EVACUATING, "attempts": 0, "task_args": told}

        return self._ordered(caller, server_id, _EVACUATE, "evacuate", change)

    def _ordered(self, caller: Caller, server_id: str, rule: str, action: str, change: Any) -> Server:
        server = self._orders.change(caller, server_id, rule, change, action=action)
        self._orders.schedule(server)
        return server

    def _demand_host(self, host: str | None) -> None:
        if host is not None and not self._database.hosts.briefly((host,)):
            raise NotFound(f"Compute host {host} not found.")

    @staticmethod
    def _own_host(server: Server, action: str) -> str:
        if server.host is None:
            raise InvalidState(f"Cannot '{action}' instance {server.id} while it is on no host")
        return server.host
