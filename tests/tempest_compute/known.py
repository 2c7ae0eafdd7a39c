"""What isn't run, what may fail or be skipped, and why."""

from __future__ import annotations

#: Tests of what novalite has no part of at all: volumes, networks, other services' proxies.
ELSEWHERE = "|".join(
    (
        r"compute\.(certificates|floating_ips|images|security_groups|volumes)\.",
        r"test_(networks|tenant_networks|auto_allocate_network|security_groups|volume|volume_swap)\.",
        r"test_(assisted_volume_snapshots|volumes_negative|hosts|hosts_negative|spice|novnc)\.",
        r"test_(instance_usage_audit_log|instance_usage_audit_log_negative|server_external_events)\.",
        r"test_(attach_interfaces|create_server_multi_nic)\.",
        r"test_(device_tagging|server_personality|server_password)\.",
    )
)

# Pattern of names -> why they fail. What passes all the same is told, to be taken out.
FAILURES: dict[str, str] = {
    r"test_extensions\.": "neither hosts nor consoles of XenServer are among the extensions",
    r"test_remove_server_all_security_groups": "there are no security groups",
    r"test_rescued_vm_add_remove_security_group": "there are no security groups",
    r"test_inject_network_info": "there is no network service that could tell anything anew",
    r"test_list_server_addresses\[": "nobody tells which addresses guests have got",
    r"test_list_api_versions": "v2.0 isn't spoken",
}

# Pattern of reasons -> why skipping is right.
SKIPS: dict[str, str] = {
    r"^Neutron is not available|network service is not available": "there is no network service",
    r"^(Cinder is not available|Volume service not enabled)": "there are no volumes",
    r"^The microversion range\[.* is out of the configuration range": "it isn't spoken yet",
    r"^Instance validation tests are disabled": "the fake driver's guests can't be logged in to",
    r"^fixed_network_name needs to be configured": "servers can't be found by address",
    r"^The public_network_id option": "there are no networks that others reach",
    r"^DiskConfig extension not enabled": "nobody partitions guests' disks, AUTO or not",
    r"^Stable rescue not available": "a rescued guest's disks are where they are",
    r"^``\[compute\]/certified_image_ref`` required": "no signature is verified",
    r"[Cc]onsole": "there are no graphical ones, and with the fake driver's guests nobody talks",
    r"^LiveMigrationWithVTPMTest skipped": "guests have no TPM",
    r"^(Skipped until|.*[Vv]olume|.*personality|.*attach|.*password|.*encrypt)": "of what there isn't",
}
