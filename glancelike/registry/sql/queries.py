"""How images are found: visibility, filters, sorts and pages.

The cost of a page must not grow with the number of images, and a planner
without statistics (SQLite's) guesses badly. So the statement leaves it no
choice, in one of two forms:

* a walk: what the viewer may see is a few scopes (own images, public ones,
  …), each of which lies in one index in the order asked for. The first
  images of each are merged; everything else is checked on the way.
* a probe: when a filter names an index and matches only a few images
  (``PROBE``, found out by counting no further), these are looked up and all
  else is checked and sorted on them.

A filter that matches k of N images costs a probe k rows and a walk about
limit * N / k, so that neither is ever bad at a million images.

Statements are made once for each ``Shape`` of a query and kept; values
travel as parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause, Select

from glancelike.model import Op, Query, SortKey, Viewer, Visibility
from glancelike.registry.sql.paging import Condition, Part, after, bound, order
from glancelike.registry.sql.records import COLUMNS
from glancelike.registry.sql.tables import (
    DELETED,
    HEAD,
    HIDDEN,
    LISTED,
    PENDING,
    WALKED,
    images,
    members,
    properties,
    tags,
)

PROBE = 4096
SHAPES = 512  # statements kept a process; some 20 kB each
i, m, p, t = images.c, members.c, properties.c, tags.c
Statement = Select[Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """A checked query without its values: all that the statement's text depends on."""

    admin: bool
    project: bool
    pending: bool
    visibility: Visibility | str | None
    member_status: bool
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
            query.member_status != "all",
            query.hidden,
            query.sort,
            tuple((f.field, f.op, f.is_property) for f in query.filters),
            len(query.tags),
        )


def parameters(query: Query, viewer: Viewer, marker: Sequence[Any] | None = None) -> dict[str, Any]:
    """Return the values for the statements of the query's shape."""
    found: dict[str, Any] = {
        "project": viewer.project,
        "member_status": str(query.member_status),
        "limit": query.limit + 1,
        "probe": PROBE + 1,
    }
    for number, condition in enumerate(query.filters):
        found[f"filter{number}"] = condition.value
        if condition.is_property:
            wanted = condition.value if condition.op is Op.IN else (condition.value,)
            found[f"filter{number}"] = wanted
            found[f"head{number}"] = [value[:HEAD] for value in wanted]
    for number, tag in enumerate(sorted(query.tags)):
        found[f"tag{number}"] = tag
    for number, value in enumerate(marker or ()):
        found[f"marker{number}"] = value
    return found


# Visibility


@lru_cache
def visible(admin: bool, project: bool, pending: bool) -> Condition:
    """Say which images a viewer may see when it knows their id."""
    alive = i.shelf != DELETED if pending else i.shelf.in_([LISTED, HIDDEN])
    if admin:
        return alive
    seen: list[Condition] = [i.visibility.in_([Visibility.PUBLIC.value, Visibility.COMMUNITY.value])]
    if project:
        seen += [i.owner == bound("project", i.owner), _Shared(False).condition()]
    return alive & sa.or_(*seen)


@lru_cache
def one(admin: bool, project: bool, pending: bool) -> Statement:
    """Select the image ``id`` if a viewer from ``project`` may see it."""
    return sa.select(*COLUMNS).where(i.id == bound("id", i.id), visible(admin, project, pending))


# Scopes: together, and overlapping, what a listing may show. ``walked`` is
# looked up in an index, ``checked`` on each row.


@dataclass(frozen=True, slots=True)
class _Own:
    visibility: Visibility
    owner: str = "project"  # the parameter's name

    def condition(self) -> Condition:
        return (i.owner == bound(self.owner, i.owner)) & (i.visibility == self.visibility.value)

    def select(self, shelf: int, walked: list[Condition], checked: list[Condition]) -> Statement:
        return _select(images, [self.condition(), i.shelf == shelf, *walked], checked)

    @property
    def sorted_if(self) -> Condition | None:
        return None


@dataclass(frozen=True, slots=True)
class _Seen:
    visibility: Visibility

    def condition(self) -> Condition:
        return i.visibility == self.visibility.value

    def select(self, shelf: int, walked: list[Condition], checked: list[Condition]) -> Statement:
        return _select(images, [self.condition(), i.shelf == shelf, *walked], checked)

    @property
    def sorted_if(self) -> Condition | None:
        return None


@dataclass(frozen=True, slots=True)
class _Shared:
    by_status: bool

    def _mine(self) -> list[Condition]:
        mine: list[Condition] = [m.project == bound("project", m.project)]
        if self.by_status:
            mine.append(m.status == bound("member_status", m.status))
        return mine

    def condition(self) -> Condition:
        member = _any(sa.select(m.image_id).where(m.image_id == i.id, *self._mine()))
        return (i.visibility == Visibility.SHARED.value) & member

    def select(self, shelf: int, walked: list[Condition], checked: list[Condition]) -> Statement:
        joined = members.join(images, i.id == m.image_id)
        shared = [i.visibility == Visibility.SHARED.value, i.shelf == shelf]
        return _select(joined, self._mine(), [*shared, *walked, *checked])

    @property
    def sorted_if(self) -> Condition | None:
        # All that is shared with the project is looked at, and nothing else: what
        # lies in the order of the listing may be anybody's.
        return m.project == bound("project", m.project)


Scope = _Own | _Seen | _Shared


def _scopes(shape: Shape) -> list[Scope]:
    """Return the scopes of a listing; none when there is nothing to see."""
    for number, each in enumerate(shape.filters):
        if each == ("owner", Op.EQ, False):
            # Of anybody's images only one project's are wanted.
            return [
                _Own(scope.visibility, f"filter{number}") if isinstance(scope, _Seen) else scope
                for scope in _all_scopes(shape)
            ]
    return _all_scopes(shape)


def _all_scopes(shape: Shape) -> list[Scope]:
    wanted = shape.visibility
    if shape.admin:
        if wanted is not None:
            return [_Seen(each) for each in Visibility if wanted in ("all", each)]
        # Community images of others are shown only when asked for.
        others: list[Scope] = [_Seen(each) for each in Visibility if each is not Visibility.COMMUNITY]
        return [*others, _Own(Visibility.COMMUNITY)] if shape.project else others
    found: list[Scope] = []
    if wanted in (None, "all", Visibility.PUBLIC):
        found.append(_Seen(Visibility.PUBLIC))
    if wanted in ("all", Visibility.COMMUNITY):
        found.append(_Seen(Visibility.COMMUNITY))
    if shape.project:
        mine = [each for each in Visibility if wanted in (None, "all", each)]
        found += [_Own(each) for each in mine if _Seen(each) not in found]
        if Visibility.SHARED in mine:
            found.append(_Shared(shape.member_status))
    return found


def _fenced(conditions: Iterable[Condition]) -> Condition:
    """Keep the planner from choosing an index for these conditions.

    Written as an inequality, which PostgreSQL expects nearly all rows to
    meet: else it takes a walk for so long a one that it prepares for a
    million rows (compiles, starts workers, sorts).
    """
    return sa.case((sa.and_(*conditions), 1), else_=0) != 0


def _select(source: FromClause, walked: list[Condition], checked: list[Condition]) -> Statement:
    statement = sa.select(i.id).select_from(source).where(*walked)
    return statement.where(_fenced(checked)) if checked else statement


# Filters


def _matches(shape: Shape, number: int) -> Condition:
    """Translate a filter; a field or property that isn't set matches nothing."""
    field, op, is_property = shape.filters[number]
    if is_property:
        wanted = p.value.in_(bound(f"filter{number}", p.value, several=True))
        found = _with_property(shape, number).where(p.image_id == i.id, wanted)
        return _any(found)
    column: ColumnElement[Any] = i[field]
    value = bound(f"filter{number}", column, several=op is Op.IN)
    compared: dict[Op, Condition] = {
        Op.EQ: column == value,
        Op.NEQ: column != value,
        Op.GT: column > value,
        Op.GTE: column >= value,
        Op.LT: column < value,
        Op.LTE: column <= value,
        Op.IN: column.in_(value),
    }
    return compared[op]


def _with_property(shape: Shape, number: int) -> Statement:
    """Select by the indexed beginning of the value only."""
    heads = bound(f"head{number}", p.head, several=True)
    return sa.select(p.image_id).where(p.name == shape.filters[number][0], p.head.in_(heads))


def _with_tag(number: int) -> Statement:
    return sa.select(t.image_id).where(t.value == bound(f"tag{number}", t.value))


def _has_tags(shape: Shape) -> list[Condition]:
    return [_any(_with_tag(number).where(t.image_id == i.id)) for number in range(shape.tags)]


def _drivers(shape: Shape) -> list[Statement]:
    """Select the ids that each condition may find by its index; every field has one."""
    found = [_with_tag(number) for number in range(shape.tags)]
    fields: dict[str, list[Condition]] = {}  # both ends of a range are one condition
    for number, (field, op, is_property) in enumerate(shape.filters):
        if is_property:
            found.append(_with_property(shape, number))
        elif op is not Op.NEQ:
            fields.setdefault(field, []).append(_matches(shape, number))
    for field, conditions in fields.items():
        if field in WALKED:
            # The beginning of its index.
            conditions += [
                i.visibility.in_([each.value for each in Visibility]),
                i.shelf.in_(_shelves(shape)),
            ]
        found.append(sa.select(i.id).where(*conditions))
    return found


def _any(of_image: Statement) -> Condition:
    """Tell whether an image has a row, looked up for each that is checked.

    With EXISTS, PostgreSQL reads the rows of all images at once where it
    expects to check many.
    """
    counted = of_image.with_only_columns(sa.func.count(), maintain_column_froms=True).correlate(images)
    return counted.scalar_subquery() > 0


def _bare(driver: Statement) -> Statement:
    """Select nothing of the rows, so that the index alone is read."""
    return driver.with_only_columns(sa.literal_column("1").label("one"), maintain_column_froms=True)


@lru_cache(SHAPES)
def counts(shape: Shape) -> Statement | None:
    """Count what each driver would look at, but no further than just over PROBE."""
    found = _drivers(shape)
    if not found:
        return None
    return sa.select(
        *(
            sa.select(sa.func.count())
            .select_from(_bare(driver).limit(sa.bindparam("probe", type_=sa.Integer)).subquery())
            .scalar_subquery()
            .label(f"count{number}")
            for number, driver in enumerate(found)
        )
    )


# Order and pages


@lru_cache
def marker(keys: tuple[SortKey, ...], admin: bool, project: bool, pending: bool) -> Statement:
    """Select the sort values of the marker ``id``, if the viewer may see it."""
    values = [i[key.field] for key in keys]
    return sa.select(*values).where(i.id == bound("id", i.id), visible(admin, project, pending))


@lru_cache(SHAPES)
def page(
    shape: Shape, nulls: tuple[bool, ...] | None, driver: int | None, *, explicit: bool
) -> Statement | None:
    """Select one page of COLUMNS and one row more; None when it must be empty.

    ``nulls`` are the marker's (None without a marker); ``driver``, an index
    into what ``counts`` counted, makes it a probe.
    """
    scopes = _scopes(shape)
    if not scopes:
        return None
    parts = [Part([], [])] if nulls is None else after(i, shape.sort, nulls)
    shelves = _shelves(shape)
    ordered = order(i, shape.sort, explicit=explicit)
    limit = sa.bindparam("limit", type_=sa.Integer)
    if driver is not None:
        return _probe(shape, scopes, shelves, parts, driver).order_by(*ordered).limit(limit)
    walks = [
        walk.order_by(*order(i, shape.sort, explicit=explicit, only_if=scope.sorted_if)).limit(limit)
        for scope in scopes
        for walk in _walks(shape, scope, shelves, parts)
    ]
    if len(walks) == 1:
        return walks[0].with_only_columns(*COLUMNS)
    # An image may be in several scopes: UNION drops the doubles.
    merged = sa.union(*(sa.select(walk.subquery().c.id) for walk in walks)).subquery()
    return sa.select(*COLUMNS).join(merged, merged.c.id == i.id).order_by(*ordered).limit(limit)


def _shelves(shape: Shape) -> list[int]:
    shelves = [LISTED, HIDDEN] if shape.hidden is None else [HIDDEN if shape.hidden else LISTED]
    return shelves + [PENDING[shelf] for shelf in shelves] if shape.pending else shelves


def _walks(shape: Shape, scope: Scope, shelves: list[int], parts: list[Part]) -> list[Statement]:
    walked: list[Condition] = []
    checked = _has_tags(shape)
    first = shape.sort[0].field
    for number, (field, op, is_property) in enumerate(shape.filters):
        # A filter on the first sort key narrows the walk instead of being checked;
        # a status has an index of its own for it.
        leads = not is_property and field == first
        by_status = (field, op, is_property, first) == ("status", Op.EQ, False, "created_at")
        narrows = leads or (by_status and isinstance(scope, _Seen))
        (walked if narrows else checked).append(_matches(shape, number))
    return [
        scope.select(shelf, walked + part.walked, checked + part.checked)
        for shelf in shelves
        for part in parts
    ]


def _probe(
    shape: Shape, scopes: list[Scope], shelves: list[int], parts: list[Part], driver: int
) -> Statement:
    conditions = [
        i.shelf.in_(shelves),
        sa.or_(*(scope.condition() for scope in scopes)),
        *(_matches(shape, number) for number in range(len(shape.filters))),
        *_has_tags(shape),
        sa.or_(*(part.condition() for part in parts)),
    ]
    return sa.select(*COLUMNS).where(i.id.in_(_drivers(shape)[driver]), _fenced(conditions))
