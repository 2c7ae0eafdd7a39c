"""Uploads in pieces."""

from __future__ import annotations

import sqlalchemy as sa

from glancelike.sql.steps import create_index, create_table
from glancelike.sql.types import Exact, LongText, UtcTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    create_table(
        "uploads",
        sa.Column("id", Exact(64), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("image_id", Exact(64), nullable=False),
        sa.Column("kind", Exact(16), nullable=False),
        sa.Column("state", Exact(16), nullable=False),
        sa.Column("owner", Exact(255)),
        sa.Column("store", Exact(255), nullable=False),
        sa.Column("home", Exact(255), nullable=False),
        sa.Column("key", Exact(512), nullable=False),
        sa.Column("session", LongText),
        sa.Column("length", sa.BigInteger),
        sa.Column("part_size", sa.BigInteger, nullable=False),
        sa.Column("parts", sa.Integer, nullable=False),
        sa.Column("tail", LongText, nullable=False),
        sa.Column("joins", LongText, nullable=False),
        sa.Column("metadata", LongText, nullable=False),
        sa.Column("task_id", Exact(64)),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime, nullable=False),
    )
    create_index("ix_uploads_image_id", "uploads", ["image_id", "created_at"])
    create_index("ix_uploads_state_created_at", "uploads", ["state", "created_at"])
    create_index("ix_uploads_expires_at", "uploads", ["expires_at"])
