"""Locks, descriptions and tags of servers, and what was ordered of them."""

import sqlalchemy as sa

from glancelike.sql.steps import add_column, create_index, create_table
from glancelike.sql.types import Exact, LongText, UtcTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Go up to this revision."""
    for column in (
        sa.Column("networks", Exact(16), nullable=False, server_default="auto"),
        sa.Column("description", Exact(255), nullable=True),
        sa.Column("locked_by", Exact(16), nullable=True),
        sa.Column("locked_reason", Exact(255), nullable=True),
        sa.Column("request_id", Exact(64), nullable=True),
    ):
        add_column("servers", column)
    create_table(
        "server_tags",
        sa.Column("server_id", Exact(36), nullable=False),
        sa.Column("tag", Exact(60), nullable=False),
        sa.PrimaryKeyConstraint("server_id", "tag", name="pk_server_tags"),
    )
    create_index("ix_server_tags_tag", "server_tags", ["tag"])
    create_table(
        "server_actions",
        sa.Column("server_id", Exact(36), nullable=False),
        sa.Column("request_id", Exact(64), nullable=False),
        sa.Column("action", Exact(64), nullable=False),
        sa.Column("user", Exact(255), nullable=True),
        sa.Column("project", Exact(255), nullable=True),
        sa.Column("started_at", UtcTime, nullable=False),
        sa.Column("updated_at", UtcTime, nullable=False),
        sa.Column("message", Exact(255), nullable=True),
        sa.PrimaryKeyConstraint("server_id", "request_id", name="pk_server_actions"),
    )
    create_table(
        "server_action_events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("server_id", Exact(36), nullable=False),
        sa.Column("request_id", Exact(64), nullable=False),
        sa.Column("event", Exact(64), nullable=False),
        sa.Column("host", Exact(255), nullable=True),
        sa.Column("started_at", UtcTime, nullable=False),
        sa.Column("finished_at", UtcTime, nullable=True),
        sa.Column("result", Exact(16), nullable=True),
        sa.Column("details", LongText, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_server_action_events"),
    )
    create_index(
        "ix_server_action_events_server_id_request_id", "server_action_events", ["server_id", "request_id"]
    )
