"""Frozen values that pass between the layers.

Times are aware datetimes in UTC with microseconds; sizes are bytes unless
the name says otherwise (``min_disk`` GiB, ``min_ram`` MiB, as in the Image
API reference, https://docs.openstack.org/api-ref/image/v2/).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Protocol


def utcnow() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


class Source(Protocol):
    """Where bytes are taken from: forward only.

    ``read`` with a positive size returns at most that many bytes and an
    empty result only at the end.
    """

    def read(self, size: int, /) -> bytes: ...


class Status(enum.StrEnum):
    """Image statuses, as in the Image API reference."""

    QUEUED = "queued"
    SAVING = "saving"
    UPLOADING = "uploading"
    IMPORTING = "importing"
    ACTIVE = "active"
    DEACTIVATED = "deactivated"
    PENDING_DELETE = "pending_delete"
    DELETED = "deleted"
    KILLED = "killed"


class Visibility(enum.StrEnum):
    PUBLIC = "public"
    COMMUNITY = "community"
    SHARED = "shared"
    PRIVATE = "private"


class MemberStatus(enum.StrEnum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a copy of the data lies: a mounted store's id and the key in it."""

    store: str
    key: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """One image's record. ``version`` is the compare-and-set counter, 1 when new."""

    id: str
    status: Status = Status.QUEUED
    name: str | None = None
    owner: str | None = None
    visibility: Visibility = Visibility.SHARED
    protected: bool = False
    hidden: bool = False
    disk_format: str | None = None
    container_format: str | None = None
    min_disk: int = 0
    min_ram: int = 0
    size: int | None = None
    virtual_size: int | None = None
    checksum: str | None = None  # MD5, only where the operator asks for it
    hash_algo: str | None = None  # any name hashlib knows
    hash_value: str | None = None
    tags: frozenset[str] = frozenset()
    properties: Mapping[str, str] = field(default_factory=dict)
    locations: tuple[Location, ...] = ()
    created_at: datetime = field(default_factory=utcnow)
    updated_at: datetime = field(default_factory=utcnow)
    version: int = 1


@dataclass(frozen=True, slots=True)
class Member:
    """A project that an image is shared with."""

    image_id: str
    project: str
    status: MemberStatus = MemberStatus.PENDING
    created_at: datetime = field(default_factory=utcnow)
    updated_at: datetime = field(default_factory=utcnow)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``admin`` sees and may everything; policy decides by ``roles``."""

    user: str | None = None
    project: str | None = None
    roles: frozenset[str] = frozenset()
    admin: bool = False
    request_id: str | None = None

    @classmethod
    def administrator(cls, project: str | None = None) -> Caller:
        """Make the caller an embedded program acts as."""
        return cls("admin", project, frozenset({"admin", "member", "reader"}), admin=True)


@dataclass(frozen=True, slots=True)
class Viewer:
    """What a registry needs to know of the caller to decide visibility."""

    project: str | None = None
    admin: bool = False


class Op(enum.StrEnum):
    """Comparison operators of list filters."""

    EQ = "eq"
    NEQ = "neq"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    IN = "in"


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition: a base field's name (see FILTER_FIELDS) or a property's.

    ``value`` has the field's own type (datetime for times, int for sizes,
    bool for flags); for IN a tuple of them. ``is_property`` tells a custom
    property from a base field of the same name.
    """

    field: str
    op: Op
    value: Any
    is_property: bool = False


# Base fields that may be filtered and sorted by, with their Python types.
FILTER_FIELDS: Mapping[str, type] = MappingProxyType(
    {
        "id": str,
        "name": str,
        "status": Status,
        "owner": str,
        "disk_format": str,
        "container_format": str,
        "checksum": str,
        "hash_algo": str,
        "hash_value": str,
        "min_disk": int,
        "min_ram": int,
        "size": int,
        "virtual_size": int,
        "protected": bool,
        "created_at": datetime,
        "updated_at": datetime,
    }
)
SORT_FIELDS = frozenset(
    {
        "id",
        "name",
        "status",
        "owner",
        "visibility",
        "disk_format",
        "container_format",
        "min_disk",
        "min_ram",
        "size",
        "virtual_size",
        "created_at",
        "updated_at",
    }
)


@dataclass(frozen=True, slots=True)
class SortKey:
    field: str
    descending: bool = True


@dataclass(frozen=True, slots=True)
class Query:
    """What to list.

    ``visibility`` None lists what the viewer sees by default: the viewer's
    own images, public ones, and those shared with and accepted by the
    viewer (``member_status``); community images of others only when asked
    for by name. ``visibility="all"`` lists everything the viewer may see.
    ``tags`` must all be there. ``hidden`` None means both.
    """

    filters: tuple[Filter, ...] = ()
    tags: frozenset[str] = frozenset()
    visibility: Visibility | str | None = None
    member_status: MemberStatus | str = MemberStatus.ACCEPTED  # or "all"
    hidden: bool | None = False
    sort: tuple[SortKey, ...] = (SortKey("created_at"),)
    limit: int = 25
    marker: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing; ``next_marker`` is None on the last page."""

    images: tuple[Image, ...]
    next_marker: str | None = None


class ChangeOp(enum.StrEnum):
    """Operations of a JSON patch (RFC 6902) that the Image API takes."""

    ADD = "add"
    REPLACE = "replace"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Change:
    """One step of an update, in the Image API's own field names.

    ``path`` is the decoded JSON pointer, so ``("name",)``, ``("tags", "-")``
    or ``("my_property",)``; ``value`` is as the caller sent it.
    """

    op: ChangeOp
    path: tuple[str, ...]
    value: Any = None


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A mounted store, as callers may know it."""

    id: str
    description: str | None = None
    default: bool = False
    read_only: bool = False
