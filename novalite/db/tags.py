"""Tags of servers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from novalite.db.engine import Records, tried_again
from novalite.db.tables import server_tags, servers
from novalite.model import ServerQuery


@tried_again
class TagRecords(Records):
    """Queries on tags; one method is one transaction."""

    def of(self, server_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Map each of the servers that has tags to them, sorted."""
        ids = list(server_ids)
        found: dict[str, list[str]] = defaultdict(list)
        with self._engine.reading() as connection:
            for start in range(0, len(ids), 500):
                for row in connection.execute(
                    sa.select(server_tags).where(server_tags.c.server_id.in_(ids[start : start + 500]))
                ):
                    found[row.server_id].append(row.tag)
        return {server_id: tuple(sorted(tags)) for server_id, tags in found.items()}

    def replace(self, server_id: str, tags: Iterable[str]) -> None:
        """Set all tags of a server."""
        with self._engine.writing() as connection:
            _lock(connection, server_id)
            connection.execute(sa.delete(server_tags).where(server_tags.c.server_id == server_id))
            insert(connection, server_id, tags)

    def add(self, server_id: str, tag: str, *, at_most: int) -> bool | None:
        """Add a tag; False when it's there already, None when there are ``at_most``."""
        with self._engine.writing() as connection:
            _lock(connection, server_id)
            there = set(
                connection.scalars(sa.select(server_tags.c.tag).where(server_tags.c.server_id == server_id))
            )
            if len(there) >= at_most:
                return None
            if tag in there:
                return False
            insert(connection, server_id, [tag])
            return True

    def remove(self, server_id: str, tag: str) -> bool:
        """Remove a tag; tell whether it was there."""
        with self._engine.writing() as connection:
            gone = connection.execute(
                sa.delete(server_tags).where(server_tags.c.server_id == server_id, server_tags.c.tag == tag)
            )
            return bool(gone.rowcount)


def insert(connection: Connection, server_id: str, tags: Iterable[str]) -> None:
    """Add tags that aren't there, within the caller's transaction."""
    rows = [{"server_id": server_id, "tag": tag} for tag in sorted(set(tags))]
    if rows:
        connection.execute(sa.insert(server_tags), rows)


def _lock(connection: Connection, server_id: str) -> None:
    """Let one writer at a time past, per server."""
    if connection.dialect.name != "sqlite":
        connection.execute(sa.select(servers.c.id).where(servers.c.id == server_id).with_for_update())


def conditions(query: ServerQuery) -> list[sa.ColumnElement[bool]]:
    """Return what a query by tags asks of servers."""
    found = [_has(tag) for tag in sorted(query.tags)]
    if query.tags_any:
        found.append(sa.or_(*(_has(tag) for tag in sorted(query.tags_any))))
    if query.not_tags:
        found.append(sa.not_(sa.and_(*(_has(tag) for tag in sorted(query.not_tags)))))
    found += [sa.not_(_has(tag)) for tag in sorted(query.not_tags_any)]
    return found


def _has(tag: str) -> sa.ColumnElement[bool]:
    return sa.exists().where(server_tags.c.server_id == servers.c.id, server_tags.c.tag == tag)
