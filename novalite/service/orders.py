"""What all use cases of servers share: to whom one is there, who may do what to it, and how it is changed.

An order is checked and written by compare-and-set, under its request's id,
and then the worker is told. See ``Orders.act``.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Set
from typing import Any

from novalite import faults
from novalite.db import Database
from novalite.errors import (
    InvalidState,
    NotFound,
    QueueDown,
    ServerLocked,
    ServerNotFound,
    StaleRecord,
)
from novalite.model import Caller, Order, Server, TaskState, VmState
from novalite.policy import Policy
from novalite.rpc import Bus

LOG = logging.getLogger(__name__)
_RETRIES = 20
Change = Callable[[Server], dict[str, Any]]


class Orders:
    """Reads and changes servers on behalf of callers; thread-safe."""

    def __init__(self, database: Database, bus: Bus, policy: Policy) -> None:
        self._database = database
        self._bus = bus
        self.policy = policy

    def show(self, caller: Caller, server_id: str, rule: str, *, deleted: bool = False) -> Server:
        """Return a server that ``rule`` lets the caller do something to.

        Raises ServerNotFound for one of another project, unless to an
        administrator, and Forbidden.
        """
        try:
            server = self._database.servers.get(server_id)
        except ServerNotFound:
            server = None
        theirs = server is not None and (
            server.project == (caller.project or "") or self.policy.is_admin(caller)
        )
        if server is None or not theirs or (server.vm_state == VmState.DELETED and not deleted):
            raise ServerNotFound(f"Instance {server_id} could not be found.")
        self.policy.check(caller, rule, server)
        return server

    def change(
        self,
        caller: Caller,
        server_id: str,
        rule: str,
        change: Change,
        *,
        action: str | None = None,
        lock: bool = True,
    ) -> Server:
        """Change a record by compare-and-set until nobody was faster, if ``rule`` lets the caller.

        ``change`` says what is set; nothing is written when that is nothing.
        ``action`` is recorded with it. A locked server is the
        administrators' alone to change, unless ``lock`` is False.
        """
        order = order_of(caller, action) if action else None
        for _ in range(_RETRIES):
            server = self.show(caller, server_id, rule)
            if lock:
                self.demand_unlocked(caller, server)
            values = change(server)
            if not values:
                return server
            try:
                return self._database.servers.change(server, order=order, **values)
            except StaleRecord:
                continue
        raise StaleRecord(f"server {server_id} keeps changing")

    def act(
        self,
        caller: Caller,
        server_id: str,
        rule: str,
        action: str,
        task: TaskState,
        states: Set[VmState],
        *,
        values: Change | None = None,
        lock: bool = True,
    ) -> Server:
        """Order a task of a placed server that is in one of ``states`` and has none.

        Raises InvalidState, ServerLocked, Forbidden or ServerNotFound.
        ``values`` says what else is set.
        """

        def change(server: Server) -> dict[str, Any]:
            demand_state(server, action, states)
            if server.host is None:
                raise InvalidState(f"Cannot '{action}' instance {server_id} while it is on no host")
            return {"task_state": task, "attempts": 0, **(values(server) if values else {})}

        server = self.change(caller, server_id, rule, change, action=action, lock=lock)
        self.drive(server)
        return server

    def demand_unlocked(self, caller: Caller, server: Server) -> None:
        """Raise ServerLocked for a locked server, unless an administrator asks."""
        if server.locked_by is not None and not self.policy.is_admin(caller):
            raise ServerLocked(f"Instance {server.id} is locked")

    def is_up(self, host: str) -> bool:
        """Tell whether a host is there and alive."""
        try:
            return self._database.hosts.get(host).up
        except NotFound:
            return False

    def drive(self, server: Server) -> None:
        """Tell the server's host that there is something to do."""
        self.tell(lambda: self._bus.drive(str(server.host), server.id))

    def schedule(self, server: Server) -> None:
        """Tell the schedulers that a server waits for a host."""
        self.tell(lambda: self._bus.schedule(server.id))

    @staticmethod
    def tell(send: Callable[[], None]) -> None:
        """Send a message, or leave it to the workers to find the order."""
        faults.passing("order-recorded")
        try:
            send()
        except QueueDown as error:
            LOG.warning("the workers will find the order by themselves: %s", error)
        faults.passing("order-told")


def order_of(caller: Caller, action: str) -> Order:
    """Make the record of an order; a caller without a request gets an id for it."""
    request = caller.request_id or f"req-{uuid.uuid4()}"
    return Order(action, request, caller.user, caller.project)


def demand_state(server: Server, action: str, states: Set[VmState]) -> None:
    """Raise InvalidState unless the server is in one of the states and has no task."""
    for what, value, fine in (
        ("vm_state", server.vm_state, server.vm_state in states),
        ("task_state", server.task_state, server.task_state is None),
    ):
        if not fine:
            raise InvalidState(f"Cannot '{action}' instance {server.id} while it is in {what} {value}")
