"""No index of what listings are sorted by, but those that begin with who sees it.

Where most images are in the order of these times, PostgreSQL takes an index
of the time alone for the better walk, and steps over all that the viewer
doesn't see. That of the status is the beginning of another by now.
"""

from __future__ import annotations

from glancelike.sql.steps import drop_index

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for column in ("name", "status", "updated_at"):
        drop_index(f"ix_images_{column}", "images")
