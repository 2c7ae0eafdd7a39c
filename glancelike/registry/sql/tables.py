"""The tables of the SQL registry, as the newest migration leaves them.

Which index serves what stands next to it; ``queries`` is written so that
the planner has no better idea. ``id`` ends the indexes that listings walk,
because it breaks the ties of every sort.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, SmallInteger, Table

from glancelike.model import FILTER_FIELDS
from glancelike.registry.sql.migrations import COMPATIBILITY_TABLE
from glancelike.registry.values import LENGTHS, LONG_KEY
from glancelike.sql.types import Exact, HugeText, LongText, UtcTime

# Values of images.shelf. One column, not two flags: an index prefix that
# finds the listed images without stepping over hidden and deleted ones. An
# image whose delete is pending remembers where it comes from.
LISTED, HIDDEN, DELETED = 0, 1, 2
PENDING = {LISTED: 3, HIDDEN: 4}
# Where staged data stands among the locations of its image.
STAGED = -1

# Characters of a property's value that are indexed: values are longer than
# any database's index entry may be.
HEAD = 128


def _null_is_least(*_: Any, dialect: sa.Dialect, **__: Any) -> bool:
    return dialect.name != "postgresql"


metadata = sa.MetaData()

images = Table(
    "images",
    metadata,
    Column("id", Exact(LENGTHS["id"]), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("shelf", SmallInteger, nullable=False),
    Column("status", Exact(32), nullable=False),
    Column("visibility", Exact(16), nullable=False),
    Column("name", Exact(LENGTHS["name"])),
    Column("owner", Exact(LENGTHS["owner"])),
    Column("protected", Boolean, nullable=False),
    Column("disk_format", Exact(LENGTHS["disk_format"])),
    Column("container_format", Exact(LENGTHS["container_format"])),
    Column("min_disk", Integer, nullable=False),
    Column("min_ram", Integer, nullable=False),
    Column("size", BigInteger),
    Column("virtual_size", BigInteger),
    Column("checksum", Exact(LENGTHS["checksum"])),
    Column("hash_algo", Exact(LENGTHS["hash_algo"])),
    Column("hash_value", Exact(LENGTHS["hash_value"])),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("deleted_at", UtcTime),
)
i = images.c

# Listings walk these in order: a project's own images of one visibility, and
# anybody's. Other sorts than these look at all that the viewer may see.
# Filters by a column of WALKED are looked up there as well: an index of it
# alone would tempt a planner to walk that, past all that isn't visible.
WALKED = ("created_at", "updated_at", "name", "size")
for scope_name, *scope in (("owner", i.owner, i.visibility), ("visibility", i.visibility)):
    for key in (i[name] for name in WALKED):
        index = Index(f"ix_images_{scope_name}_{key.name}", *scope, i.shelf, key, i.id)
        if key.nullable:
            # PostgreSQL puts NULL last unless told; the others know no such words.
            index.ddl_if(callable_=_null_is_least)
            Index(index.name, *scope, i.shelf, key.nulls_first(), i.id).ddl_if("postgresql")
# All that the sums of a project's quota need.
Index("ix_images_usage", i.owner, i.shelf, i.status, i.size, i.id)
# Tombstones to purge; None in all others.
Index("ix_images_deleted_at", i.deleted_at)
# A status is often asked for, and few images may have it.
Index("ix_images_status_created_at", i.status, i.visibility, i.shelf, i.created_at, i.id)
# Filters by other columns; ids and owners have theirs.
for name in sorted(set(FILTER_FIELDS) - {"id", "owner", "status", *WALKED}):
    Index(f"ix_images_{name}", i[name])

tags = Table(
    "image_tags",
    metadata,
    Column("image_id", ForeignKey(i.id), primary_key=True),
    Column("value", Exact(LENGTHS["tag"]), primary_key=True),
    sqlite_with_rowid=False,
)
Index("ix_image_tags_value", tags.c.value, tags.c.image_id)

properties = Table(
    "image_properties",
    metadata,
    Column("image_id", ForeignKey(i.id), primary_key=True),
    Column("name", Exact(LENGTHS["property"]), primary_key=True),
    Column("head", Exact(HEAD), nullable=False),
    Column("value", LongText, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_image_properties_name_head", properties.c.name, properties.c.head, properties.c.image_id)

locations = Table(
    "image_locations",
    metadata,
    Column("image_id", ForeignKey(i.id), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("store", Exact(LENGTHS["store"]), nullable=False),
    Column("key", LongText, nullable=False),
    Column("metadata", LongText, nullable=False),
    sqlite_with_rowid=False,
)

members = Table(
    "image_members",
    metadata,
    Column("image_id", ForeignKey(i.id), primary_key=True),
    Column("project", Exact(LENGTHS["project"]), primary_key=True),
    Column("status", Exact(16), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    # The image's, which never changes: a copy, so that an index has the order of listings.
    Column("image_created_at", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)
# What is shared with a project, in the order of the images' creation.
Index(
    "ix_image_members_project_created_at",
    members.c.project,
    members.c.status,
    members.c.image_created_at,
    members.c.image_id,
)

leases = Table(
    "leases",
    metadata,
    Column("name", Exact(LENGTHS["lease"]), primary_key=True),
    Column("holder", Exact(LENGTHS["holder"]), nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Exact(LENGTHS["id"]), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("type", Exact(32), nullable=False),
    Column("status", Exact(32), nullable=False),
    Column("owner", Exact(LENGTHS["owner"])),
    Column("user", Exact(LENGTHS["owner"])),
    Column("image_id", Exact(LENGTHS["id"])),
    Column("request_id", Exact(64)),
    Column("input", LongText, nullable=False),
    Column("result", LongText),
    Column("message", LongText, nullable=False),
    Column("progress", LongText, nullable=False),
    Column("secret", LongText),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
)
# What is to be done, oldest first; listings; an image's tasks; what may go.
Index("ix_tasks_status_created_at", tasks.c.status, tasks.c.created_at, tasks.c.id)
Index("ix_tasks_created_at", tasks.c.created_at, tasks.c.id)
Index("ix_tasks_image_id", tasks.c.image_id)
Index("ix_tasks_owner_created_at", tasks.c.owner, tasks.c.created_at, tasks.c.id)
Index("ix_tasks_expires_at", tasks.c.expires_at)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Exact(LENGTHS["id"]), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("image_id", Exact(LENGTHS["id"]), nullable=False),
    Column("kind", Exact(16), nullable=False),
    Column("state", Exact(16), nullable=False),
    Column("owner", Exact(LENGTHS["owner"])),
    Column("store", Exact(LENGTHS["store"]), nullable=False),
    Column("home", Exact(LENGTHS["store"]), nullable=False),
    Column("key", Exact(LONG_KEY), nullable=False),
    Column("session", LongText),
    Column("length", BigInteger),
    Column("part_size", BigInteger, nullable=False),
    Column("parts", Integer, nullable=False),
    Column("tail", LongText, nullable=False),
    Column("joins", LongText, nullable=False),
    Column("metadata", LongText, nullable=False),
    Column("task_id", Exact(LENGTHS["id"])),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
)
Index("ix_uploads_image_id", uploads.c.image_id, uploads.c.created_at)
Index("ix_uploads_state_created_at", uploads.c.state, uploads.c.created_at)
Index("ix_uploads_expires_at", uploads.c.expires_at)

# One row a project: the lock under which its reservations are made.
quota_projects = Table(
    "quota_projects",
    metadata,
    Column("project", Exact(LENGTHS["project"]), primary_key=True),
    sqlite_with_rowid=False,
)
reservations = Table(
    "quota_reservations",
    metadata,
    Column("name", Exact(LENGTHS["lease"]), primary_key=True),
    Column("project", Exact(LENGTHS["project"]), nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("staged", BigInteger, nullable=False),
    Column("images", Integer, nullable=False),
    Column("uploading", Integer, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_quota_reservations_project", reservations.c.project)

cached_images = Table(
    "cached_images",
    metadata,
    Column("image_id", Exact(LENGTHS["id"]), primary_key=True),
    Column("node", Exact(LENGTHS["node"]), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("hits", BigInteger, nullable=False),
    Column("last_accessed", UtcTime, nullable=False),
    Column("last_modified", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)

# A namespace is one document: its parts are read and written together. Only
# the resource types stand apart, for listings, which would else read it all.
namespaces = Table(
    "metadef_namespaces",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Exact(LENGTHS["namespace"]), nullable=False, unique=True),
    Column("version", Integer, nullable=False),
    Column("display_name", Exact(LENGTHS["display_name"])),
    Column("description", Exact(LENGTHS["description"])),
    Column("visibility", Exact(16), nullable=False),
    Column("protected", Boolean, nullable=False),
    Column("owner", Exact(LENGTHS["owner"])),
    Column("resource_types", HugeText, nullable=False),
    Column("document", HugeText, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)
Index("ix_metadef_namespaces_visibility", namespaces.c.visibility, namespaces.c.owner)

resource_types = Table(
    "metadef_resource_types",
    metadata,
    Column("name", Exact(LENGTHS["resource_type"]), primary_key=True),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)
associations = Table(
    "metadef_associations",
    metadata,
    Column("resource_type", Exact(LENGTHS["resource_type"]), primary_key=True),
    Column("namespace_id", ForeignKey(namespaces.c.id), primary_key=True),
    sqlite_with_rowid=False,
)
Index("ix_metadef_associations_namespace_id", associations.c.namespace_id)

# One row: which code may work with the database (``schema``).
compatibility = Table(
    COMPATIBILITY_TABLE,
    metadata,
    Column("oldest", Exact(32), primary_key=True),
    sqlite_with_rowid=False,
)
