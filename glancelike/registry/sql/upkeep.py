"""What keeps the SQL registry small."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glancelike.model import Visibility
from glancelike.registry import values
from glancelike.registry.parts import Purged, Upkeep
from glancelike.registry.sql.database import Database, now
from glancelike.registry.sql.records import batches
from glancelike.registry.sql.tables import images, leases, reservations
from glancelike.registry.sql.tasks import delete_expired

# What is left of an image: its id, and that it is deleted. Without a time of
# its deletion a tombstone isn't found again.
BLANK: dict[str, Any] = {
    **{column.name: None for column in images.c if column.nullable},
    "visibility": Visibility.PRIVATE.value,
    "protected": False,
    "min_disk": 0,
    "min_ram": 0,
}


class UpkeepSql(Upkeep, Database):
    """Drop what has run out."""

    def purge(self, before: datetime, *, limit: int = 1000) -> Purged:
        before = values.in_utc("before", before)
        with self._writing() as connection:
            moment = now(connection)
            return Purged(
                images=_blank(connection, before, limit),
                tasks=delete_expired(connection, limit),
                leases=_delete(connection, leases, moment, limit),
                reservations=_delete(connection, reservations, moment, limit),
            )


def _blank(connection: Connection, before: datetime, limit: int) -> int:
    old = sa.select(images.c.id).where(images.c.deleted_at < before)
    found = connection.execute(old.order_by(images.c.deleted_at).limit(limit)).scalars().all()
    for batch in batches(found):
        connection.execute(sa.update(images).where(images.c.id.in_(batch)).values(BLANK))
    return len(found)


def _delete(connection: Connection, table: sa.Table, moment: datetime, limit: int) -> int:
    expired = table.c.expires_at <= moment
    found = connection.execute(sa.select(table.c.name).where(expired).limit(limit)).scalars().all()
    # Looked at again: a lease may have been taken over in between.
    return sum(
        connection.execute(sa.delete(table).where(table.c.name.in_(batch), expired)).rowcount
        for batch in batches(found)
    )
