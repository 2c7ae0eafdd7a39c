"""Which code may work with the database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from glancelike.sql.steps import create_table
from glancelike.sql.types import Exact

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    create_table(
        "glancelike_compatibility",
        sa.Column("oldest", Exact(32), primary_key=True),
        sqlite_with_rowid=False,
    )
    table = sa.table("glancelike_compatibility", sa.column("oldest"))
    if op.get_bind().execute(sa.select(table.c.oldest)).first() is None:
        op.get_bind().execute(sa.insert(table), {"oldest": "0004"})
