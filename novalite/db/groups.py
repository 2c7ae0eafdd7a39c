"""Groups of servers, and where their members are.

A member is placed while its group's row is locked, so of two that are placed
at once the second sees the first: see ``refusal``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from novalite.db.engine import Records, tried_again
from novalite.db.locks import lock_owner
from novalite.db.quotas import overrides
from novalite.db.tables import server_groups, servers
from novalite.errors import InvalidInput, NotFound, QuotaExceeded
from novalite.groupings import GroupPlaces, GroupPolicy, ServerGroup
from novalite.model import Server, VmState

_ALIVE = servers.c.vm_state != VmState.DELETED


@tried_again
class GroupRecords(Records):
    """Queries on groups of servers; one method is one transaction."""

    def insert(self, group: ServerGroup, *, quota: int) -> None:
        """Add a group; raise QuotaExceeded when its project has as many as it may."""
        with self._engine.writing() as connection:
            lock_owner(connection, group.project)
            quota = overrides(connection, group.project).get("server_groups", quota)
            if 0 <= quota <= _count(connection, group.project):
                raise QuotaExceeded("Quota exceeded, too many server groups.")
            connection.execute(
                sa.insert(server_groups).values(
                    id=group.id,
                    project=group.project,
                    user=group.user,
                    name=group.name,
                    policy=group.policy,
                    max_per_host=group.max_per_host,
                    created_at=group.created_at,
                )
            )

    def get(self, group_id: str) -> ServerGroup:
        """Return a group with its members; raise NotFound."""
        with self._engine.reading() as connection:
            row = connection.execute(_is(group_id)).mappings().first()
            if row is None:
                raise _missing(group_id)
            return _group(row, _members(connection, [group_id])[group_id])

    def list(self, *, project: str | None, limit: int, offset: int) -> tuple[ServerGroup, ...]:
        """Return groups in the order they were made, of one project or of all."""
        wanted = sa.true() if project is None else server_groups.c.project == project
        with self._engine.reading() as connection:
            rows = (
                connection.execute(
                    sa.select(server_groups)
                    .where(wanted)
                    .order_by(server_groups.c.created_at, server_groups.c.id)
                    .limit(limit)
                    .offset(offset)
                )
                .mappings()
                .all()
            )
            inside = _members(connection, [row["id"] for row in rows])
            return tuple(_group(row, inside[row["id"]]) for row in rows)

    def count(self, project: str) -> int:
        """Tell how many groups a project has."""
        with self._engine.reading() as connection:
            return _count(connection, project)

    def delete(self, group_id: str) -> None:
        """Remove a group; its servers stay where they are. Raises NotFound."""
        with self._engine.writing() as connection:
            gone = connection.execute(sa.delete(server_groups).where(server_groups.c.id == group_id))
            if gone.rowcount != 1:
                raise _missing(group_id)
            connection.execute(sa.update(servers).where(servers.c.group_id == group_id).values(group_id=None))

    def places(self, server: Server) -> GroupPlaces | None:
        """Tell where the others of a server's group are; None without a group."""
        if server.group_id is None:
            return None
        with self._engine.reading() as connection:
            return _places(connection, server, lock=False)


def join(connection: Connection, group_id: str, project: str, count: int, *, quota: int) -> None:
    """Make sure that servers can be added to a group, within the caller's transaction.

    The caller has locked the project. Raises InvalidInput when the group is
    gone, and QuotaExceeded when it would have too many members.
    """
    found = connection.execute(_is(group_id).with_for_update()).mappings().first()
    if found is None or found["project"] != project:
        raise InvalidInput(f"Instance group {group_id} could not be found.")
    quota = overrides(connection, project).get("server_group_members", quota)
    there = len(_members(connection, [group_id])[group_id])
    if 0 <= quota < there + count:
        raise QuotaExceeded(f"Quota exceeded, too many servers in group: {there} of {quota}")


def refusal(connection: Connection, server: Server, host: str) -> str | None:
    """Say why a server's group doesn't want it on a host, within the caller's transaction.

    The group's row stays locked until that ends: no other member is placed meanwhile.
    """
    if server.group_id is None:
        return None
    places = _places(connection, server, lock=True)
    return places.refuses(host) if places is not None else None


def _places(connection: Connection, server: Server, *, lock: bool) -> GroupPlaces | None:
    statement = _is(str(server.group_id))
    row = connection.execute(statement.with_for_update() if lock else statement).mappings().first()
    if row is None:
        return None
    counted = connection.execute(
        sa.select(servers.c.host, sa.func.count())
        .where(
            servers.c.group_id == server.group_id,
            servers.c.id != server.id,
            servers.c.host.is_not(None),
            _ALIVE,
        )
        .group_by(servers.c.host)
    )
    placed = {str(host): int(count) for host, count in counted}
    return GroupPlaces(GroupPolicy(row["policy"]), placed, row["max_per_host"] or 1)


def _is(group_id: str) -> sa.Select[tuple[object, ...]]:
    return sa.select(server_groups).where(server_groups.c.id == group_id)


def _count(connection: Connection, project: str) -> int:
    counted = sa.select(sa.func.count()).select_from(server_groups).where(server_groups.c.project == project)
    return int(connection.scalar(counted) or 0)


def _members(connection: Connection, group_ids: Collection[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    rows = connection.execute(
        sa.select(servers.c.group_id, servers.c.id)
        .where(servers.c.group_id.in_(group_ids), _ALIVE)
        .order_by(servers.c.created_at, servers.c.id)
    )
    for group_id, server_id in rows:
        found[group_id].append(server_id)
    return found


def _group(row: RowMapping, members: Collection[str]) -> ServerGroup:
    return ServerGroup(**{**row, "policy": GroupPolicy(row["policy"])}, members=tuple(members))


def _missing(group_id: str) -> NotFound:
    return NotFound(f"Instance group {group_id} could not be found.")
