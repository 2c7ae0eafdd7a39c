"""Images that are to be removed."""

import sqlalchemy as sa

from glancelike.sql.steps import create_index, create_table
from glancelike.sql.types import Exact, UtcTime

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Go up to this revision."""
    create_table(
        "unwanted_images",
        sa.Column("image_id", Exact(64), nullable=False),
        sa.Column("unless_filled", sa.Boolean(), nullable=False),
        sa.Column("due_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("image_id", name="pk_unwanted_images"),
    )
    create_index("ix_unwanted_images_due_at", "unwanted_images", ["due_at"])
