"""Live migrations that are under way: told, called off, or hurried."""

from __future__ import annotations

import logging
from typing import Any

from novalite.db import Database
from novalite.db.migration_log import LIVE as LIVE_MIGRATION
from novalite.errors import InvalidInput, InvalidState, NotFound, NovaliteError
from novalite.model import FORCE_COMPLETE, LIVE, Caller, Server, TaskState, VmState
from novalite.policy import Policy
from novalite.reports import Migration, MigrationQuery
from novalite.rpc import Bus
from novalite.service.orders import Orders
from novalite.virt.diagnostics import Diagnostics, Transfer

LOG = logging.getLogger(__name__)
RULES = "os_compute_api:servers:migrations:"
_RUNNING = "running"
_EARLY = "preparing"
_UNDER_WAY = (_EARLY, _RUNNING, "post-migrating")
_TASKS = (TaskState.LIVE_PREP, *LIVE)


class LiveMigrations:
    """The use cases; thread-safe."""

    def __init__(self, database: Database, bus: Bus, policy: Policy) -> None:
        self._database = database
        self._bus = bus
        self._policy = policy
        self._orders = Orders(database, bus, policy)

    def list(self, caller: Caller, server_id: str) -> tuple[Migration, ...]:
        """Return a server's live migrations that are under way; raise Forbidden or ServerNotFound."""
        self._orders.show(caller, server_id, f"{RULES}index")
        query = MigrationQuery(server_id=server_id, migration_type=LIVE_MIGRATION)
        found = self._database.migrations.list(query).items
        return tuple(each for each in found if each.status in _UNDER_WAY)

    def tells_hosts(self, caller: Caller) -> bool:
        """Tell whether the list is shown to the caller with the hosts."""
        return self._policy.allows(caller, f"{RULES}index:host")

    def show(self, caller: Caller, server_id: str, number: int) -> Migration:
        """Return one that is under way; raise Forbidden, ServerNotFound or NotFound."""
        self._orders.show(caller, server_id, f"{RULES}show")
        found = self._find(server_id, number)
        if found is None:
            raise NotFound(f"In-progress live migration {number} is not found for server {server_id}.")
        if found.migration_type != LIVE_MIGRATION:
            raise NotFound(f"Migration {number} for server {server_id} is not live-migration.")
        if found.status not in _UNDER_WAY:
            raise NotFound(f"Live migration {number} for server {server_id} is not in progress.")
        return found

    def sent(self, migration: Migration) -> Transfer:
        """Return how much of a guest has been sent so far, as its old host says if it does."""
        if migration.status == _RUNNING and self._orders.is_up(migration.source_host):
            try:
                told = Diagnostics.of(self._bus.diagnostics(migration.source_host, migration.server_id))
            except NovaliteError as error:  # it has arrived, or its host is away
                LOG.info("migration %s: nobody tells how far it is: %s", migration.uuid, error)
            else:
                return told.sent or Transfer()
        return Transfer()

    def abort(self, caller: Caller, server_id: str, number: int, *, early: bool) -> None:
        """Order a guest to stay where it is; one that has gone by then has gone.

        ``early`` lets it be one whose guest isn't being sent yet. Raises
        Forbidden, ServerNotFound, NotFound, InvalidInput for one that stands
        otherwise, ServerLocked and InvalidState.
        """
        action = "abort live migration"

        def change(server: Server) -> dict[str, Any]:
            _demand_task(server, action)
            found = self._find(server_id, number)
            if found is None:
                raise NotFound(f"Migration {number} not found for instance {server_id}.")
            _demand_status(found, action, (_EARLY, _RUNNING) if early else (_RUNNING,))
            if server.task_state == TaskState.LIVE_CANCELLING:
                return {}
            return {"task_state": TaskState.LIVE_CANCELLING, "attempts": 0}

        ordered = self._orders.change(
            caller, server_id, f"{RULES}delete", change, action="live_migration_cancel"
        )
        self._orders.drive(ordered)

    def force_complete(self, caller: Caller, server_id: str, number: int) -> None:
        """Order a guest to be paused until it is there, so that it comes to an end.

        Raises Forbidden, ServerNotFound, InvalidInput for one that isn't
        there or stands otherwise, ServerLocked and InvalidState.
        """

        def change(server: Server) -> dict[str, Any]:
            _demand_task(server, FORCE_COMPLETE)
            if server.vm_state != VmState.ACTIVE:
                told = f"while it is in vm_state {server.vm_state}"
                raise InvalidState(f"Cannot '{FORCE_COMPLETE}' instance {server_id} {told}")
            found = self._find(server_id, number)
            if found is None:
                raise InvalidInput(f"Migration {number} not found for instance {server_id}.")
            _demand_status(found, "force complete", (_RUNNING,))
            return {"task_args": {**server.task_args, FORCE_COMPLETE: True}}

        rule, action = f"{RULES}force_complete", "live_migration_force_complete"
        self._orders.change(caller, server_id, rule, change, action=action)

    def _find(self, server_id: str, number: int) -> Migration | None:
        found = self._database.migrations.list(MigrationQuery(id=number, server_id=server_id)).items
        return found[0] if found else None


def _demand_task(server: Server, action: str) -> None:
    if server.task_state not in _TASKS:
        raise InvalidState(
            f"Cannot '{action}' instance {server.id} while it is in task_state {server.task_state}"
        )


def _demand_status(migration: Migration, action: str, fine: tuple[str, ...]) -> None:
    if migration.status not in fine:
        raise InvalidInput(
            f"Migration {migration.id} state of instance {migration.server_id} is {migration.status}. "
            f"Cannot {action} while the migration is in this state."
        )
