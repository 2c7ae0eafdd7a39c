"""What servers' guests ask about themselves."""

from __future__ import annotations

from novalite.config import Settings
from novalite.db import Database
from novalite.errors import ServerNotFound
from novalite.guestdata.facts import GuestFacts, facts_of
from novalite.model import Server, VmState


class Guests:
    """The use cases of guests, who are known already; thread-safe."""

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
