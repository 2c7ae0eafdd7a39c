"""Tasks, quota reservations, cached images and metadata definitions."""

from __future__ import annotations

import sqlalchemy as sa

from glancelike.sql.steps import create_index, create_table
from glancelike.sql.types import Exact, HugeText, LongText, UtcTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    create_index("ix_images_usage", "images", ["owner", "shelf", "status", "size", "id"])
    create_index("ix_images_deleted_at", "images", ["deleted_at"])
    create_table(
        "tasks",
        sa.Column("id", Exact(64), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("type", Exact(32), nullable=False),
        sa.Column("status", Exact(32), nullable=False),
        sa.Column("owner", Exact(255)),
        sa.Column("user", Exact(255)),
        sa.Column("image_id", Exact(64)),
        sa.Column("request_id", Exact(64)),
        sa.Column("input", LongText, nullable=False),
        sa.Column("result", LongText),
        sa.Column("message", LongText, nullable=False),
        sa.Column("progress", LongText, nullable=False),
        sa.Column("secret", LongText),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("updated_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime),
    )
    create_index("ix_tasks_status_created_at", "tasks", ["status", "created_at", "id"])
    create_index("ix_tasks_created_at", "tasks", ["created_at", "id"])
    create_index("ix_tasks_image_id", "tasks", ["image_id"])
    create_index("ix_tasks_owner_created_at", "tasks", ["owner", "created_at", "id"])
    create_index("ix_tasks_expires_at", "tasks", ["expires_at"])
    create_table(
        "quota_projects", sa.Column("project", Exact(255), primary_key=True), sqlite_with_rowid=False
    )
    create_table(
        "quota_reservations",
        sa.Column("name", Exact(255), primary_key=True),
        sa.Column("project", Exact(255), nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("staged", sa.BigInteger, nullable=False),
        sa.Column("images", sa.Integer, nullable=False),
        sa.Column("uploading", sa.Integer, nullable=False),
        sa.Column("expires_at", UtcTime, nullable=False),
        sqlite_with_rowid=False,
    )
    create_index("ix_quota_reservations_project", "quota_reservations", ["project"])
    create_table(
        "cached_images",
        sa.Column("image_id", Exact(64), primary_key=True),
        sa.Column("node", Exact(255), primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("hits", sa.BigInteger, nullable=False),
        sa.Column("last_accessed", UtcTime, nullable=False),
        sa.Column("last_modified", UtcTime, nullable=False),
        sqlite_with_rowid=False,
    )
    create_table(
        "metadef_namespaces",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", Exact(80), nullable=False, unique=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("display_name", Exact(80)),
        sa.Column("description", Exact(500)),
        sa.Column("visibility", Exact(16), nullable=False),
        sa.Column("protected", sa.Boolean, nullable=False),
        sa.Column("owner", Exact(255)),
        sa.Column("resource_types", HugeText, nullable=False),
        sa.Column("document", HugeText, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("updated_at", UtcTime, nullable=False),
    )
    create_index("ix_metadef_namespaces_visibility", "metadef_namespaces", ["visibility", "owner"])
    create_table(
        "metadef_resource_types",
        sa.Column("name", Exact(80), primary_key=True),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("updated_at", UtcTime, nullable=False),
        sqlite_with_rowid=False,
    )
    create_table(
        "metadef_associations",
        sa.Column("resource_type", Exact(80), primary_key=True),
        sa.Column("namespace_id", sa.Integer, sa.ForeignKey("metadef_namespaces.id"), primary_key=True),
        sqlite_with_rowid=False,
    )
    create_index("ix_metadef_associations_namespace_id", "metadef_associations", ["namespace_id"])
