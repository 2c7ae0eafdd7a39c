"""What a viewer may see, cut into scopes of which each lies in an index as it is listed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import FromClause, Select

from glancelike.model import MemberStatus, Op, Query, SortKey, Viewer, Visibility
from glancelike.registry.sql.paging import Columns, Condition, bound
from glancelike.registry.sql.tables import DELETED, HIDDEN, LISTED, PENDING, images, members

i, m = images.c, members.c
Statement = Select[Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """A checked query without its values: all that the statement's text depends on."""

    admin: bool
    project: bool
    pending: bool
    visibility: Visibility | str | None
    member_status: MemberStatus | str
    hidden: bool | None
    sort: tuple[SortKey, ...]
    filters: tuple[tuple[str, Op, bool], ...]
    tags: int

    @classmethod
    def of(cls, query: Query, viewer: Viewer) -> Shape:
        return cls(
            viewer.admin,
            viewer.project is not None,
            viewer.pending,
            query.visibility,
            query.member_status,
            query.hidden,
            query.sort,
            tuple((f.field, f.op, f.is_property) for f in query.filters),
            len(query.tags),
        )


@lru_cache
def visible(admin: bool, project: bool, pending: bool) -> Condition:
    """Say which images a viewer may see when it knows their id."""
    alive = i.shelf != DELETED if pending else i.shelf.in_([LISTED, HIDDEN])
    if admin:
        return alive
    seen: list[Condition] = [i.visibility.in_([Visibility.PUBLIC.value, Visibility.COMMUNITY.value])]
    if project:
        seen += [i.owner == bound("project", i.owner), Shared(None).condition()]
    return alive & sa.or_(*seen)


class Scope(ABC):
    """Some of what a listing may show; scopes may overlap.

    ``columns`` are those to filter, sort and page by. Where ``sorted_if``
    is a condition, all of the scope's rows meet it, and they lie in no
    order: all of them are looked at.
    """

    __slots__ = ()
    columns: ClassVar[Columns] = i
    sorted_if: ClassVar[Condition | None] = None

    @abstractmethod
    def condition(self) -> Condition:
        """Tell whether an image is in the scope."""

    def select(self, shelf: int, walked: list[Condition], checked: list[Condition]) -> Statement:
        """Select ids: ``walked`` is looked up in an index, ``checked`` on each row."""
        return _select(images, [self.condition(), i.shelf == shelf, *walked], checked)


@dataclass(frozen=True, slots=True)
class Own(Scope):
    """Images of one visibility of the project in the parameter ``owner``."""

    visibility: Visibility
    owner: str = "project"

    def condition(self) -> Condition:
        return (i.owner == bound(self.owner, i.owner)) & (i.visibility == self.visibility.value)


@dataclass(frozen=True, slots=True)
class Seen(Scope):
    """Anybody's images of one visibility."""

    visibility: Visibility

    def condition(self) -> Condition:
        return i.visibility == self.visibility.value


_SHARED = i.visibility == Visibility.SHARED.value
_JOINED = members.join(images, i.id == m.image_id)


@dataclass(frozen=True, slots=True)
class Shared(Scope):
    """Images that are shared with the project; a status of None is any.

    ``undated``: those only whose creation the member's row doesn't tell.
    Older code writes such rows.
    """

    # What lies in the order of the listing may be anybody's.
    sorted_if: ClassVar[Condition | None] = m.project == bound("project", m.project)

    status: MemberStatus | None
    undated: bool = False

    def condition(self) -> Condition:
        mine = sa.select(m.image_id).where(m.image_id == i.id, *_mine(self.status))
        return _SHARED & any_of(mine)

    def select(self, shelf: int, walked: list[Condition], checked: list[Condition]) -> Statement:
        undated = [m.image_created_at.is_(None)] if self.undated else []
        mine = [*_mine(self.status), *undated]
        return _select(_JOINED, mine, [_SHARED, i.shelf == shelf, *walked, *checked])


@dataclass(frozen=True, slots=True)
class SharedByTime(Scope):
    """Images that are shared with the project, in the order of their creation, but for the undated."""

    columns: ClassVar[Columns] = {**dict(i.items()), "created_at": m.image_created_at, "id": m.image_id}

    status: MemberStatus

    def condition(self) -> Condition:
        return Shared(self.status).condition()

    def select(self, shelf: int, walked: list[Condition], checked: list[Condition]) -> Statement:
        dated = [*_mine(self.status), m.image_created_at.is_not(None)]
        return _select(_JOINED, [*dated, *walked], [_SHARED, i.shelf == shelf, *checked])


def _mine(status: MemberStatus | None) -> list[Condition]:
    mine: list[Condition] = [m.project == bound("project", m.project)]
    return mine if status is None else [*mine, m.status == status.value]


def scopes_of(shape: Shape) -> list[Scope]:
    """Return the scopes of a listing; none when there is nothing to see."""
    for number, each in enumerate(shape.filters):
        if each == ("owner", Op.EQ, False):
            # Of anybody's images only one project's are wanted.
            return [
                Own(scope.visibility, f"filter{number}") if isinstance(scope, Seen) else scope
                for scope in _all_scopes(shape)
            ]
    return _all_scopes(shape)


def _all_scopes(shape: Shape) -> list[Scope]:
    wanted = shape.visibility
    if shape.admin:
        if wanted is not None:
            return [Seen(each) for each in Visibility if wanted in ("all", each)]
        # Community images of others are shown only when asked for.
        others: list[Scope] = [Seen(each) for each in Visibility if each is not Visibility.COMMUNITY]
        return [*others, Own(Visibility.COMMUNITY)] if shape.project else others
    found: list[Scope] = []
    if wanted in (None, "all", Visibility.PUBLIC):
        found.append(Seen(Visibility.PUBLIC))
    if wanted in ("all", Visibility.COMMUNITY):
        found.append(Seen(Visibility.COMMUNITY))
    if shape.project:
        mine = [each for each in Visibility if wanted in (None, "all", each)]
        found += [Own(each) for each in mine if Seen(each) not in found]
        if Visibility.SHARED in mine:
            status = None if shape.member_status == "all" else MemberStatus(shape.member_status)
            found.append(Shared(status))
    return found


def shelves_of(shape: Shape) -> list[int]:
    """Return the shelves that a listing's images stand on."""
    found = [LISTED, HIDDEN] if shape.hidden is None else [HIDDEN if shape.hidden else LISTED]
    return found + [PENDING[shelf] for shelf in found] if shape.pending else found


def in_order(scope: Scope, field: str) -> list[Scope]:
    """Cut a scope into those that lie in the order of a field, and a rest, where an index has it."""
    if not isinstance(scope, Shared) or field != "created_at":
        return [scope]
    statuses = list(MemberStatus) if scope.status is None else [scope.status]
    return [each for status in statuses for each in (SharedByTime(status), Shared(status, undated=True))]


def any_of(of_image: Statement) -> Condition:
    """Tell whether an image has a row, looked up for each that is checked.

    With EXISTS, PostgreSQL reads the rows of all images at once where it
    expects to check many.
    """
    counted = of_image.with_only_columns(sa.func.count(), maintain_column_froms=True).correlate(images)
    return counted.scalar_subquery() > 0


def fenced(conditions: Iterable[Condition]) -> Condition:
    """Keep the planner from choosing an index for these conditions.

    Written as an inequality, which PostgreSQL expects nearly all rows to
    meet: else it takes a walk for so long a one that it prepares for a
    million rows (compiles, starts workers, sorts).
    """
    return sa.case((sa.and_(*conditions), 1), else_=0) != 0


def _select(source: FromClause, walked: list[Condition], checked: list[Condition]) -> Statement:
    statement = sa.select(i.id).select_from(source).where(*walked)
    return statement.where(fenced(checked)) if checked else statement
