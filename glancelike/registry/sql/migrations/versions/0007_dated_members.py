"""When the image was made, with each of its members: what is shared lies in the order it is listed in.

Older code leaves it out: listings look at such rows apart, and ``migrate``
fills them in. It finds them by an index that the contraction drops.
"""

from __future__ import annotations

import sqlalchemy as sa

from glancelike.sql.steps import add_column, create_index
from glancelike.sql.types import UtcTime

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    add_column("image_members", sa.Column("image_created_at", UtcTime))
    create_index("ix_image_members_image_created_at", "image_members", ["image_created_at"])
    create_index(
        "ix_image_members_project_created_at",
        "image_members",
        ["project", "status", "image_created_at", "image_id"],
    )
