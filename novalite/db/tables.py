"""The tables. ``migrations/`` makes them; a test proves that both agree."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = sa.MetaData(naming_convention=NAMING)


class UtcTime(TypeDecorator[datetime]):
    """An aware time, stored as naive UTC with microseconds."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Ask MariaDB and MySQL for microseconds, which they drop otherwise."""
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(sa.DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into naive UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Give a stored time its zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")

servers = sa.Table(
    "servers",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("project", sa.String(255), nullable=False),
    sa.Column("user", sa.String(255), nullable=False),
    sa.Column("reservation_id", sa.String(32), nullable=False),
    sa.Column("launch_index", sa.Integer, nullable=False),
    sa.Column("vm_state", sa.String(32), nullable=False),
    sa.Column("task_state", sa.String(32)),
    sa.Column("power_state", sa.String(32)),
    sa.Column("host", sa.String(255)),
    sa.Column("zone", sa.String(255)),
    sa.Column("forced_host", sa.String(255)),
    sa.Column("flavor_id", sa.String(255), nullable=False),
    sa.Column("flavor", sa.JSON, nullable=False),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
    sa.Column("image_id", sa.String(36), nullable=False),
    sa.Column("image", sa.JSON, nullable=False),
    sa.Column("key_name", sa.String(255)),
    sa.Column("public_key", sa.Text),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("user_data", LONG_TEXT),
    sa.Column("config_drive", sa.Boolean, nullable=False),
    sa.Column("networks", sa.String(16), nullable=False, server_default="auto"),
    sa.Column("description", sa.String(255)),
    sa.Column("locked_by", sa.String(16)),
    sa.Column("locked_reason", sa.String(255)),
    sa.Column("hints", sa.JSON, nullable=False),
    sa.Column("addresses", sa.JSON, nullable=False),
    sa.Column("fault", sa.JSON(none_as_null=True)),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Column("launched_at", UtcTime),
    sa.Column("terminated_at", UtcTime),
    sa.Column("access_ipv4", sa.String(45)),
    sa.Column("access_ipv6", sa.String(45)),
    sa.Column("task_args", sa.JSON(none_as_null=True)),
    sa.Column("kept", sa.JSON(none_as_null=True)),
    sa.Column("request_id", sa.String(64)),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("tried_hosts", sa.JSON, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("lease_holder", sa.String(255)),
    sa.Column("lease_until", UtcTime),
    sa.Index(None, "project", "vm_state", "created_at", "id"),
    sa.Index(None, "created_at", "id"),
    sa.Index(None, "updated_at"),
    sa.Index(None, "host", "vm_state"),
    sa.Index(None, "task_state", "host"),
    sa.Index(None, "lease_holder"),
)

server_tags = sa.Table(
    "server_tags",
    metadata,
    sa.Column("server_id", sa.String(36), primary_key=True),
    sa.Column("tag", sa.String(60), primary_key=True),
    sa.Index(None, "tag"),
)

# What was ordered of each server, by the request that did it. An event is a
# step of it: a task as one worker did it.
server_actions = sa.Table(
    "server_actions",
    metadata,
    sa.Column("server_id", sa.String(36), primary_key=True),
    sa.Column("request_id", sa.String(64), primary_key=True),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("user", sa.String(255)),
    sa.Column("project", sa.String(255)),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Column("message", sa.String(255)),
)
server_action_events = sa.Table(
    "server_action_events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("server_id", sa.String(36), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("event", sa.String(64), nullable=False),
    sa.Column("host", sa.String(255)),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("finished_at", UtcTime),
    sa.Column("result", sa.String(16)),
    sa.Column("details", sa.Text),
    sa.Index(None, "server_id", "request_id"),
)

hosts = sa.Table(
    "hosts",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("zone", sa.String(255), nullable=False),
    sa.Column("hypervisor_type", sa.String(64), nullable=False),
    sa.Column("hypervisor_version", sa.String(64), nullable=False),
    sa.Column("virt_type", sa.String(32), nullable=False),
    sa.Column("arch", sa.String(32), nullable=False),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("disabled_reason", sa.String(255)),
    sa.Column("heartbeat_at", UtcTime, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
)

# What each placed server takes of its host: made by the claim, removed with
# the placement, both in the transaction that changes ``servers.host``.
allocations = sa.Table(
    "allocations",
    metadata,
    sa.Column("server_id", sa.String(36), primary_key=True),
    sa.Column("host", sa.String(255), sa.ForeignKey("hosts.name"), nullable=False, index=True),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
)

flavors = sa.Table(
    "flavors",
    metadata,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
    sa.Column("public", sa.Boolean, nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("extra_specs", sa.JSON, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
)

keypairs = sa.Table(
    "keypairs",
    metadata,
    sa.Column("user", sa.String(255), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("public_key", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
)

# One row per owner of a quota: locking it makes check-and-insert exact on
# databases that let writers run side by side.
quota_locks = sa.Table("quota_locks", metadata, sa.Column("owner", sa.String(255), primary_key=True))
