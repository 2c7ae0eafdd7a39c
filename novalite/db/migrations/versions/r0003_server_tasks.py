"""What tasks of servers need to know, and addresses their owners tell."""

import sqlalchemy as sa

from glancelike.sql.steps import add_column
from glancelike.sql.types import Exact

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Go up to this revision."""
    for column in (
        sa.Column("access_ipv4", Exact(45), nullable=True),
        sa.Column("access_ipv6", Exact(45), nullable=True),
        sa.Column("task_args", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("kept", sa.JSON(none_as_null=True), nullable=True),
    ):
        add_column("servers", column)
