"""Between rows and values: how an image is written down and read back."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glancelike.model import Image, Location, Member, MemberStatus, Status, Visibility
from glancelike.registry.sql.tables import (
    HEAD,
    HIDDEN,
    LISTED,
    PENDING,
    STAGED,
    images,
    locations,
    members,
    properties,
    tags,
    uploads,
)
from glancelike.sql.types import Document, Packed, unpacked

# The order of Image's fields, but for the children between them.
SCALARS = (
    "id", "status", "name", "owner", "visibility", "protected", "disk_format", "container_format",
    "min_disk", "min_ram", "size", "virtual_size", "checksum", "hash_algo", "hash_value",
)  # fmt: skip
MEMBER_COLUMNS = tuple(
    members.c[name] for name in ("image_id", "project", "status", "created_at", "updated_at")
)

BATCH = 500

# The columns of all rows that are read: an image's id, what the row is of, and all else as one text.
IMAGE, TAG, PROPERTY, LOCATION = "itpl"


def _kind(letter: str) -> sa.ColumnElement[str]:
    return sa.literal_column(f"'{letter}'", sa.Text)


COLUMNS = (
    images.c.id,
    _kind(IMAGE),
    Document(*(images.c[name] for name in (*SCALARS, "shelf", "created_at", "updated_at", "version"))),
)
_CHILDREN: Mapping[sa.Table, tuple[sa.ColumnElement[str], sa.ColumnElement[str]]] = {
    tags: (_kind(TAG), tags.c.value),
    properties: (_kind(PROPERTY), Packed(properties.c.name, properties.c.value)),
    locations: (
        _kind(LOCATION),
        Document(*(locations.c[name] for name in ("position", "store", "key", "metadata"))),
    ),
}
_ids: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
CHILDREN = sa.union_all(
    *(
        sa.select(table.c.image_id, *child).where(table.c.image_id.in_(_ids))
        for table, child in _CHILDREN.items()
    )
)


def with_children(image: sa.Select[Any], image_id: sa.BindParameter[Any]) -> sa.CompoundSelect[Any]:
    """Select the row of COLUMNS that ``image`` selects, and its children, for ``to_image``."""
    return sa.union_all(
        image,
        *(
            sa.select(table.c.image_id, *child).where(table.c.image_id == image_id)
            for table, child in _CHILDREN.items()
        ),
    )


def batches(ids: Iterable[str], size: int = BATCH) -> Iterator[list[str]]:
    """Cut a list of ids into pieces that fit a statement's parameters."""
    remaining = iter(ids)
    while batch := list(islice(remaining, size)):
        yield batch


class Children:
    """Tags, properties and locations of one image."""

    __slots__ = ("locations", "properties", "tags")

    def __init__(self) -> None:
        self.tags: set[str] = set()
        self.properties: dict[str, str] = {}
        self.locations: dict[int, Location] = {}

    def add(self, kind: str, text: str) -> None:
        """Take in a row."""
        if kind == TAG:
            self.tags.add(text)
        elif kind == PROPERTY:
            name, value = unpacked(text, 2)
            self.properties[name] = value
        else:
            position, store, key, metadata = msgspec.json.decode(text)
            self.locations[position] = Location(store, key, json.loads(metadata) if metadata != "{}" else {})


def children_of(connection: Connection, ids: Iterable[str]) -> Mapping[str, Children]:
    """Read the children of any number of images, BATCH images a statement."""
    found: defaultdict[str, Children] = defaultdict(Children)
    for batch in batches(ids):
        for image_id, kind, text in connection.execute(CHILDREN, {"ids": batch}).all():
            found[image_id].add(kind, text)
    return found


def to_images(connection: Connection, rows: Sequence[Any]) -> tuple[Image, ...]:
    """Turn rows of COLUMNS into images, with one more statement for all."""
    children = children_of(connection, [row[0] for row in rows]) if rows else {}
    empty = Children()
    return tuple(_to_image(text, children.get(image_id, empty)) for image_id, _, text in rows)


def to_image(rows: Sequence[Any]) -> Image | None:
    """Turn what ``with_children`` selects into an image; None where there is but the children, or nothing."""
    image: str | None = None
    children = Children()
    for _, kind, text in rows:
        if kind == IMAGE:
            image = text
        else:
            children.add(kind, text)
    return None if image is None else _to_image(image, children)


def _to_image(text: str, children: Children) -> Image:
    (
        id_, status, name, owner, visibility, protected, disk_format, container_format, min_disk, min_ram,
        size, virtual_size, checksum, hash_algo, hash_value, shelf, created_at, updated_at, version,
    ) = msgspec.json.decode(text)  # fmt: skip
    return Image(
        id=id_,
        status=Status(status),
        name=name,
        owner=owner,
        visibility=Visibility(visibility),
        protected=bool(protected),
        hidden=shelf in (HIDDEN, PENDING[HIDDEN]),
        disk_format=disk_format,
        container_format=container_format,
        min_disk=min_disk,
        min_ram=min_ram,
        size=size,
        virtual_size=virtual_size,
        checksum=checksum,
        hash_algo=hash_algo,
        hash_value=hash_value,
        tags=frozenset(children.tags),
        properties=children.properties,
        locations=tuple(
            place for position, place in sorted(children.locations.items()) if position != STAGED
        ),
        staged=children.locations.get(STAGED),
        created_at=_time(created_at),
        updated_at=_time(updated_at),
        version=version,
    )


def _time(text: str) -> datetime:
    """Read a time as databases write it: UTC, with a blank or a T between day and hour."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def to_member(row: Any) -> Member:
    """Turn a row of MEMBER_COLUMNS into a member."""
    image_id, project, status, created_at, updated_at = row
    return Member(image_id, project, MemberStatus(status), created_at, updated_at)


def row_of_member(member: Member, image_created_at: datetime) -> dict[str, Any]:
    """Return a member's row; it has a copy of when the image was made."""
    return {
        "image_id": member.image_id,
        "project": member.project,
        "status": member.status.value,
        "created_at": member.created_at,
        "updated_at": member.updated_at,
        "image_created_at": image_created_at,
    }


def scalars_of(image: Image) -> dict[str, Any]:
    """Return the columns of ``images`` that a caller sets."""
    row = {name: getattr(image, name) for name in SCALARS}
    row["status"] = image.status.value
    row["visibility"] = image.visibility.value
    shelf = HIDDEN if image.hidden else LISTED
    row["shelf"] = PENDING[shelf] if image.status is Status.PENDING_DELETE else shelf
    return row


Row = dict[str, Any]


def new_children(image: Image, old: Children | None = None) -> dict[sa.Table, list[Row]]:
    """Return the rows that an image has and its old children, if any, don't."""
    before = old or Children()
    of_image = {"image_id": image.id}
    places = places_of(image)
    return {
        tags: [{**of_image, "value": tag} for tag in image.tags - before.tags],
        properties: [
            {**of_image, "name": key, "head": value[:HEAD], "value": value}
            for key, value in image.properties.items()
            if before.properties.get(key) != value
        ],
        # All or none: their order is theirs together.
        locations: []
        if places == before.locations
        else [
            {
                **of_image,
                "position": position,
                "store": place.store,
                "key": place.key,
                "metadata": json.dumps(dict(place.metadata)),
            }
            for position, place in places.items()
        ],
    }


def places_of(image: Image) -> dict[int, Location]:
    """Return the image's locations by position, the staged data's among them."""
    places = dict(enumerate(image.locations))
    if image.staged is not None:
        places[STAGED] = image.staged
    return places


def write_children(connection: Connection, image: Image, old: Children) -> None:
    """Bring the children from what they are to the image's, touching only those that differ."""
    gone_tags = old.tags - image.tags
    if gone_tags:
        connection.execute(sa.delete(tags).where(tags.c.image_id == image.id, tags.c.value.in_(gone_tags)))
    gone = {key for key, value in old.properties.items() if image.properties.get(key) != value}
    if gone:
        connection.execute(
            sa.delete(properties).where(properties.c.image_id == image.id, properties.c.name.in_(gone))
        )
    if old.locations and old.locations != places_of(image):
        connection.execute(sa.delete(locations).where(locations.c.image_id == image.id))
    for table, rows in new_children(image, old).items():
        if rows:
            connection.execute(sa.insert(table), rows)


def delete_children(connection: Connection, image_id: str) -> None:
    """Remove all that belongs to an image but its own row."""
    for table in (tags, properties, locations, members, uploads):
        connection.execute(sa.delete(table).where(table.c.image_id == image_id))
