"""What isn't run, what may fail or be skipped, and why."""

from __future__ import annotations

#: Tests of what novalite has no part of at all: volumes, networks, other services' proxies.
ELSEWHERE = "|".join(
    (
        r"compute\.(certificates|floating_ips|images|security_groups|volumes)\.",
        r"test_(networks|tenant_networks|auto_allocate_network|security_groups|volume|volume_swap)\.",
        r"test_(assisted_volume_snapshots|volumes_negative|hosts|hosts_negative|spice|novnc)\.",
        r"test_(instance_usage_audit_log|instance_usage_audit_log_negative|server_external_events)\.",
        r"test_(live_migration|live_migration_negative|attach_interfaces|create_server_multi_nic)\.",
        r"test_(device_tagging|server_personality|servers_on_multinodes|server_password)\.",
    )
)

# Pattern of names -> why they fail. What passes all the same is told, to be taken out.
FAILURES: dict[str, str] = {
    r"test_aggregates_negative\.\w+\.test_aggregate_(add|create|remove)": "there are no aggregates",
    r"test_aggregates_negative\.\w+\.test_aggregate_(delete|get_details)_as_user": "there are no aggregates",
    r"test_simple_tenant_usage(?!.*test_get_usage_tenant_with_empty_tenant_id)": "usage isn't told",
    r"test_server_diagnostics(_negative)?\.": "diagnostics aren't told",
    r"test_migrations\.\w+\.test_list_migrations(_in_flavor_resize_situation)?\[": "they aren't listed",
    r"test_hypervisor\w*\.\w+\.test_(get_hypervisor_show_servers|search_hypervisor)": "it isn't there",
    r"test_hypervisor\w*\.\w+\.test_show_servers_with_non_(existent|admin)": "it isn't there",
    r"test_get_hypervisor_uptime\[": "the uptime of hosts isn't known",
    r"test_extensions\.": "extensions aren't listed",
    r"test_create_flavor_verify_entry_in_list_details": "there are no swap disks",
    r"test_cold_migration_with_swap": "there are no swap disks",
    r"FlavorsExtraSpecs(Negative)?TestJSON": "the flavor it makes has a swap disk",
    r"test_restore_server_invalid_state": "what is deleted is gone",
    r"test_remove_server_all_security_groups": "there are no security groups",
    r"test_keypairsv22_create_list_show_with_type": "there are no X.509 key pairs",
    r"test_list_servers_filtered_by_name_regex": "names are found by a part, not by a regular expression",
    r"test_list_api_versions": "v2.0 isn't spoken",
}

# Pattern of reasons -> why skipping is right.
SKIPS: dict[str, str] = {
    r"^Neutron is not available|network service is not available": "there is no network service",
    r"^(Cinder is not available|Volume service not enabled)": "there are no volumes",
    r"^The microversion range\[.* is out of the configuration range": "it isn't spoken yet",
    r"^Instance validation tests are disabled": "the fake driver's guests can't be logged in to",
    r"^fixed_network_name needs to be configured": "servers can't be found by address",
    r"^Stable rescue not available": "a rescued guest's disks are where they are",
    r"^FQDN hostname sanitization is not supported": "it isn't",
    r"[Cc]onsole": "there are no remote consoles",
    r"^(Skipped until|.*[Vv]olume|.*personality|.*attach|.*password|.*encrypt)": "of what there isn't",
}
