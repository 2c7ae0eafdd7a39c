"""Ephemeral disks of flavors."""

import sqlalchemy as sa

from glancelike.sql.steps import add_column

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Go up to this revision."""
    add_column(
        "flavors", sa.Column("ephemeral_gb", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
