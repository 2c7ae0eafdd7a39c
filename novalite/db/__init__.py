"""The database: all the truth there is. Values in, values out.

One method is one transaction; no session or row escapes. Whoever has read
a record and wants to change it does so by compare-and-set. Raises
DatabaseDown when the database is away or busy beyond its time limit.
"""

from __future__ import annotations

from novalite.db import schema
from novalite.db.actions import ActionRecords
from novalite.db.catalog import FlavorRecords, KeyPairRecords
from novalite.db.engine import Engine
from novalite.db.hosts import HostRecords
from novalite.db.servers import ServerRecords
from novalite.db.tags import TagRecords
from novalite.db.work import WorkRecords

__all__ = ["Database"]


class Database:
    """One database and its groups of queries.

    ``down_after`` is how many seconds a host may miss its heartbeat.
    """

    def __init__(self, url: str, *, down_after: float = 60.0) -> None:
        self._engine = Engine(url)
        self.servers = ServerRecords(self._engine)
        self.work = WorkRecords(self._engine)
        self.actions = ActionRecords(self._engine)
        self.tags = TagRecords(self._engine)
        self.hosts = HostRecords(self._engine, down_after=down_after)
        self.flavors = FlavorRecords(self._engine)
        self.keypairs = KeyPairRecords(self._engine)

    def open(self, *, upgrade: bool = False) -> None:
        """Connect and check the schema, after upgrading it if asked to.

        Raises DatabaseDown, DatabaseSchema or ConfigError.
        """
        self._engine.open()
        try:
            if upgrade:
                schema.upgrade(self._engine)
            schema.check(self._engine)
        except BaseException:
            self._engine.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.close()

    def upgrade(self) -> None:
        """Bring the schema to what this code needs."""
        self._engine.open()
        schema.upgrade(self._engine)

    def current(self) -> str | None:
        """Tell the database's schema revision; None when it has none."""
        self._engine.open()
        return schema.current(self._engine)

    @staticmethod
    def head() -> str:
        """Tell the schema revision that this code needs."""
        return schema.head()
