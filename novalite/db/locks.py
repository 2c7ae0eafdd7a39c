"""Locks that make check-and-insert exact."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from novalite.db.engine import insert_new
from novalite.db.tables import quota_locks


def lock_owner(connection: Connection, owner: str) -> None:
    """Let one writer at a time past, per owner of a quota.

    SQLite lets only one writer in anyway.
    """
    if connection.dialect.name == "sqlite":
        return
    if connection.scalar(sa.select(quota_locks.c.owner).where(quota_locks.c.owner == owner)) is None:
        insert_new(connection, quota_locks, {"owner": owner})
    connection.execute(sa.select(quota_locks).where(quota_locks.c.owner == owner).with_for_update())
