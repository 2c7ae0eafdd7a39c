"""Swap disks of flavors."""

import sqlalchemy as sa

from glancelike.sql.steps import add_column

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Go up to this revision."""
    add_column("flavors", sa.Column("swap_mb", sa.Integer(), nullable=False, server_default=sa.text("0")))
