"""What a registry can keep: the checks that every backend shares.

One place, so that a value one backend takes is never refused, cut or
changed by another. Everything raises InvalidInput naming the field.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeVar

from glancelike.errors import InvalidInput, LeaseLost
from glancelike.model import (
    FILTER_FIELDS,
    SORT_FIELDS,
    TASK_SORT_FIELDS,
    Amounts,
    CachedImage,
    Filter,
    Image,
    Location,
    Member,
    MemberStatus,
    Op,
    Query,
    SortKey,
    Status,
    Task,
    TaskQuery,
    TaskStatus,
    TaskType,
    Upload,
    UploadKind,
    UploadState,
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
        "node": 255,
        "namespace": 80,
        "display_name": 80,
        "description": 500,
        "resource_type": 80,
        "request_id": 64,
    }
)
LONG_KEY = 512  # characters of a blob's key
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

UNFINISHED = frozenset({TaskStatus.PENDING, TaskStatus.PROCESSING})
UPLOADING = frozenset({Status.SAVING, Status.UPLOADING, Status.IMPORTING})
# Fields of Amounts and the largest values that one reservation may have.
AMOUNTS: Mapping[str, int] = MappingProxyType(
    {"total": 2**63 - 1, "staged": 2**63 - 1, "images": 2**31 - 1, "uploading": 2**31 - 1}
)

# What callers know them as: the resources of Keystone's unified limits.
LIMITED: Mapping[str, str] = MappingProxyType(
    {
        "total": "image_size_total (bytes)",
        "staged": "image_stage_total (bytes)",
        "images": "image_count_total",
        "uploading": "image_count_uploading",
    }
)

E = TypeVar("E", bound=enum.StrEnum)


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


def check_int(field: str, value: object, *, lowest: int = 0, highest: int | None = None) -> None:
    """Check that a number fits its column."""
    highest = LARGEST[field] if highest is None else highest
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInput(f"{field} must be an integer, not {type(value).__name__}")
    if not lowest <= value <= highest:
        raise InvalidInput(f"{field} must lie between {lowest} and {highest}, not {value}")


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
        staged=None if image.staged is None else checked_location(image.staged),
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


def document(field: str, value: object, limit: int = LONG_TEXT) -> str:
    """Return the value as JSON of up to ``limit`` bytes, the same for equal values."""
    try:
        text = json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{field} can't be kept as JSON: {error}") from None
    if len(text) > limit:
        raise InvalidInput(f"{field} is longer than {limit} bytes of JSON")
    return text


def _object(field: str, value: object) -> dict[str, Any]:
    """Return a copy of the mapping, as it is when it comes back from JSON."""
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{field} must be an object, not {type(value).__name__}")
    found: dict[str, Any] = json.loads(document(field, dict(value)))
    return found


def checked_task(task: Task) -> Task:
    """Return the task with documents of its own and its times in UTC."""
    check_name("task id", task.id, LENGTHS["id"])
    for field, length in (("owner", "owner"), ("user", "owner"), ("image_id", "id"), ("request_id",) * 2):
        if getattr(task, field) is not None:
            check_text(f"task {field}", getattr(task, field), limit=LENGTHS[length])
    check_text("task message", task.message)
    if task.secret is not None:
        check_text("task secret", task.secret)
    return replace(
        task,
        type=member_of(TaskType, "task type", task.type),
        status=member_of(TaskStatus, "task status", task.status),
        input=_object("task input", task.input),
        result=None if task.result is None else _object("task result", task.result),
        progress=_object("task progress", task.progress),
        created_at=in_utc("created_at", task.created_at),
        updated_at=in_utc("updated_at", task.updated_at),
        expires_at=None if task.expires_at is None else in_utc("expires_at", task.expires_at),
    )


def task_exists(task_id: str) -> InvalidInput:
    """Return the error for an id that another task has."""
    return InvalidInput(f"task id {task_id} is taken")


def checked_upload(upload: Upload) -> Upload:
    """Return the upload with its times in UTC."""
    for field, length in (("id", "id"), ("image_id", "id"), ("store", "store"), ("home", "store")):
        check_name(f"upload {field}", getattr(upload, field), LENGTHS[length])
    check_name("upload key", upload.key, LONG_KEY)
    for field, limit in (("owner", LENGTHS["owner"]), ("session", None), ("task_id", LENGTHS["id"])):
        if getattr(upload, field) is not None:
            check_text(f"upload {field}", getattr(upload, field), limit=limit)
    check_text("upload metadata", upload.metadata)
    numbers = (upload.part_size, upload.parts, upload.length or 0, *(size for _key, size in upload.tail))
    for number in numbers:
        check_int("upload size", number, highest=LARGEST["size"])
    document("upload tail", upload.tail)
    document("upload joins", upload.joins)
    return replace(
        upload,
        kind=member_of(UploadKind, "upload kind", upload.kind),
        state=member_of(UploadState, "upload state", upload.state),
        tail=tuple((str(key), size) for key, size in upload.tail),
        joins=tuple(map(str, upload.joins)),
        created_at=in_utc("created_at", upload.created_at),
        expires_at=in_utc("expires_at", upload.expires_at),
    )


def upload_exists(upload_id: str) -> InvalidInput:
    """Return the error for an id that another upload has."""
    return InvalidInput(f"upload id {upload_id} is taken")


def checked_limits(
    name: str, project: str, amounts: Amounts, limits: Mapping[str, int], seconds: float
) -> Mapping[str, int]:
    """Check what ``reserve`` is given; return the limits that are to be looked at."""
    check_name("reservation", name, LENGTHS["lease"])
    check_name("project", project, LENGTHS["project"])
    check_seconds("a reservation", seconds)
    for field, largest in AMOUNTS.items():
        check_int(field, getattr(amounts, field), highest=largest)
    unknown = sorted(set(limits) - set(AMOUNTS))
    if unknown:
        raise InvalidInput(f"there is no limit on {', '.join(unknown)}")
    return {field: limit for field, limit in limits.items() if limit >= 0 and getattr(amounts, field)}


def over_limit(project: str, field: str, limit: int, used: int, wanted: int) -> str:
    """Return the message of QuotaExceeded."""
    return f"project {project} may have {limit} of {LIMITED[field]}: {used} used, {wanted} more asked for"


def run_out(name: str) -> LeaseLost:
    """Return the error for a reservation that came too late to be settled."""
    return LeaseLost(f"{name}: what was reserved has run out, the work took too long")


def checked_cached(cached: CachedImage) -> CachedImage:
    """Return the value with its times in UTC."""
    check_name("node", cached.node, LENGTHS["node"])
    check_name("image_id", cached.image_id, LENGTHS["id"])
    for field in ("size", "hits"):
        check_int(field, getattr(cached, field), highest=LARGEST["size"])
    return replace(
        cached,
        last_accessed=in_utc("last_accessed", cached.last_accessed),
        last_modified=in_utc("last_modified", cached.last_modified),
    )


def check_seconds(what: str, seconds: float) -> None:
    """Check how long something is to be held."""
    if not (math.isfinite(seconds) and 0 < seconds <= 10**9):
        raise InvalidInput(f"{what} can't run for {seconds} seconds")


def check_lease(name: str, holder: str, seconds: float = 1.0) -> None:
    """Check the arguments of the lease methods."""
    check_name("lease", name, LENGTHS["lease"])
    check_name("lease holder", holder, LENGTHS["holder"])
    check_seconds("a lease", seconds)


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
    return replace(
        query,
        filters=tuple(checked_filter(condition) for condition in query.filters),
        sort=total_sort("images", query.sort, SORT_FIELDS, "id"),
    )


def total_sort(what: str, sort: Iterable[SortKey], fields: Collection[str], last: str) -> tuple[SortKey, ...]:
    """Return the sort without doubles and with the unique field ``last`` at its end."""
    keys: dict[str, SortKey] = {}
    descending = True
    for key in sort:
        if key.field not in fields:
            raise InvalidInput(f"{what} can't be sorted by {key.field!r}")
        keys.setdefault(key.field, key)
        descending = key.descending
    keys.setdefault(last, SortKey(last, descending))
    return tuple(keys.values())


def checked_task_query(query: TaskQuery) -> TaskQuery:
    """Return the query with its sort made total."""
    if query.limit < 0:
        raise InvalidInput(f"limit must not be negative: {query.limit}")
    for field in ("owner", "image_id"):
        if getattr(query, field) is not None:
            check_text(field, getattr(query, field))
    return replace(
        query,
        type=None if query.type is None else member_of(TaskType, "type", query.type),
        status=None if query.status is None else member_of(TaskStatus, "status", query.status),
        sort=total_sort("tasks", query.sort, TASK_SORT_FIELDS, "id"),
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
