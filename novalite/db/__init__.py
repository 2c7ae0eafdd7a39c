"""The database: all the truth there is. Values in, values out.

One method is one transaction; no session or row escapes. Whoever has read
a record and wants to change it does so by compare-and-set. Raises
DatabaseDown when the database is away or busy beyond its time limit, and
OutcomeUnknown when it went away while it committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from novalite.db import schema
from novalite.db.actions import ActionRecords
from novalite.db.aggregates import AggregateRecords
from novalite.db.catalog import FlavorRecords, KeyPairRecords
from novalite.db.consoles import ConsoleRecords
from novalite.db.engine import DEFAULTS, Engine
from novalite.db.groups import GroupRecords
from novalite.db.hosts import HostRecords
from novalite.db.migration_log import MigrationRecords
from novalite.db.moves import MoveRecords
from novalite.db.quotas import QuotaRecords
from novalite.db.servers import ServerRecords
from novalite.db.tags import TagRecords
from novalite.db.unwanted import UnwantedRecords
from novalite.db.upkeep import UpkeepRecords
from novalite.db.usage import UsageRecords
from novalite.db.work import WorkRecords

__all__ = ["Database"]


class Database:
    """One database and its groups of queries.

    ``settings`` are the values of ``glancelike.sql.options``, their defaults
    without. ``down_after`` is how many seconds a host may miss its heartbeat.
    """

    def __init__(self, url: str, settings: Mapping[str, Any] = DEFAULTS, *, down_after: float = 60.0) -> None:
        self._engine = Engine(url, settings)
        self.servers = ServerRecords(self._engine)
        self.work = WorkRecords(self._engine)
        self.actions = ActionRecords(self._engine)
        self.tags = TagRecords(self._engine)
        self.hosts = HostRecords(self._engine, down_after=down_after)
        self.moves = MoveRecords(self._engine)
        self.aggregates = AggregateRecords(self._engine)
        self.groups = GroupRecords(self._engine)
        self.migrations = MigrationRecords(self._engine)
        self.unwanted = UnwantedRecords(self._engine)
        self.upkeep = UpkeepRecords(self._engine)
        self.usage = UsageRecords(self._engine)
        self.quotas = QuotaRecords(self._engine)
        self.flavors = FlavorRecords(self._engine)
        self.consoles = ConsoleRecords(self._engine)
        self.keypairs = KeyPairRecords(self._engine)

    def open(self, *, upgrade: bool = False) -> None:
        """Connect and check the schema, after upgrading it if asked to.

        Raises DatabaseDown, DatabaseFault, DatabaseSchema or ConfigError.
        """
        if upgrade:
            self.upgrade()
        if self._engine.absent():
            # Connecting would leave an empty file behind.
            raise schema.outdated(self._engine, None)
        self._engine.open(lambda connection: schema.check(connection, self._engine))

    def close(self) -> None:
        """Close all connections; an ``open`` may follow."""
        self._engine.close()

    def upgrade(self) -> None:
        """Bring the schema to what this code needs; the database needn't be open."""
        schema.upgrade(self._engine)

    def current(self) -> str | None:
        """Tell the database's schema revision; None when it has none."""
        return schema.current(self._engine)

    @staticmethod
    def head() -> str:
        """Tell the schema revision that this code needs."""
        return schema.head()
