"""The use cases: what the API may ask for, without HTTP and without SQL."""

from __future__ import annotations

from novalite.config import Settings
from novalite.db import Database
from novalite.images import Images
from novalite.rpc import Bus
from novalite.service.actions import ServerActions
from novalite.service.aggregates import Aggregates
from novalite.service.changes import Changes
from novalite.service.consoles import Consoles
from novalite.service.flavors import Flavors
from novalite.service.groups import ServerGroups
from novalite.service.hosts import Hosts
from novalite.service.keypairs import KeyPairs
from novalite.service.living import LiveMigrations
from novalite.service.moves import Moves
from novalite.service.quotas import Quotas
from novalite.service.reports import Reports
from novalite.service.servers import Servers
from novalite.service.tags import Tags

__all__ = ["ComputeService"]


class ComputeService:
    """All use cases, by the noun they are about; thread-safe."""

    def __init__(self, settings: Settings, database: Database, bus: Bus, images: Images) -> None:
        self.servers = Servers(settings, database, bus, images)
        self.actions = ServerActions(database, bus)
        self.changes = Changes(settings, database, bus, images)
        self.consoles = Consoles(settings, database, bus)
        self.moves = Moves(database, bus)
        self.living = LiveMigrations(database, bus)
        self.tags = Tags(database, bus)
        self.flavors = Flavors(database)
        self.quotas = Quotas(settings, database)
        self.keypairs = KeyPairs(database, self.quotas)
        self.hosts = Hosts(database)
        self.aggregates = Aggregates(database, bus, images)
        self.groups = ServerGroups(settings, database)
        self.reports = Reports(database)
