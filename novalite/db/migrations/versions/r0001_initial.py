"""The first schema, and the flavors every cloud starts with."""

import sqlalchemy as sa
from alembic import op

from glancelike.sql.steps import create_index, create_table
from glancelike.sql.types import Exact, HugeText, LongText, UtcTime
from novalite.model import utcnow

revision = "0001"
down_revision = None

# id, name, vcpus, memory (MiB), disk (GiB)
DEFAULT_FLAVORS = (
    ("42", "m1.nano", 1, 128, 1),
    ("84", "m1.micro", 1, 256, 1),
    ("1", "m1.tiny", 1, 512, 1),
    ("2", "m1.small", 1, 2048, 20),
    ("3", "m1.medium", 2, 4096, 40),
    ("4", "m1.large", 4, 8192, 80),
    ("5", "m1.xlarge", 8, 16384, 160),
)


def upgrade() -> None:
    """Go up to this revision."""
    _catalog()
    _placement()
    _servers()
    # Last: MariaDB commits what comes before a table. These are committed with the revision.
    _flavors()


def _flavors() -> None:
    flavors = sa.table(
        "flavors",
        *(sa.column(name) for name in ("id", "name", "vcpus", "memory_mb", "disk_gb", "public")),
        sa.column("extra_specs", sa.JSON),
        sa.column("created_at", UtcTime),
    )
    now = utcnow()
    op.bulk_insert(
        flavors,
        [
            {
                "id": flavor_id,
                "name": name,
                "vcpus": vcpus,
                "memory_mb": memory_mb,
                "disk_gb": disk_gb,
                "public": True,
                "extra_specs": {},
                "created_at": now,
            }
            for flavor_id, name, vcpus, memory_mb, disk_gb in DEFAULT_FLAVORS
        ],
    )


def _catalog() -> None:
    create_table(
        "flavors",
        sa.Column("id", Exact(255), nullable=False),
        sa.Column("name", Exact(255), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("disk_gb", sa.Integer(), nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("description", LongText(), nullable=True),
        sa.Column("extra_specs", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_flavors"),
        sa.UniqueConstraint("name", name="uq_flavors_name"),
    )
    create_table(
        "keypairs",
        sa.Column("user", Exact(255), nullable=False),
        sa.Column("name", Exact(255), nullable=False),
        sa.Column("type", Exact(16), nullable=False),
        sa.Column("public_key", LongText(), nullable=False),
        sa.Column("fingerprint", Exact(64), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("user", "name", name="pk_keypairs"),
    )
    create_table(
        "quota_locks",
        sa.Column("owner", Exact(255), nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_quota_locks"),
    )


def _placement() -> None:
    create_table(
        "hosts",
        sa.Column("name", Exact(255), nullable=False),
        sa.Column("zone", Exact(255), nullable=False),
        sa.Column("hypervisor_type", Exact(64), nullable=False),
        sa.Column("hypervisor_version", Exact(64), nullable=False),
        sa.Column("virt_type", Exact(32), nullable=False),
        sa.Column("arch", Exact(32), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("disk_gb", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", Exact(255), nullable=True),
        sa.Column("heartbeat_at", UtcTime(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_hosts"),
    )
    create_table(
        "allocations",
        sa.Column("server_id", Exact(36), nullable=False),
        sa.Column("host", Exact(255), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("disk_gb", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_allocations_host"),
        sa.PrimaryKeyConstraint("server_id", name="pk_allocations"),
    )
    create_index("ix_allocations_host", "allocations", ["host"])


def _servers() -> None:
    create_table(
        "servers",
        sa.Column("id", Exact(36), nullable=False),
        sa.Column("name", Exact(255), nullable=False),
        sa.Column("project", Exact(255), nullable=False),
        sa.Column("user", Exact(255), nullable=False),
        sa.Column("reservation_id", Exact(32), nullable=False),
        sa.Column("launch_index", sa.Integer(), nullable=False),
        sa.Column("vm_state", Exact(32), nullable=False),
        sa.Column("task_state", Exact(32), nullable=True),
        sa.Column("power_state", Exact(32), nullable=True),
        sa.Column("host", Exact(255), nullable=True),
        sa.Column("zone", Exact(255), nullable=True),
        sa.Column("forced_host", Exact(255), nullable=True),
        sa.Column("flavor_id", Exact(255), nullable=False),
        sa.Column("flavor", sa.JSON(), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("disk_gb", sa.Integer(), nullable=False),
        sa.Column("image_id", Exact(36), nullable=False),
        sa.Column("image", sa.JSON(), nullable=False),
        sa.Column("key_name", Exact(255), nullable=True),
        sa.Column("public_key", LongText(), nullable=True),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("user_data", HugeText(), nullable=True),
        sa.Column("config_drive", sa.Boolean(), nullable=False),
        sa.Column("hints", sa.JSON(), nullable=False),
        sa.Column("addresses", sa.JSON(), nullable=False),
        sa.Column("fault", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.Column("launched_at", UtcTime(), nullable=True),
        sa.Column("terminated_at", UtcTime(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("tried_hosts", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("lease_holder", Exact(255), nullable=True),
        sa.Column("lease_until", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_servers"),
    )
    create_index("ix_servers_created_at_id", "servers", ["created_at", "id"])
    create_index("ix_servers_host_vm_state", "servers", ["host", "vm_state"])
    create_index("ix_servers_lease_holder", "servers", ["lease_holder"])
    create_index(
        "ix_servers_project_vm_state_created_at_id", "servers", ["project", "vm_state", "created_at", "id"]
    )
    create_index("ix_servers_task_state_host", "servers", ["task_state", "host"])
    create_index("ix_servers_updated_at", "servers", ["updated_at"])
