"""Consoles of servers: who may come to one gets a token, and the token opens it once."""

from __future__ import annotations

import secrets

from novalite.admission import token_hash
from novalite.config import Settings
from novalite.db import Database
from novalite.errors import InvalidInput, InvalidState, NotFound
from novalite.model import Caller
from novalite.policy import Policy
from novalite.rpc import Bus
from novalite.service.orders import Orders
from novalite.virt.base import PowerState

SERIAL = "serial"
_READY = (PowerState.RUNNING, PowerState.PAUSED)
_TOKEN_BYTES = 32


class Consoles:
    """The use cases of consoles; thread-safe."""

    def __init__(self, settings: Settings, database: Database, bus: Bus, policy: Policy) -> None:
        self._ttl = settings.console.token_ttl
        self._database = database
        self._orders = Orders(database, bus, policy)

    def open(self, caller: Caller, server_id: str, kind: str) -> str:
        """Return the URL of a server's console, which is good once.

        Raises ServerNotFound, Forbidden, InvalidState for a server without a guest that
        runs, and InvalidInput for consoles that its host doesn't serve.
        """
        server = self._orders.show(caller, server_id, "os_compute_api:os-remote-consoles")
        if server.host is None or server.power_state not in _READY:
            raise InvalidState(f"Instance {server_id} is not ready")
        base_url = self._base_url(server.host) if kind == SERIAL else None
        if base_url is None:
            raise InvalidInput(f"Unavailable console type {kind}.")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._database.consoles.add(token_hash(token), server.id, seconds=self._ttl)
        return f"{base_url}?token={token}"

    def _base_url(self, host: str) -> str | None:
        try:
            return self._database.hosts.get(host).console_url
        except NotFound:
            return None
