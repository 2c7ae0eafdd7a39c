"""What isn't run, what may fail or be skipped, and why."""

from __future__ import annotations

#: Tests of what novalite has no part of at all: volumes, networks, other services' proxies.
ELSEWHERE = "|".join(
    (
        r"compute\.(certificates|floating_ips|security_groups|volumes)\.",
        r"test_(networks|tenant_networks|auto_allocate_network|security_groups|volume|volume_swap)\.",
        r"test_(assisted_volume_snapshots|volumes_negative|hosts|hosts_negative|spice|novnc)\.",
        r"test_(instance_usage_audit_log|instance_usage_audit_log_negative|server_external_events)\.",
        r"test_(live_migration|live_migration_negative|attach_interfaces|create_server_multi_nic)\.",
        r"test_(device_tagging|server_personality|servers_on_multinodes|server_password)\.",
    )
)

# Pattern of names -> why they fail. What passes all the same is told, to be taken out.
FAILURES: dict[str, str] = {}

# Pattern of reasons -> why skipping is right.
SKIPS: dict[str, str] = {}
