"""What revisions are made of: steps that may be run again.

MySQL and MariaDB commit each of them by itself, so a run that was cut short
has done some and will come by once more.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import SchemaItem

from glancelike.sql.errors import ForeignTable


def create_table(name: str, *items: SchemaItem, **options: Any) -> None:
    """Create a table unless it is there; raise ForeignTable if that one is somebody else's."""
    inspector = _inspector()
    if not inspector.has_table(name):
        op.create_table(name, *items, **options)
        return
    found = {column["name"] for column in inspector.get_columns(name)}
    # A later revision may have added some.
    if not found.issuperset(item.name for item in items if isinstance(item, sa.Column)):
        raise ForeignTable(f"there is a table {name} of somebody else, it has {', '.join(sorted(found))}")


def create_index(name: str, table: str, columns: list[Any]) -> None:
    """Create an index unless it is there."""
    if name not in _indexes(table):
        op.create_index(name, table, columns)


def add_column(table: str, column: sa.Column[Any]) -> None:
    """Add a column unless it is there."""
    if column.name not in {each["name"] for each in _inspector().get_columns(table)}:
        op.add_column(table, column)


def demand_column(table: sa.Table, name: str) -> None:
    """Let a column have no NULL any more. SQLite makes ``table`` anew, without its indexes."""
    (found,) = (each for each in _inspector().get_columns(table.name) if each["name"] == name)
    if not found["nullable"]:
        return
    with op.batch_alter_table(table.name, copy_from=table) as batch:
        batch.alter_column(name, existing_type=table.c[name].type, nullable=False)


def drop_index(name: str, table: str) -> None:
    """Drop an index unless it is gone."""
    if name in _indexes(table):
        op.drop_index(name, table)


def drop_column(table: str, name: str) -> None:
    """Drop a column unless it is gone."""
    if name in {each["name"] for each in _inspector().get_columns(table)}:
        op.drop_column(table, name)


def _indexes(table: str) -> set[str | None]:
    return {index["name"] for index in _inspector().get_indexes(table)}


def _inspector() -> sa.Inspector:
    # A new one each time, since it remembers what it has seen.
    return sa.inspect(op.get_bind())
