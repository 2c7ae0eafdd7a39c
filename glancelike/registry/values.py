"""What a registry can keep: the checks that every backend shares.

One place, so that a value one backend takes is never refused, cut or
changed by another. Everything raises InvalidInput naming the field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeVar

from glancelike.errors import InvalidInput
from glancelike.model import (
    FILTER_FIELDS,
    SORT_FIELDS,
    Filter,
    Image,
    Location,
    Member,
    MemberStatus,
    Op,
    Query,
    SortKey,
    Status,
    Visibility,
)

# Characters; what a MariaDB index of the widest columns together can hold.
LENGTHS: Mapping[str, int] = MappingProxyType(
    {
        "id": 64,
        "name": 255,
        "owner": 255,
        "disk_format": 64,
        "container_format": 64,
        "checksum": 64,
        "hash_algo": 64,
        "hash_value": 255,
        "tag": 255,
        "property": 255,
        "project": 255,
        "store": 255,
        "lease": 255,
        "holder": 255,
    }
)
LONG_TEXT = 65535  # bytes of UTF-8, a TEXT column of MySQL
LARGEST = {"min_disk": 2**31 - 1, "min_ram": 2**31 - 1, "size": 2**63 - 1, "virtual_size": 2**63 - 1}

EQUALITY = frozenset({Op.EQ, Op.NEQ, Op.IN})
OPERATORS: Mapping[type, frozenset[Op]] = MappingProxyType(
    {
        str: EQUALITY,
        Status: EQUALITY,
        bool: EQUALITY,
        int: frozenset(Op),
        datetime: frozenset(Op),
    }
)
PROPERTY_OPERATORS = frozenset({Op.EQ, Op.IN})

E = TypeVar("E", Status, Visibility, MemberStatus)


def storable(value: object) -> bool:
    """Tell whether a database can hold the text: no NUL, no lone surrogate."""
    if not isinstance(value, str) or "\0" in value:
        return False
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def check_text(field: str, value: object, *, limit: int | None = None) -> None:
    """Check a text; ``limit`` is in characters, without it LONG_TEXT bytes."""
    if not isinstance(value, str):
        raise InvalidInput(f"{field} must be a string, not {type(value).__name__}")
    if not storable(value):
        raise InvalidInput(f"{field} holds a NUL character or a lone surrogate")
    if limit is None:
        if len(value.encode()) > LONG_TEXT:
            raise InvalidInput(f"{field} is longer than {LONG_TEXT} bytes")
    elif len(value) > limit:
        raise InvalidInput(f"{field} is longer than {limit} characters")


def check_name(field: str, value: object, limit: int) -> None:
    """Check a text that identifies something and so can't be empty."""
    check_text(field, value, limit=limit)
    if not value:
        raise InvalidInput(f"{field} is empty")


def check_int(field: str, value: object, *, lowest: int = 0) -> None:
    """Check that a number fits its column."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInput(f"{field} must be an integer, not {type(value).__name__}")
    if not lowest <= value <= LARGEST[field]:
        raise InvalidInput(f"{field} must lie between {lowest} and {LARGEST[field]}, not {value}")


def in_utc(field: str, value: object) -> datetime:
    """Return the time in UTC."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidInput(f"{field} must be a datetime with a time zone")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(f"{field} is out of range") from None


def checked_image(image: Image) -> Image:
    """Return the image with containers of its own and its times in UTC."""
    check_name("id", image.id, LENGTHS["id"])
    for field in (
        "name",
        "owner",
        "disk_format",
        "container_format",
        "checksum",
        "hash_algo",
        "hash_value",
    ):
        value = getattr(image, field)
        if value is not None:
            check_text(field, value, limit=LENGTHS[field])
    for field in ("min_disk", "min_ram"):
        check_int(field, getattr(image, field))
    for field in ("size", "virtual_size"):
        if getattr(image, field) is not None:
            check_int(field, getattr(image, field))
    for field in ("protected", "hidden"):
        if not isinstance(getattr(image, field), bool):
            raise InvalidInput(f"{field} must be true or false")
    for tag in image.tags:
        check_text("tag", tag, limit=LENGTHS["tag"])
    for key, value in image.properties.items():
        check_text("property name", key, limit=LENGTHS["property"])
        check_text(f"property {key!r}", value)
    return replace(
        image,
        status=member_of(Status, "status", image.status),
        visibility=member_of(Visibility, "visibility", image.visibility),
        tags=frozenset(image.tags),
        properties=dict(image.properties),
        locations=tuple(checked_location(location) for location in image.locations),
        created_at=in_utc("created_at", image.created_at),
        updated_at=in_utc("updated_at", image.updated_at),
    )


def checked_location(location: Location) -> Location:
    """Return the location with metadata of its own."""
    check_name("location store", location.store, LENGTHS["store"])
    check_text("location key", location.key)
    for key, value in location.metadata.items():
        check_text("location metadata key", key, limit=LENGTHS["property"])
        check_text(f"location metadata {key!r}", value)
    return replace(location, metadata=dict(location.metadata))


def checked_member(member: Member) -> Member:
    """Return the member with its times in UTC."""
    check_name("member", member.project, LENGTHS["project"])
    return replace(
        member,
        status=member_of(MemberStatus, "member status", member.status),
        created_at=in_utc("created_at", member.created_at),
        updated_at=in_utc("updated_at", member.updated_at),
    )


def check_lease(name: str, holder: str, seconds: float = 1.0) -> None:
    """Check the arguments of the lease methods."""
    check_name("lease", name, LENGTHS["lease"])
    check_name("lease holder", holder, LENGTHS["holder"])
    if not (math.isfinite(seconds) and 0 < seconds <= 10**9):
        raise InvalidInput(f"a lease can't run for {seconds} seconds")


def checked_query(query: Query) -> Query:
    """Return the query with its times in UTC and its sort made total.

    A sort is total when no two images tie: the id comes last, in the
    direction of the key before it, so that one index serves both.
    """
    if not isinstance(query.limit, int) or query.limit < 0:
        raise InvalidInput(f"limit must not be negative: {query.limit}")
    for tag in query.tags:
        check_text("tag", tag)
    if query.visibility is not None and query.visibility != "all":
        member_of(Visibility, "visibility", query.visibility)
    if query.member_status != "all":
        member_of(MemberStatus, "member_status", query.member_status)
    keys: dict[str, SortKey] = {}
    for key in query.sort:
        if key.field not in SORT_FIELDS:
            raise InvalidInput(f"images can't be sorted by {key.field!r}")
        keys.setdefault(key.field, key)
    last = query.sort[-1].descending if query.sort else True
    keys.setdefault("id", SortKey("id", last))
    return replace(
        query,
        filters=tuple(checked_filter(condition) for condition in query.filters),
        sort=tuple(keys.values()),
    )


def checked_filter(condition: Filter) -> Filter:
    """Return the filter with its times in UTC."""
    if condition.is_property:
        kind: type = str
        allowed = PROPERTY_OPERATORS
    else:
        if condition.field not in FILTER_FIELDS:
            raise InvalidInput(f"images can't be filtered by {condition.field!r}")
        kind = FILTER_FIELDS[condition.field]
        allowed = OPERATORS[kind]
    check_text("filter", condition.field)
    if condition.op not in allowed:
        raise InvalidInput(f"{condition.field} has no operator {condition.op}")
    if condition.op is not Op.IN:
        return replace(condition, value=_filter_value(condition.field, kind, condition.value))
    if not isinstance(condition.value, tuple):
        raise InvalidInput(f"{condition.field}: in needs a tuple of values")
    return replace(condition, value=tuple(_filter_value(condition.field, kind, v) for v in condition.value))


def _filter_value(field: str, kind: type, value: Any) -> Any:
    if kind is datetime:
        return in_utc(field, value)
    if kind is int:
        check_int(field, value, lowest=-LARGEST[field])
    elif kind is bool:
        if not isinstance(value, bool):
            raise InvalidInput(f"{field} must be true or false")
    else:
        check_text(field, value)
        return str(value)  # a StrEnum's value, for drivers that know no enum
    return value


def member_of(kind: type[E], field: str, value: object) -> E:
    """Return the value as a member of the enum."""
    try:
        return kind(str(value))
    except ValueError:
        raise InvalidInput(f"{field} {value!r} must be one of {', '.join(kind)}") from None
