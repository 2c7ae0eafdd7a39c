"""Frozen values that pass between the layers.

Times are aware datetimes in UTC with microseconds; sizes are bytes unless
the name says otherwise (``min_disk`` GiB, ``min_ram`` MiB, as in the Image
API reference, https://docs.openstack.org/api-ref/image/v2/).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
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
    staged: Location | None = None  # data waiting for its import; never served
    created_at: datetime = field(default_factory=utcnow)
    updated_at: datetime = field(default_factory=utcnow)
    version: int = 1

    @property
    def blobs(self) -> tuple[Location, ...]:
        """Every blob that the record names."""
        return self.locations if self.staged is None else (*self.locations, self.staged)


@dataclass(frozen=True, slots=True)
class Member:
    """A project that an image is shared with."""

    image_id: str
    project: str
    status: MemberStatus = MemberStatus.PENDING
    created_at: datetime = field(default_factory=utcnow)
    updated_at: datetime = field(default_factory=utcnow)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller's own identity is proved by towards other services.

    ``catalog`` is Keystone's service catalog as the token carries it. Never
    logged, never part of a comparison.
    """

    token: str
    catalog: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``admin`` sees and may everything; policy decides by ``roles``.

    ``service_roles`` are those of the service that passes a user's request
    on. ``system_scope`` is set for a token that isn't bound to a project.
    """

    user: str | None = None
    project: str | None = None
    roles: frozenset[str] = frozenset()
    admin: bool = False
    request_id: str | None = None
    service_roles: frozenset[str] = frozenset()
    system_scope: str | None = None
    credentials: Credentials | None = field(default=None, repr=False, compare=False)

    @classmethod
    def administrator(cls, project: str | None = None) -> Caller:
        """Make the caller an embedded program acts as."""
        return cls("admin", project, frozenset({"admin", "member", "reader"}), admin=True)


@dataclass(frozen=True, slots=True)
class Viewer:
    """What a registry needs to know of the caller to decide visibility.

    ``pending`` shows images whose delete is pending as well, which else
    nobody sees.
    """

    project: str | None = None
    admin: bool = False
    pending: bool = False


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

    def __post_init__(self) -> None:
        # Frozen all through, and so that it may have come over a wire.
        if isinstance(self.value, list):
            object.__setattr__(self, "value", tuple(self.value))


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
    visibility: str | None = None  # a Visibility, or "all"
    member_status: str = MemberStatus.ACCEPTED  # or "all"
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
    or ``("my_property",)``; ``value`` is as the caller sent it. ``only_new``
    makes an ADD fail where there is a value already, as the older of the two
    media types of a patch has it.
    """

    op: ChangeOp
    path: tuple[str, ...]
    value: Any = None
    only_new: bool = False


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A mounted store, as callers may know it.

    ``weight`` orders the stores an image is read from, highest first.
    ``type``, ``properties`` and ``unavailable``, why it is down if it is,
    are for administrators.
    """

    id: str
    description: str | None = None
    default: bool = False
    read_only: bool = False
    weight: int = 0
    type: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)
    unavailable: str | None = None


class TaskStatus(enum.StrEnum):
    """Task statuses, as in the Image API reference."""

    PENDING = "pending"
    PROCESSING = "processing"
    SUCCESS = "success"
    FAILURE = "failure"


class TaskType(enum.StrEnum):
    IMAGE_IMPORT = "api_image_import"  # POST /images/{id}/import
    LOCATION_IMPORT = "location_import"  # POST /images/{id}/locations
    IMPORT = "import"  # POST /tasks, for administrators
    REPLICATE = "replicate"  # the service's own: to as many stores as the policy says
    VERIFY = "verify"  # the service's own: all images
    UPLOAD = "resumable_upload"  # the end of an upload in pieces


@dataclass(frozen=True, slots=True)
class Task:
    """Work that outlives its request: any process may take it up.

    ``input`` is what the caller asked for and ``result`` what came of it.
    ``progress`` is the worker's note to whoever goes on after it died.
    ``secret`` holds what the work needs and nobody may see (a token); it is
    dropped when the task ends. ``version`` is the compare-and-set counter.
    """

    id: str
    type: TaskType
    status: TaskStatus = TaskStatus.PENDING
    owner: str | None = None
    user: str | None = None
    image_id: str | None = None
    request_id: str | None = None
    input: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    message: str = ""
    progress: Mapping[str, Any] = field(default_factory=dict)
    secret: str | None = field(default=None, repr=False)
    created_at: datetime = field(default_factory=utcnow)
    updated_at: datetime = field(default_factory=utcnow)
    expires_at: datetime | None = None
    version: int = 1


class UploadKind(enum.StrEnum):
    """What becomes of an upload's bytes: an image's data, or a part of one."""

    PLAIN = "plain"
    PARTIAL = "partial"
    FINAL = "final"  # has no bytes of its own: joins partial ones
    PRESIGNED = "presigned"  # the client writes to the store itself, under ``key``


class UploadState(enum.StrEnum):
    OPEN = "open"  # takes bytes
    FULL = "full"  # all bytes are there
    FINISHING = "finishing"  # a task makes them the image's data
    DONE = "done"  # they are


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in pieces (https://tus.io/protocols/resumable-upload).

    The bytes lie in the store ``home``: whole parts of ``part_size`` in the
    store's own upload ``session`` to ``key``, and what doesn't make a part
    yet in small blobs, ``tail``, of (key, size). ``store`` is where they
    are to go. ``length`` is None until it is told. ``joins`` are the ids of
    the partial uploads of a final one. ``version`` is the compare-and-set
    counter: whoever takes an upload over moves it on.
    """

    id: str
    image_id: str
    store: str
    home: str
    key: str
    part_size: int
    kind: UploadKind = UploadKind.PLAIN
    state: UploadState = UploadState.OPEN
    owner: str | None = None
    length: int | None = None
    session: str | None = None
    parts: int = 0
    tail: tuple[tuple[str, int], ...] = ()
    joins: tuple[str, ...] = ()
    metadata: str = ""  # as the client sent it; of a presigned one the digest to come
    task_id: str | None = None
    created_at: datetime = field(default_factory=utcnow)
    expires_at: datetime = field(default_factory=utcnow)
    version: int = 1

    @property
    def tail_size(self) -> int:
        """How many bytes don't make a part yet."""
        return sum(size for _key, size in self.tail)

    @property
    def offset(self) -> int:
        """How many bytes are there, durably."""
        if self.kind is UploadKind.FINAL or self.state is UploadState.DONE:
            return self.length or 0
        return self.parts * self.part_size + self.tail_size

    @property
    def blobs(self) -> tuple[Location, ...]:
        """Every blob that the upload may have in its store."""
        kept = self.session is not None or self.kind is UploadKind.PRESIGNED
        own = (Location(self.home, self.key),) if kept else ()
        return (*own, *(Location(self.home, key) for key, _size in self.tail))


TASK_SORT_FIELDS = frozenset({"id", "type", "status", "created_at", "updated_at", "expires_at"})


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """What tasks to list; None stands for any."""

    owner: str | None = None
    image_id: str | None = None
    type: TaskType | None = None
    status: TaskStatus | None = None
    sort: tuple[SortKey, ...] = (SortKey("created_at"),)
    limit: int = 25
    marker: str | None = None


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of tasks; ``next_marker`` is None on the last page."""

    tasks: tuple[Task, ...]
    next_marker: str | None = None


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of what a project uses, or wants; sizes in bytes.

    Named as Keystone's unified limits of the image service. ``total`` is
    the size of each image times the stores that hold it, ``staged`` what
    waits for its import, ``images`` counts images and ``uploading`` those
    whose data is on its way (saving, uploading, importing).
    """

    total: int = 0
    staged: int = 0
    images: int = 0
    uploading: int = 0


@dataclass(frozen=True, slots=True)
class CachedImage:
    """An image's data in the local cache of one node (a server's own URL)."""

    node: str
    image_id: str
    size: int
    hits: int = 0
    last_accessed: datetime = field(default_factory=utcnow)
    last_modified: datetime = field(default_factory=utcnow)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace of metadata definitions with all that is in it.

    Each of ``resource_types``, ``properties``, ``objects`` and ``tags`` maps
    a name to its definition as the Metadata Definitions API writes it, in
    the order they were made. ``version`` is the compare-and-set counter.
    """

    name: str
    display_name: str | None = None
    description: str | None = None
    visibility: str = "private"  # or "public"
    protected: bool = False
    owner: str | None = None
    resource_types: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    properties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    objects: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    created_at: datetime = field(default_factory=utcnow)
    updated_at: datetime = field(default_factory=utcnow)
    version: int = 1


@dataclass(frozen=True, slots=True)
class NamespaceQuery:
    """What namespaces to list; None stands for any. ``resource_types``: any of them."""

    visibility: str | None = None
    owner: str | None = None
    resource_types: frozenset[str] = frozenset()
    sort: tuple[SortKey, ...] = (SortKey("created_at"),)
    limit: int = 25
    marker: str | None = None


@dataclass(frozen=True, slots=True)
class NamespacePage:
    """One page of namespaces; ``next_marker`` is None on the last page.

    These are without their properties, objects and tags.
    """

    namespaces: tuple[Namespace, ...]
    next_marker: str | None = None
