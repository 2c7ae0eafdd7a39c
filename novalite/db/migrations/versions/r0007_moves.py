"""Servers that move to another host."""

import sqlalchemy as sa

from glancelike.sql.steps import add_column, create_index, create_table
from glancelike.sql.types import Exact

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Go up to this revision."""
    add_column("hosts", sa.Column("disks_url", Exact(255), nullable=True))
    create_table(
        "held_allocations",
        sa.Column("server_id", Exact(36), nullable=False),
        sa.Column("host", Exact(255), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("disk_gb", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_held_allocations_host"),
        sa.PrimaryKeyConstraint("server_id", name="pk_held_allocations"),
    )
    create_index("ix_held_allocations_host", "held_allocations", ["host"])
