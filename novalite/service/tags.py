"""Tags of servers: short words to find them by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from novalite.db import Database
from novalite.errors import InvalidInput, NotFound
from novalite.model import Caller, Server, VmState
from novalite.policy import Policy
from novalite.rpc import Bus
from novalite.service.checks import MAX_TAGS, check_tags
from novalite.service.orders import Orders, demand_state

RULES = "os_compute_api:os-server-tags:"
# Nova lets them be changed in these, whatever else is being done.
_STATES = frozenset(VmState) - {VmState.BUILDING, VmState.ERROR}


class Tags:
    """The use cases of tags; thread-safe."""

    def __init__(self, database: Database, bus: Bus, policy: Policy) -> None:
        self._tags = database.tags
        self._orders = Orders(database, bus, policy)

    def of(self, servers: Iterable[Server]) -> Mapping[str, tuple[str, ...]]:
        """Map the ids of servers that the caller has seen to their tags."""
        return self._tags.of(server.id for server in servers)

    def list(self, caller: Caller, server_id: str) -> tuple[str, ...]:
        """Return a server's tags, sorted; raise ServerNotFound."""
        return self._of(caller, server_id, "index")

    def demand(self, caller: Caller, server_id: str, tag: str) -> None:
        """Raise NotFound unless the server has the tag."""
        if tag not in self._of(caller, server_id, "show"):
            raise NotFound(f"Server {server_id} has no tag '{tag}'")

    def replace(self, caller: Caller, server_id: str, tags: Collection[str]) -> tuple[str, ...]:
        """Set all tags; raise InvalidInput or InvalidState."""
        self._demand_state(caller, server_id, "update_all", "update tags")
        check_tags(set(tags))
        self._tags.replace(server_id, tags)
        return tuple(sorted(set(tags)))

    def add(self, caller: Caller, server_id: str, tag: str) -> bool:
        """Add a tag; False when it's there already. Raises InvalidInput or InvalidState."""
        self._demand_state(caller, server_id, "update", "update tag")
        check_tags([tag])
        added = self._tags.add(server_id, tag, at_most=MAX_TAGS)
        if added is None:
            raise InvalidInput(f"The number of tags exceeded the per-server limit {MAX_TAGS}")
        return added

    def remove(self, caller: Caller, server_id: str, tag: str) -> None:
        """Remove a tag; raise NotFound or InvalidState."""
        self._demand_state(caller, server_id, "delete", "delete tag")
        if not self._tags.remove(server_id, tag):
            raise NotFound(f"Server {server_id} has no tag '{tag}'")

    def clear(self, caller: Caller, server_id: str) -> None:
        """Remove all tags; raise InvalidState."""
        self._demand_state(caller, server_id, "delete_all", "delete tags")
        self._tags.replace(server_id, ())

    def _of(self, caller: Caller, server_id: str, rule: str) -> tuple[str, ...]:
        server = self._orders.show(caller, server_id, f"{RULES}{rule}")
        return self._tags.of([server.id]).get(server.id, ())

    def _demand_state(self, caller: Caller, server_id: str, rule: str, what: str) -> None:
        server = self._orders.show(caller, server_id, f"{RULES}{rule}")
        if server.vm_state not in _STATES:
            demand_state(server, what, _STATES)
