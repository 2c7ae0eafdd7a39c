"""The Image API's fields: which a caller may set, to what, and how a patch applies.

``assign`` and ``apply`` are pure: they return a new Image or raise.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from glancelike.errors import Conflict, InvalidInput, LimitExceeded, ReadOnlyProperty
from glancelike.model import Change, ChangeOp, Image, Status, Visibility
from glancelike.service.context import Settings

# Set by the service alone; "id" may be given once, on create.
READ_ONLY = frozenset(
    {
        "id",
        "status",
        "size",
        "virtual_size",
        "checksum",
        "os_hash_algo",
        "os_hash_value",
        "created_at",
        "updated_at",
        "file",
        "self",
        "schema",
        "direct_url",
        "stores",
        "locations",
    }
)
# Taken by the service, though no field shows them.
RESERVED = frozenset({"location", "deleted", "deleted_at"})
RESERVED_PREFIX = "os_glance"
FROZEN_AFTER_QUEUED = frozenset({"disk_format", "container_format"})
LARGEST_INT = 2**31 - 1
LONGEST = 255


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a string, not {value!r}")
    if len(value) > LONGEST:
        raise InvalidInput(f"{name} is longer than {LONGEST} characters")
    return value


def _optional_text(name: str, value: Any) -> str | None:
    return None if value is None else _text(name, value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} must be true or false, not {value!r}")
    return value


def _amount(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(f"{name} must be an integer, not {value!r}")
    if not 0 <= value <= LARGEST_INT:
        raise InvalidInput(f"{name} must be from 0 to {LARGEST_INT}, not {value}")
    return value


def _visibility(name: str, value: Any) -> Visibility:
    try:
        return Visibility(value)
    except ValueError:
        raise InvalidInput(f"{name} must be one of {', '.join(Visibility)}, not {value!r}") from None


def _tags(name: str, value: Any) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidInput(f"{name} must be a list of strings, not {value!r}")
    return frozenset(tag(each) for each in value)


def tag(value: Any) -> str:
    """Check one tag."""
    if not _text("tag", value).strip():
        raise InvalidInput("a tag can't be empty")
    return str(value)


def image_id(value: Any) -> str:
    """Check an id given by the caller: a UUID, in its usual form."""
    try:
        return str(uuid.UUID(_text("id", value)))
    except ValueError:
        raise InvalidInput(f"id must be a UUID, not {value!r}") from None


# The API's field name -> attribute of Image, check
SETTABLE: Mapping[str, tuple[str, Callable[[str, Any], Any]]] = {
    "name": ("name", _optional_text),
    "visibility": ("visibility", _visibility),
    "protected": ("protected", _flag),
    "os_hidden": ("hidden", _flag),
    "owner": ("owner", _optional_text),
    "disk_format": ("disk_format", _optional_text),
    "container_format": ("container_format", _optional_text),
    "min_disk": ("min_disk", _amount),
    "min_ram": ("min_ram", _amount),
    "tags": ("tags", _tags),
}


BASE_FIELDS = READ_ONLY | RESERVED | SETTABLE.keys()


def _property_name(name: str) -> str:
    if not name.strip() or re.search(r"[\x00-\x1f]", name):
        raise InvalidInput(f"{name!r} can't be the name of a property")
    if len(name) > LONGEST:
        raise InvalidInput(f"Custom property name is longer than {LONGEST} characters: {name[:40]}…")
    return name


def _guard(name: str) -> None:
    if name in READ_ONLY:
        raise ReadOnlyProperty(f"Attribute '{name}' is read-only.")
    if name in RESERVED or name.startswith(RESERVED_PREFIX):
        raise ReadOnlyProperty(f"Attribute '{name}' is reserved.")


def assign(image: Image, name: str, value: Any, settings: Settings) -> Image:
    """Set one field or property; raise InvalidInput or ReadOnlyProperty."""
    _guard(name)
    if name not in SETTABLE:
        return replace(image, properties={**image.properties, _property_name(name): _value(name, value)})
    attribute, check = SETTABLE[name]
    checked = check(name, value)
    if name in FROZEN_AFTER_QUEUED:
        if image.status is not Status.QUEUED and checked != getattr(image, attribute):
            raise ReadOnlyProperty(f"Attribute {name} can be only replaced for a queued image.")
        allowed = settings.disk_formats if name == "disk_format" else settings.container_formats
        if checked is not None and checked not in allowed:
            raise InvalidInput(f"Invalid {name} {checked!r}: expected one of {', '.join(allowed)}")
    return replace(image, **{attribute: checked})


def _value(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"property {name} must be a string, not {value!r}")
    return value


def apply(image: Image, change: Change, settings: Settings) -> Image:
    """Apply one step of a patch.

    Raises Conflict when a property to replace or remove isn't there, and
    ReadOnlyProperty for a field that can't be set or removed.
    """
    name, *rest = change.path
    if rest:
        return _apply_inside(image, name, rest, change)
    _guard(name)
    if change.op is ChangeOp.REMOVE:
        if name in SETTABLE:
            raise ReadOnlyProperty(f"Property {name} may not be removed.")
        if name not in image.properties:
            raise Conflict(f"Property {name} does not exist.")
        left = {key: value for key, value in image.properties.items() if key != name}
        return replace(image, properties=left)
    there = name in SETTABLE or name in image.properties
    if change.op is ChangeOp.REPLACE and not there:
        raise Conflict(f"Property {name} does not exist.")
    if change.only_new and there:
        raise Conflict(f"Property {name} already present.")
    return assign(image, name, change.value, settings)


def _apply_inside(image: Image, name: str, rest: list[str], change: Change) -> Image:
    """Only ``/tags/-`` may be added to; nothing else has an inside."""
    _guard(name)
    if name == "tags" and rest == ["-"] and change.op is ChangeOp.ADD:
        return replace(image, tags=image.tags | {tag(change.value)})
    pointer = "/".join(["", name, *rest])
    raise InvalidInput(f"Invalid JSON pointer for this resource: '{pointer}'")


def check_limits(before: Image | None, after: Image, settings: Settings) -> None:
    """Raise LimitExceeded for more tags or properties than allowed, unless none were added.

    What the service itself keeps in properties doesn't count.
    """
    checks: tuple[tuple[str, Callable[[Image], int], int], ...] = (
        ("tags", lambda image: len(image.tags), settings.image_tag_quota),
        ("properties", _own_properties, settings.image_property_quota),
    )
    for what, counted, limit in checks:
        count = counted(after)
        if 0 <= limit < count and (before is None or count > counted(before)):
            raise LimitExceeded(
                f"The limit has been exceeded on the number of allowed image {what}: "
                f"attempted {count}, maximum {limit}."
            )


def _own_properties(image: Image) -> int:
    return sum(not name.startswith(RESERVED_PREFIX) for name in image.properties)
