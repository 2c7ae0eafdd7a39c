"""Which images hosts have."""

import sqlalchemy as sa

from glancelike.sql.steps import add_column, create_table
from glancelike.sql.types import Exact, HugeText

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Go up to this revision."""
    add_column("hosts", sa.Column("images_digest", Exact(64), nullable=True))
    create_table(
        "host_images",
        sa.Column("host", Exact(255), nullable=False),
        sa.Column("digest", Exact(64), nullable=False),
        sa.Column("images", HugeText(), nullable=False),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_host_images_host"),
        sa.PrimaryKeyConstraint("host", name="pk_host_images"),
    )
