"""No member without the time when its image was made."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glancelike.sql.steps import create_index, demand_column, drop_index
from glancelike.sql.types import Exact, UtcTime

revision = "0008"
down_revision = "0007"

images = sa.table("images", sa.column("id"), sa.column("created_at"))
members = sa.Table(
    "image_members",
    sa.MetaData(),
    sa.Column("image_id", Exact(64), sa.ForeignKey("images.id"), primary_key=True),
    sa.Column("project", Exact(255), primary_key=True),
    sa.Column("status", Exact(16), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Column("image_created_at", UtcTime),
    sqlite_with_rowid=False,
)
m = members.c
undated = m.image_created_at.is_(None)


def left(connection: Connection) -> bool:
    return connection.execute(sa.select(m.image_id).where(undated).limit(1)).first() is not None


def migrate(connection: Connection, limit: int) -> int:
    rows = connection.execute(sa.select(m.image_id, m.project).where(undated).limit(limit)).all()
    made = sa.select(images.c.created_at).where(images.c.id == sa.bindparam("image")).scalar_subquery()
    here = (m.image_id == sa.bindparam("image")) & (m.project == sa.bindparam("with"))
    connection.execute(
        sa.update(members).where(here).values(image_created_at=made),
        [{"image": image_id, "with": project} for image_id, project in rows],
    )
    return len(rows)


def upgrade() -> None:
    drop_index("ix_image_members_image_created_at", "image_members")
    drop_index("ix_image_members_project", "image_members")
    demand_column(members, "image_created_at")
    # SQLite has just made the table anew.
    columns = ["project", "status", "image_created_at", "image_id"]
    create_index("ix_image_members_project_created_at", "image_members", columns)
