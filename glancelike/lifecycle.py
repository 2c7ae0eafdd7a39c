"""The status machine of an image: which status may follow which.

From the Image API reference, "Image status", without what only the import
tasks use of it: those add their transitions to the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from glancelike.errors import InvalidTransition
from glancelike.model import Image, Status

S = Status
TRANSITIONS: Mapping[Status, frozenset[Status]] = MappingProxyType(
    {
        S.QUEUED: frozenset({S.SAVING, S.UPLOADING, S.IMPORTING, S.ACTIVE, S.DELETED}),
        S.SAVING: frozenset({S.ACTIVE, S.QUEUED, S.KILLED, S.DELETED}),
        S.UPLOADING: frozenset({S.IMPORTING, S.QUEUED, S.DELETED}),
        S.IMPORTING: frozenset({S.ACTIVE, S.QUEUED, S.DELETED}),
        S.ACTIVE: frozenset({S.DEACTIVATED, S.PENDING_DELETE, S.DELETED}),
        S.DEACTIVATED: frozenset({S.ACTIVE, S.PENDING_DELETE, S.DELETED}),
        S.KILLED: frozenset({S.DELETED}),
        S.PENDING_DELETE: frozenset({S.ACTIVE, S.DEACTIVATED, S.DELETED}),
        S.DELETED: frozenset(),
    }
)


def check(image: Image, target: Status) -> None:
    """Raise InvalidTransition unless the image may become ``target``."""
    if target not in TRANSITIONS[image.status]:
        raise InvalidTransition(f"Image {image.id} is {image.status}: it can't become {target}")


def move(image: Image, target: Status, **changes: Any) -> Image:
    """Return the image in its new status, with other fields changed, too."""
    check(image, target)
    if image.status is S.QUEUED:
        changes.setdefault("staged", None)  # a location that was refused
    return replace(image, status=target, **changes)


def queued_again(image: Image) -> Image | None:
    """Return the image queued again whose data never came, or None when that isn't so.

    Staged data stays until its import, or the image's delete.
    """
    if image.status is S.SAVING or (image.status is S.UPLOADING and image.staged is None):
        return move(image, S.QUEUED, size=None)
    return None
