"""The tables. ``migrations/`` makes them; a test proves that both agree."""

from __future__ import annotations

import sqlalchemy as sa

from glancelike.sql.types import Exact, HugeText, LongText, UtcTime

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = sa.MetaData(naming_convention=NAMING)


servers = sa.Table(
    "servers",
    metadata,
    sa.Column("id", Exact(36), primary_key=True),
    sa.Column("name", Exact(255), nullable=False),
    sa.Column("project", Exact(255), nullable=False),
    sa.Column("user", Exact(255), nullable=False),
    sa.Column("reservation_id", Exact(32), nullable=False),
    sa.Column("launch_index", sa.Integer, nullable=False),
    sa.Column("vm_state", Exact(32), nullable=False),
    sa.Column("task_state", Exact(32)),
    sa.Column("power_state", Exact(32)),
    sa.Column("host", Exact(255)),
    sa.Column("zone", Exact(255)),
    sa.Column("forced_host", Exact(255)),
    sa.Column("flavor_id", Exact(255), nullable=False),
    sa.Column("flavor", sa.JSON, nullable=False),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
    sa.Column("image_id", Exact(36), nullable=False),
    sa.Column("image", sa.JSON, nullable=False),
    sa.Column("key_name", Exact(255)),
    sa.Column("public_key", LongText),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("user_data", HugeText),
    sa.Column("config_drive", sa.Boolean, nullable=False),
    sa.Column("networks", Exact(16), nullable=False, server_default="auto"),
    sa.Column("description", Exact(255)),
    sa.Column("locked_by", Exact(16)),
    sa.Column("locked_reason", Exact(255)),
    sa.Column("hints", sa.JSON, nullable=False),
    sa.Column("addresses", sa.JSON, nullable=False),
    sa.Column("fault", sa.JSON(none_as_null=True)),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Column("launched_at", UtcTime),
    sa.Column("terminated_at", UtcTime),
    sa.Column("access_ipv4", Exact(45)),
    sa.Column("access_ipv6", Exact(45)),
    sa.Column("task_args", sa.JSON(none_as_null=True)),
    sa.Column("kept", sa.JSON(none_as_null=True)),
    sa.Column("request_id", Exact(64)),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("tried_hosts", sa.JSON, nullable=False),
    sa.Column("group_id", Exact(36)),
    sa.Column("hostname", Exact(255)),
    sa.Column("pinned_zone", Exact(255)),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("lease_holder", Exact(255)),
    sa.Column("lease_until", UtcTime),
    sa.Index(None, "project", "vm_state", "created_at", "id"),
    sa.Index(None, "created_at", "id"),
    sa.Index(None, "updated_at"),
    sa.Index(None, "host", "vm_state"),
    sa.Index(None, "task_state", "host"),
    sa.Index(None, "lease_holder"),
    sa.Index(None, "group_id"),
)

server_tags = sa.Table(
    "server_tags",
    metadata,
    sa.Column("server_id", Exact(36), primary_key=True),
    sa.Column("tag", Exact(60), primary_key=True),
    sa.Index(None, "tag"),
)

# What was ordered of each server, by the request that did it. An event is a
# step of it: a task as one worker did it.
server_actions = sa.Table(
    "server_actions",
    metadata,
    sa.Column("server_id", Exact(36), primary_key=True),
    sa.Column("request_id", Exact(64), primary_key=True),
    sa.Column("action", Exact(64), nullable=False),
    sa.Column("user", Exact(255)),
    sa.Column("project", Exact(255)),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Column("message", Exact(255)),
)
server_action_events = sa.Table(
    "server_action_events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("server_id", Exact(36), nullable=False),
    sa.Column("request_id", Exact(64), nullable=False),
    sa.Column("event", Exact(64), nullable=False),
    sa.Column("host", Exact(255)),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("finished_at", UtcTime),
    sa.Column("result", Exact(16)),
    sa.Column("details", LongText),
    sa.Index(None, "server_id", "request_id"),
)

hosts = sa.Table(
    "hosts",
    metadata,
    sa.Column("name", Exact(255), primary_key=True),
    sa.Column("zone", Exact(255), nullable=False),
    sa.Column("hypervisor_type", Exact(64), nullable=False),
    sa.Column("hypervisor_version", Exact(64), nullable=False),
    sa.Column("virt_type", Exact(32), nullable=False),
    sa.Column("arch", Exact(32), nullable=False),
    sa.Column("ip", Exact(45)),
    sa.Column("console_url", Exact(255)),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("disabled_reason", Exact(255)),
    sa.Column("forced_down", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("uptime", Exact(255)),
    sa.Column("heartbeat_at", UtcTime, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("disks_url", Exact(255)),
    sa.Column("images_digest", Exact(64)),
)

# The images that a host has, as JSON: apart from ``hosts``, as it's long and only
# schedulers read it, those that don't know the digest. Both change together.
host_images = sa.Table(
    "host_images",
    metadata,
    sa.Column("host", Exact(255), sa.ForeignKey("hosts.name"), primary_key=True),
    sa.Column("digest", Exact(64), nullable=False),
    sa.Column("images", HugeText, nullable=False),
)

# What each placed server takes of its host: made by the claim, removed with
# the placement, both in the transaction that changes ``servers.host``.
allocations = sa.Table(
    "allocations",
    metadata,
    sa.Column("server_id", Exact(36), primary_key=True),
    sa.Column("host", Exact(255), sa.ForeignKey("hosts.name"), nullable=False, index=True),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
)

# What a server that moves takes of its other host: of the one that it goes to
# until it is there, then of the one that it came from. Where there is such a row
# the host keeps the server's disk, and only there.
held_allocations = sa.Table(
    "held_allocations",
    metadata,
    sa.Column("server_id", Exact(36), primary_key=True),
    sa.Column("host", Exact(255), sa.ForeignKey("hosts.name"), nullable=False, index=True),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
)

# Sets of hosts; one with a zone makes it the zone of its hosts.
aggregates = sa.Table(
    "aggregates",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", Exact(36), nullable=False),
    sa.Column("name", Exact(255), nullable=False, unique=True),
    sa.Column("zone", Exact(255)),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("updated_at", UtcTime),
)
aggregate_hosts = sa.Table(
    "aggregate_hosts",
    metadata,
    sa.Column("aggregate_id", sa.Integer, sa.ForeignKey("aggregates.id"), primary_key=True),
    sa.Column("host", Exact(255), sa.ForeignKey("hosts.name"), primary_key=True, index=True),
)

# A server is in the one that its ``group_id`` names, until it's deleted.
server_groups = sa.Table(
    "server_groups",
    metadata,
    sa.Column("id", Exact(36), primary_key=True),
    sa.Column("project", Exact(255), nullable=False),
    sa.Column("user", Exact(255), nullable=False),
    sa.Column("name", Exact(255), nullable=False),
    sa.Column("policy", Exact(32), nullable=False),
    sa.Column("max_per_host", sa.Integer),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Index(None, "project"),
)

# What came of each server's way to another size or host; nothing is decided by it.
migrations = sa.Table(
    "migrations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", Exact(36), nullable=False),
    sa.Column("server_id", Exact(36), nullable=False),
    sa.Column("source_host", Exact(255), nullable=False),
    sa.Column("dest_host", Exact(255), nullable=False),
    sa.Column("status", Exact(32), nullable=False),
    sa.Column("migration_type", Exact(32), nullable=False),
    sa.Column("old_flavor_id", Exact(255), nullable=False),
    sa.Column("new_flavor_id", Exact(255), nullable=False),
    sa.Column("user_id", Exact(255)),
    sa.Column("project_id", Exact(255)),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Index(None, "uuid"),
    sa.Index(None, "server_id", "id"),
    sa.Index(None, "updated_at"),
)

# Images that were made for a server and belong to nothing any more, until they are removed.
unwanted_images = sa.Table(
    "unwanted_images",
    metadata,
    sa.Column("image_id", Exact(64), primary_key=True),
    sa.Column("unless_filled", sa.Boolean, nullable=False),
    sa.Column("due_at", UtcTime, nullable=False),
    sa.Index(None, "due_at"),
)

flavors = sa.Table(
    "flavors",
    metadata,
    sa.Column("id", Exact(255), primary_key=True),
    sa.Column("name", Exact(255), nullable=False, unique=True),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
    sa.Column("swap_mb", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("ephemeral_gb", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("rxtx_factor", sa.Double, nullable=False, server_default=sa.text("1")),
    sa.Column("public", sa.Boolean, nullable=False),
    sa.Column("description", LongText),
    sa.Column("extra_specs", sa.JSON, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
)

# The projects that may use a flavor that isn't public.
flavor_access = sa.Table(
    "flavor_access",
    metadata,
    sa.Column("flavor_id", Exact(255), primary_key=True),
    sa.Column("project", Exact(255), primary_key=True),
)

# What was set otherwise than the configuration says: of a project, or of all with the scope "".
quotas = sa.Table(
    "quotas",
    metadata,
    sa.Column("scope", Exact(255), primary_key=True),
    sa.Column("resource", Exact(64), primary_key=True),
    sa.Column("at_most", sa.Integer, nullable=False),
)

# Who may come to a server's console: a digest of the token that it takes, once.
console_tokens = sa.Table(
    "console_tokens",
    metadata,
    sa.Column("token_hash", Exact(64), primary_key=True),
    sa.Column("server_id", Exact(36), nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Index(None, "expires_at"),
)

keypairs = sa.Table(
    "keypairs",
    metadata,
    sa.Column("user", Exact(255), primary_key=True),
    sa.Column("name", Exact(255), primary_key=True),
    sa.Column("type", Exact(16), nullable=False),
    sa.Column("public_key", LongText, nullable=False),
    sa.Column("fingerprint", Exact(64), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
)

# One row per owner of a quota: locking it makes check-and-insert exact on
# databases that let writers run side by side.
quota_locks = sa.Table("quota_locks", metadata, sa.Column("owner", Exact(255), primary_key=True))
