"""Tokens for servers' consoles, and where each host serves them."""

import sqlalchemy as sa

from glancelike.sql.steps import add_column, create_index, create_table
from glancelike.sql.types import Exact, UtcTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Go up to this revision."""
    add_column("hosts", sa.Column("console_url", Exact(255), nullable=True))
    create_table(
        "console_tokens",
        sa.Column("token_hash", Exact(64), nullable=False),
        sa.Column("server_id", Exact(36), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="pk_console_tokens"),
    )
    create_index("ix_console_tokens_expires_at", "console_tokens", ["expires_at"])
