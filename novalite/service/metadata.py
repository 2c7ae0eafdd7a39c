"""Metadata of servers: short texts by name, which their guests can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from novalite.db import Database
from novalite.errors import NotFound
from novalite.model import Caller, Server
from novalite.policy import Policy
from novalite.rpc import Bus
from novalite.service.checks import check_metadata
from novalite.service.orders import Orders
from novalite.service.quotas import Quotas

RULES = "os_compute_api:server-metadata:"


class ServerMetadata:
    """The use cases of metadata; thread-safe."""

    def __init__(self, database: Database, bus: Bus, quotas: Quotas, policy: Policy) -> None:
        self._quotas = quotas
        self._orders = Orders(database, bus, policy)

    def all(self, caller: Caller, server_id: str) -> Mapping[str, str]:
        """Return a server's metadata; raise ServerNotFound or Forbidden."""
        return self._orders.show(caller, server_id, f"{RULES}index").metadata

    def item(self, caller: Caller, server_id: str, key: str) -> str:
        """Return one item; raise ServerNotFound, Forbidden or NotFound."""
        metadata = self._orders.show(caller, server_id, f"{RULES}show").metadata
        if key not in metadata:
            raise NotFound(f"Metadata item {key} was not found")
        return metadata[key]

    def add(self, caller: Caller, server_id: str, metadata: Mapping[str, str]) -> Server:
        """Add to a server's metadata; raise QuotaExceeded, and what ``replace`` does."""
        return self._set(caller, server_id, "create", metadata)

    def replace(self, caller: Caller, server_id: str, metadata: Mapping[str, str]) -> Server:
        """Set all of a server's metadata.

        Raises InvalidInput, QuotaExceeded, ServerLocked, ServerNotFound or Forbidden.
        """
        return self._set(caller, server_id, "update_all", metadata, replace=True)

    def set_item(self, caller: Caller, server_id: str, key: str, value: str) -> Server:
        """Set one item; raises what ``replace`` does."""
        return self._set(caller, server_id, "update", {key: value})

    def remove(self, caller: Caller, server_id: str, key: str) -> Server:
        """Remove one item; raise NotFound when it isn't there, and what ``replace`` does."""

        def change(server: Server) -> dict[str, Any]:
            if key not in server.metadata:
                raise NotFound("Metadata item was not found")
            return {"metadata": {k: v for k, v in server.metadata.items() if k != key}}

        return self._orders.change(caller, server_id, f"{RULES}delete", change)

    def _set(
        self,
        caller: Caller,
        server_id: str,
        rule: str,
        metadata: Mapping[str, str],
        *,
        replace: bool = False,
    ) -> Server:
        check_metadata(metadata)

        def change(server: Server) -> dict[str, Any]:
            merged = dict(metadata) if replace else {**server.metadata, **metadata}
            self._quotas.check_metadata(server.project, merged)
            return {"metadata": merged}

        return self._orders.change(caller, server_id, f"{RULES}{rule}", change)
