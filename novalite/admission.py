"""Who comes without an account: a server's guest to its metadata, a token's bearer to its console.

It is all that the programs for these two need of the service, and light.
"""

from __future__ import annotations

import hashlib

from novalite.config import Settings
from novalite.db import Database
from novalite.errors import Forbidden, ServerNotFound
from novalite.guestdata.facts import GuestFacts, facts_of
from novalite.model import Server, VmState


class Guests:
    """What guests may ask, who are known already; thread-safe."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._network = settings.network
        self._database = database

    def server(self, server_id: str) -> Server:
        """Return the server whose guest asks; raise ServerNotFound."""
        server = self._database.servers.get(server_id)
        if server.vm_state == VmState.DELETED:
            raise ServerNotFound(f"Instance {server_id} could not be found.")
        return server

    def facts(self, server: Server) -> GuestFacts:
        """Tell what a guest may know of its server as it is now."""
        return facts_of(server, self._network)


def redeem(database: Database, token: str, *, host: str) -> str:
    """Use a token up; return the id of its server, which is on ``host``.

    Raises Forbidden for a token that was used, has expired or never was, and
    when its server is gone or elsewhere by now.
    """
    server_id = database.consoles.take(token_hash(token))
    if server_id is not None:
        try:
            server = database.servers.get(server_id)
        except ServerNotFound:
            server = None
        if server is not None and server.vm_state != VmState.DELETED and server.host == host:
            return server.id
    raise Forbidden("the token isn't good, or not any more")


def token_hash(token: str) -> str:
    """Return what is kept of a token: from 32 random bytes nobody finds them again."""
    return hashlib.sha256(token.encode()).hexdigest()
