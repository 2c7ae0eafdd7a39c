"""Servers that move to another host, and hosts that are said to be down."""

import sqlalchemy as sa

from glancelike.sql.steps import add_column, create_index, create_table
from glancelike.sql.types import Exact, UtcTime

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Go up to this revision."""
    add_column("hosts", sa.Column("forced_down", sa.Boolean(), nullable=False, server_default=sa.false()))
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
    create_table(
        "migrations",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("uuid", Exact(36), nullable=False),
        sa.Column("server_id", Exact(36), nullable=False),
        sa.Column("source_host", Exact(255), nullable=False),
        sa.Column("dest_host", Exact(255), nullable=False),
        sa.Column("status", Exact(32), nullable=False),
        sa.Column("migration_type", Exact(32), nullable=False),
        sa.Column("old_flavor_id", Exact(255), nullable=False),
        sa.Column("new_flavor_id", Exact(255), nullable=False),
        sa.Column("user_id", Exact(255), nullable=True),
        sa.Column("project_id", Exact(255), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_migrations"),
    )
    create_index("ix_migrations_uuid", "migrations", ["uuid"])
    create_index("ix_migrations_server_id_id", "migrations", ["server_id", "id"])
    create_index("ix_migrations_updated_at", "migrations", ["updated_at"])
