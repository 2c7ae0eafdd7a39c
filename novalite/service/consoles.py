"""Consoles of servers: who may come to one gets a token, and the token opens it once."""

from __future__ import annotations

import hashlib
import secrets

from novalite.config import Settings
from novalite.db import Database
from novalite.errors import Forbidden, InvalidInput, InvalidState, NotFound, ServerNotFound
from novalite.model import Caller, VmState
from novalite.rpc import Bus
from novalite.service.orders import Orders
from novalite.virt.base import PowerState

SERIAL = "serial"
_READY = (PowerState.RUNNING, PowerState.PAUSED)
_TOKEN_BYTES = 32


class Consoles:
    """The use cases of consoles; thread-safe."""

    def __init__(self, settings: Settings, database: Database, bus: Bus) -> None:
        self._ttl = settings.console.token_ttl
        self._database = database
        self._orders = Orders(database, bus)

    def open(self, caller: Caller, server_id: str, kind: str) -> str:
        """Return the URL of a server's console, which is good once.

        Raises ServerNotFound, InvalidState for a server without a guest that
        runs, and InvalidInput for consoles that its host doesn't serve.
        """
        server = self._orders.show(caller, server_id)
        if server.host is None or server.power_state not in _READY:
            raise InvalidState(f"Instance {server_id} is not ready")
        base_url = self._base_url(server.host) if kind == SERIAL else None
        if base_url is None:
            raise InvalidInput(f"Unavailable console type {kind}.")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._database.consoles.add(_hash(token), server.id, seconds=self._ttl)
        return f"{base_url}?token={token}"

    def _base_url(self, host: str) -> str | None:
        try:
            return self._database.hosts.get(host).console_url
        except NotFound:
            return None


def redeem(database: Database, token: str, *, host: str) -> str:
    """Use a token up; return the id of its server, which is on ``host``.

    Raises Forbidden for a token that was used, has expired or never was, and
    when its server is gone or elsewhere by now.
    """
    server_id = database.consoles.take(_hash(token))
    if server_id is not None:
        try:
            server = database.servers.get(server_id)
        except ServerNotFound:
            server = None
        if server is not None and server.vm_state != VmState.DELETED and server.host == host:
            return server.id
    raise Forbidden("the token isn't good, or not any more")


def _hash(token: str) -> str:
    """Return what is kept of a token: from 32 random bytes nobody finds them again."""
    return hashlib.sha256(token.encode()).hexdigest()
