"""Ephemeral disks of flavors, and their rxtx_factor."""

import sqlalchemy as sa

from glancelike.sql.steps import add_column

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Go up to this revision."""
    none, one = sa.text("0"), sa.text("1")
    add_column("flavors", sa.Column("ephemeral_gb", sa.Integer(), nullable=False, server_default=none))
    add_column("flavors", sa.Column("rxtx_factor", sa.Double(), nullable=False, server_default=one))
