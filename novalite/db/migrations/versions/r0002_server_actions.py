"""Locks, descriptions and tags of servers, and what was ordered of them."""

import sqlalchemy as sa
from alembic import op

from novalite.db.tables import UtcTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Go up to this revision."""
    for column in (
        sa.Column("networks", sa.String(length=16), nullable=False, server_default="auto"),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("locked_by", sa.String(length=16), nullable=True),
        sa.Column("locked_reason", sa.String(length=255), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
    ):
        op.add_column("servers", column)
    op.create_table(
        "server_tags",
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("tag", sa.String(length=60), nullable=False),
        sa.PrimaryKeyConstraint("server_id", "tag", name="pk_server_tags"),
    )
    op.create_index("ix_server_tags_tag", "server_tags", ["tag"])
    op.create_table(
        "server_actions",
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("user", sa.String(length=255), nullable=True),
        sa.Column("project", sa.String(length=255), nullable=True),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.Column("message", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("server_id", "request_id", name="pk_server_actions"),
    )
    op.create_table(
        "server_action_events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("finished_at", UtcTime(), nullable=True),
        sa.Column("result", sa.String(length=16), nullable=True),
        sa.Column("details", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_server_action_events"),
    )
    op.create_index(
        "ix_server_action_events_server_id_request_id", "server_action_events", ["server_id", "request_id"]
    )
