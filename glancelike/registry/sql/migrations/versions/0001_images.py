"""Images with their tags, properties, locations and members; leases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from glancelike.sql.steps import create_index, create_table
from glancelike.sql.types import Exact, LongText, UtcTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_table(
        "images",
        sa.Column("id", Exact(64), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("shelf", sa.SmallInteger, nullable=False),
        sa.Column("status", Exact(32), nullable=False),
        sa.Column("visibility", Exact(16), nullable=False),
        sa.Column("name", Exact(255)),
        sa.Column("owner", Exact(255)),
        sa.Column("protected", sa.Boolean, nullable=False),
        sa.Column("disk_format", Exact(64)),
        sa.Column("container_format", Exact(64)),
        sa.Column("min_disk", sa.Integer, nullable=False),
        sa.Column("min_ram", sa.Integer, nullable=False),
        sa.Column("size", sa.BigInteger),
        sa.Column("virtual_size", sa.BigInteger),
        sa.Column("checksum", Exact(64)),
        sa.Column("hash_algo", Exact(64)),
        sa.Column("hash_value", Exact(255)),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("updated_at", UtcTime, nullable=False),
        sa.Column("deleted_at", UtcTime),
    )
    # None sorts first; PostgreSQL has to be told, the others know no such words.
    first = " NULLS FIRST" if op.get_context().dialect.name == "postgresql" else ""
    for name, scope in (("owner", ["owner", "visibility"]), ("visibility", ["visibility"])):
        for key, nulls in (("created_at", ""), ("updated_at", ""), ("name", first), ("size", first)):
            create_index(f"ix_images_{name}_{key}", "images", [*scope, "shelf", sa.text(key + nulls), "id"])
    for column in ("name", "status", "checksum", "hash_value", "updated_at"):
        create_index(f"ix_images_{column}", "images", [column])
    create_table(
        "image_tags",
        sa.Column("image_id", Exact(64), sa.ForeignKey("images.id"), primary_key=True),
        sa.Column("value", Exact(255), primary_key=True),
        sqlite_with_rowid=False,
    )
    create_index("ix_image_tags_value", "image_tags", ["value", "image_id"])
    create_table(
        "image_properties",
        sa.Column("image_id", Exact(64), sa.ForeignKey("images.id"), primary_key=True),
        sa.Column("name", Exact(255), primary_key=True),
        sa.Column("head", Exact(128), nullable=False),
        sa.Column("value", LongText, nullable=False),
        sqlite_with_rowid=False,
    )
    create_index("ix_image_properties_name_head", "image_properties", ["name", "head", "image_id"])
    create_table(
        "image_locations",
        sa.Column("image_id", Exact(64), sa.ForeignKey("images.id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("store", Exact(255), nullable=False),
        sa.Column("key", LongText, nullable=False),
        sa.Column("metadata", LongText, nullable=False),
        sqlite_with_rowid=False,
    )
    create_table(
        "image_members",
        sa.Column("image_id", Exact(64), sa.ForeignKey("images.id"), primary_key=True),
        sa.Column("project", Exact(255), primary_key=True),
        sa.Column("status", Exact(16), nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("updated_at", UtcTime, nullable=False),
        sqlite_with_rowid=False,
    )
    create_index("ix_image_members_project", "image_members", ["project", "status", "image_id"])
    create_table(
        "leases",
        sa.Column("name", Exact(255), primary_key=True),
        sa.Column("holder", Exact(255), nullable=False),
        sa.Column("expires_at", UtcTime, nullable=False),
        sqlite_with_rowid=False,
    )
