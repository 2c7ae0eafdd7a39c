"""Order by several keys and go on after a marker, on any table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from glancelike.model import SortKey

Condition = ColumnElement[bool]


class Columns(Protocol):
    """Columns by name, such as a table's."""

    def __getitem__(self, name: str, /) -> sa.Column[Any]: ...


def bound(name: str, column: ColumnElement[Any], *, several: bool = False) -> sa.BindParameter[Any]:
    """Return a parameter for values of the column."""
    return sa.bindparam(name, type_=column.type, expanding=several)


def order(
    columns: Columns, keys: Sequence[SortKey], *, explicit: bool, only_if: Condition | None = None
) -> list[ColumnElement[Any]]:
    """Return the ORDER BY: None first when ascending, last when descending.

    ``explicit`` says so in words: PostgreSQL needs them, MySQL has none.
    ``only_if``, a condition that all rows meet, keeps the planner from
    walking an index of the columns for their order.
    """
    clauses: list[ColumnElement[Any]] = []
    for key in keys:
        column = columns[key.field]
        value = column if only_if is None else sa.case((only_if, column))
        clause = value.desc() if key.descending else value.asc()
        if explicit and column.nullable:
            clause = clause.nulls_last() if key.descending else clause.nulls_first()
        clauses.append(clause)
    return clauses


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the rows after a marker: a range to enter an index at, and the exact rest."""

    walked: list[Condition]
    checked: list[Condition]

    def condition(self) -> Condition:
        return sa.and_(True, *self.walked, *self.checked)


def after(columns: Columns, keys: Sequence[SortKey], nulls: Sequence[bool]) -> list[Part]:
    """Say which rows come after the marker, in parts that don't overlap.

    ``nulls`` tells which of the marker's sort values are None; the others
    travel as the parameters ``marker0``, ``marker1``, …
    """
    exact: list[Condition] = []
    ties: list[Condition] = []
    for number, (key, null) in enumerate(zip(keys, nulls, strict=True)):
        column = columns[key.field]
        value = bound(f"marker{number}", column)
        if null:
            if not key.descending:
                exact.append(sa.and_(*ties, column.is_not(None)))
            ties.append(column.is_(None))
        else:
            beyond = column < value if key.descending else column > value
            if key.descending and column.nullable:
                beyond = sa.or_(beyond, column.is_(None))
            exact.append(sa.and_(*ties, beyond))
            ties.append(column == value)
    first, descending = columns[keys[0].field], keys[0].descending
    rest = [sa.or_(*exact)]
    if nulls[0]:
        return [Part([first.is_(None)] if descending else [], rest)]
    value = bound("marker0", first)
    parts = [Part([first <= value if descending else first >= value], rest)]
    if first.nullable and descending:
        parts.append(Part([first.is_(None)], []))
    return parts
