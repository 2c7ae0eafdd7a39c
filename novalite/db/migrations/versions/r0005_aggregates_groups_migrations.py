"""Host aggregates, groups of servers, what became of each resize, hosts that are said to be down."""

import sqlalchemy as sa

from glancelike.sql.steps import add_column, create_index, create_table
from glancelike.sql.types import Exact, UtcTime

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Go up to this revision."""
    create_table(
        "aggregates",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", Exact(36), nullable=False),
        sa.Column("name", Exact(255), nullable=False),
        sa.Column("zone", Exact(255), nullable=True),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_aggregates"),
        sa.UniqueConstraint("name", name="uq_aggregates_name"),
    )
    create_table(
        "aggregate_hosts",
        sa.Column("aggregate_id", sa.Integer(), nullable=False),
        sa.Column("host", Exact(255), nullable=False),
        sa.ForeignKeyConstraint(["aggregate_id"], ["aggregates.id"], name="fk_aggregate_hosts_aggregate_id"),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_aggregate_hosts_host"),
        sa.PrimaryKeyConstraint("aggregate_id", "host", name="pk_aggregate_hosts"),
    )
    create_index("ix_aggregate_hosts_host", "aggregate_hosts", ["host"])
    add_column("hosts", sa.Column("forced_down", sa.Boolean(), nullable=False, server_default=sa.false()))
    add_column("hosts", sa.Column("uptime", Exact(255), nullable=True))
    create_table(
        "server_groups",
        sa.Column("id", Exact(36), nullable=False),
        sa.Column("project", Exact(255), nullable=False),
        sa.Column("user", Exact(255), nullable=False),
        sa.Column("name", Exact(255), nullable=False),
        sa.Column("policy", Exact(32), nullable=False),
        sa.Column("max_per_host", sa.Integer(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_server_groups"),
    )
    create_index("ix_server_groups_project", "server_groups", ["project"])
    add_column("servers", sa.Column("group_id", Exact(36), nullable=True))
    add_column("servers", sa.Column("hostname", Exact(255), nullable=True))
    add_column("servers", sa.Column("pinned_zone", Exact(255), nullable=True))
    create_index("ix_servers_group_id", "servers", ["group_id"])
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
