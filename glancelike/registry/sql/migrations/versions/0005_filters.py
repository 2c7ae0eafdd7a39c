"""Indexes for what listings are filtered by."""

from __future__ import annotations

from glancelike.sql.steps import create_index

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for column in (
        "container_format",
        "disk_format",
        "hash_algo",
        "min_disk",
        "min_ram",
        "protected",
        "virtual_size",
    ):
        create_index(f"ix_images_{column}", "images", [column])
    create_index(
        "ix_images_status_created_at", "images", ["status", "visibility", "shelf", "created_at", "id"]
    )
