"""Values of the model as the Image API writes them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from glancelike.model import Image, Member, Task
from glancelike.service import Places

PREFIX = "/v2"


def instant(value: datetime) -> str:
    """Write a time to the second, as in ``2026-11-23T02:30:00Z``."""
    return value.isoformat()[:19] + "Z"  # strftime takes five times as long


def page(
    name: str, path: str, items: list[Any], asked: Iterable[tuple[str, str]], next_marker: str | None
) -> dict[str, Any]:
    """Return the body of one page of the collection at ``path``, such as ``/images``.

    Its links keep what the query ``asked`` for, but for the marker.
    """
    kept = [(key, value) for key, value in asked if key != "marker"]

    def link(pairs: list[tuple[str, str]]) -> str:
        query = urlencode(pairs)
        return f"{PREFIX}{path}?{query}" if query else f"{PREFIX}{path}"

    body = {name: items, "first": link(kept), "schema": f"{PREFIX}/schemas{path}"}
    if next_marker is not None:
        body["next"] = link([*kept, ("marker", next_marker)])
    return body


def image(value: Image, places: Places) -> dict[str, Any]:
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
    if places.stores:
        body["stores"] = ",".join(places.stores)
    if places.direct_url is not None:
        body["direct_url"] = places.direct_url
    if places.locations is not None:
        body["locations"] = list(places.locations)
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


def task_stub(value: Task) -> dict[str, Any]:
    """Return what a list shows of a task."""
    body: dict[str, Any] = {
        "id": value.id,
        "type": value.type,
        "status": value.status,
        "owner": value.owner,
        "created_at": instant(value.created_at),
        "updated_at": instant(value.updated_at),
        "self": f"{PREFIX}/tasks/{value.id}",
        "schema": f"{PREFIX}/schemas/task",
    }
    if value.expires_at is not None:
        body["expires_at"] = instant(value.expires_at)
    return body


def task(value: Task) -> dict[str, Any]:
    """Return the body that shows a task."""
    body = {
        **task_stub(value),
        "input": dict(value.input),
        "result": None if value.result is None else dict(value.result),
        "message": value.message,
    }
    told = {"image_id": value.image_id, "request_id": value.request_id, "user_id": value.user}
    body.update({name: text for name, text in told.items() if text})
    return body
