"""The use cases: what the API may ask for, without HTTP and without SQL."""

from __future__ import annotations

from novalite.config import Settings
from novalite.db import Database
from novalite.images import Images
from novalite.policy import Policy
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
from novalite.service.metadata import ServerMetadata
from novalite.service.moves import Moves
from novalite.service.quotas import Quotas
from novalite.service.reports import Reports
from novalite.service.servers import Servers
from novalite.service.tags import Tags

__all__ = ["ComputeService"]


class ComputeService:
    """All use cases, by the noun they are about; thread-safe.

    Each asks ``policy`` first, which reads its file when somebody asks, or
    ``policy.open`` at the start.
    """

    def __init__(
        self, settings: Settings, database: Database, bus: Bus, images: Images, policy: Policy
    ) -> None:
        self.policy = policy
        self.quotas = Quotas(settings, database, policy)
        self.servers = Servers(settings, database, bus, images, self.quotas, policy)
        self.actions = ServerActions(database, bus, policy)
        self.changes = Changes(settings, database, bus, images, policy)
        self.consoles = Consoles(settings, database, bus, policy)
        self.moves = Moves(database, bus, policy)
        self.living = LiveMigrations(database, bus, policy)
        self.metadata = ServerMetadata(database, bus, self.quotas, policy)
        self.tags = Tags(database, bus, policy)
        self.flavors = Flavors(database, policy)
        self.keypairs = KeyPairs(database, self.quotas, policy)
        self.hosts = Hosts(database, policy)
        self.aggregates = Aggregates(database, bus, images, policy)
        self.groups = ServerGroups(settings, database, policy)
        self.reports = Reports(database, policy)
