"""Values of the model as the Image API writes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from glancelike.model import Image, Member

PREFIX = "/v2"


def instant(value: datetime) -> str:
    """Write a time to the second, as in ``2026-11-23T02:30:00Z``."""
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")


def image(value: Image) -> dict[str, Any]:
    """Return the body that shows an image; base fields win over properties."""
    location = f"{PREFIX}/images/{value.id}"
    body: dict[str, Any] = {
        **value.properties,
        "id": value.id,
        "name": value.name,
        "status": value.status,
        "visibility": value.visibility,
        "owner": value.owner,
        "protected": value.protected,
        "os_hidden": value.hidden,
        "disk_format": value.disk_format,
        "container_format": value.container_format,
        "min_disk": value.min_disk,
        "min_ram": value.min_ram,
        "size": value.size,
        "virtual_size": value.virtual_size,
        "checksum": value.checksum,
        "os_hash_algo": value.hash_algo,
        "os_hash_value": value.hash_value,
        "tags": sorted(value.tags),
        "created_at": instant(value.created_at),
        "updated_at": instant(value.updated_at),
        "self": location,
        "file": f"{location}/file",
        "schema": f"{PREFIX}/schemas/image",
    }
    if value.locations:
        body["stores"] = ",".join(dict.fromkeys(each.store for each in value.locations))
    return body


def member(value: Member) -> dict[str, Any]:
    """Return the body that shows a member."""
    return {
        "image_id": value.image_id,
        "member_id": value.project,
        "status": value.status,
        "created_at": instant(value.created_at),
        "updated_at": instant(value.updated_at),
        "schema": f"{PREFIX}/schemas/member",
    }
