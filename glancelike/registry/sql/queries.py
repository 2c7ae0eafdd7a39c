"""How images are found: visibility, filters, sorts and pages.

The cost of a page must not grow with the number of images, and a planner
without statistics (SQLite's) guesses badly. So the statement leaves it no
choice, in one of two forms:

* a walk: what the viewer may see is a few ``scopes`` (own images, public
  ones, …), each of which lies in one index in the order asked for. The first
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

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from glancelike.model import Op, Query, SortKey, Viewer, Visibility
from glancelike.registry.sql.paging import Columns, Condition, Part, after, bound, order
from glancelike.registry.sql.records import COLUMNS, with_children
from glancelike.registry.sql.scopes import (
    Scope,
    Seen,
    Shape,
    Statement,
    any_of,
    fenced,
    in_order,
    scopes_of,
    shelves_of,
    visible,
)
from glancelike.registry.sql.tables import HEAD, WALKED, images, properties, tags

PROBE = 4096
SHAPES = 512  # statements kept a process; some 20 kB each
i, p, t = images.c, properties.c, tags.c


def parameters(query: Query, viewer: Viewer, marker: Sequence[Any] | None = None) -> dict[str, Any]:
    """Return the values for the statements of the query's shape."""
    found: dict[str, Any] = {
        "project": viewer.project,
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


@lru_cache
def one(admin: bool, project: bool, pending: bool) -> sa.CompoundSelect[Any]:
    """Select the image ``id``, with its children, if a viewer from ``project`` may see it."""
    wanted = bound("id", i.id)
    seen = sa.select(*COLUMNS).where(i.id == wanted, visible(admin, project, pending))
    return with_children(seen, wanted)


# Filters


def _matches(shape: Shape, number: int, columns: Columns = i) -> Condition:
    """Translate a filter; a field or property that isn't set matches nothing."""
    field, op, is_property = shape.filters[number]
    if is_property:
        wanted = p.value.in_(bound(f"filter{number}", p.value, several=True))
        found = _with_property(shape, number).where(p.image_id == i.id, wanted)
        return any_of(found)
    column: ColumnElement[Any] = columns[field]
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
    return [any_of(_with_tag(number).where(t.image_id == i.id)) for number in range(shape.tags)]


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
                i.shelf.in_(shelves_of(shape)),
            ]
        found.append(sa.select(i.id).where(*conditions))
    return found


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
    scopes = scopes_of(shape)
    if not scopes:
        return None
    ordered = order(i, shape.sort, explicit=explicit)
    limit = sa.bindparam("limit", type_=sa.Integer)
    if driver is not None:
        return _probe(shape, scopes, _parts(shape, i, nulls), driver).order_by(*ordered).limit(limit)
    walks = [
        walk.order_by(*order(each.columns, shape.sort, explicit=explicit, only_if=each.sorted_if)).limit(
            limit
        )
        for scope in scopes
        for each in in_order(scope, shape.sort[0].field)
        for walk in _walks(shape, each, _parts(shape, each.columns, nulls))
    ]
    if len(walks) == 1:
        return walks[0].with_only_columns(*COLUMNS)
    # An image may be in several scopes: UNION drops the doubles.
    merged = sa.union(*(sa.select(walk.subquery().c.id) for walk in walks)).subquery()
    return sa.select(*COLUMNS).join(merged, merged.c.id == i.id).order_by(*ordered).limit(limit)


def _parts(shape: Shape, columns: Columns, nulls: tuple[bool, ...] | None) -> list[Part]:
    return [Part([], [])] if nulls is None else after(columns, shape.sort, nulls)


def _walks(shape: Shape, scope: Scope, parts: list[Part]) -> list[Statement]:
    walked: list[Condition] = []
    checked = _has_tags(shape)
    first = shape.sort[0].field
    for number, (field, op, is_property) in enumerate(shape.filters):
        # A filter on the first sort key narrows the walk instead of being checked;
        # a status has an index of its own for it.
        leads = not is_property and field == first
        by_status = (field, op, is_property, first) == ("status", Op.EQ, False, "created_at")
        narrows = leads or (by_status and isinstance(scope, Seen))
        (walked if narrows else checked).append(_matches(shape, number, scope.columns))
    return [
        scope.select(shelf, walked + part.walked, checked + part.checked)
        for shelf in shelves_of(shape)
        for part in parts
    ]


def _probe(shape: Shape, scopes: list[Scope], parts: list[Part], driver: int) -> Statement:
    conditions = [
        i.shelf.in_(shelves_of(shape)),
        sa.or_(*(scope.condition() for scope in scopes)),
        *(_matches(shape, number) for number in range(len(shape.filters))),
        *_has_tags(shape),
        sa.or_(*(part.condition() for part in parts)),
    ]
    return sa.select(*COLUMNS).where(i.id.in_(_drivers(shape)[driver]), fenced(conditions))
