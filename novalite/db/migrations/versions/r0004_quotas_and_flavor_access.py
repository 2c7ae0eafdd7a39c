"""Quotas of projects, who may use flavors that aren't public, and hosts' addresses."""

import sqlalchemy as sa

from glancelike.sql.steps import add_column, create_table
from glancelike.sql.types import Exact

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Go up to this revision."""
    add_column("hosts", sa.Column("ip", Exact(45), nullable=True))
    create_table(
        "flavor_access",
        sa.Column("flavor_id", Exact(255), nullable=False),
        sa.Column("project", Exact(255), nullable=False),
        sa.PrimaryKeyConstraint("flavor_id", "project", name="pk_flavor_access"),
    )
    create_table(
        "quotas",
        sa.Column("scope", Exact(255), nullable=False),
        sa.Column("resource", Exact(64), nullable=False),
        sa.Column("at_most", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "resource", name="pk_quotas"),
    )
