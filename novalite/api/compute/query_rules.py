"""Which query parameters are known where, and from which microversion on others are refused.

Before they are passed over, as Nova does. From 2.102 on nothing is known that
isn't in the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

import falcon

from novalite.api.compute.microversion import PREFIX, Version

PAGE = frozenset({"limit", "marker"})
SORT = frozenset({"sort_key", "sort_dir"})
SERVERS = (
    PAGE
    | SORT
    | {
        *(
            "user_id",
            "project_id",
            "tenant_id",
            "launch_index",
            "image_ref",
            "image",
            "kernel_id",
            "ramdisk_id",
        ),
        *("hostname", "key_name", "power_state", "vm_state", "task_state", "host", "node", "flavor"),
        *("reservation_id", "launched_at", "terminated_at", "availability_zone", "name", "display_name"),
        *("description", "display_description", "locked_by", "uuid", "root_device_name", "config_drive"),
        *("access_ip_v4", "access_ip_v6", "auto_disk_config", "progress", "all_tenants", "soft_deleted"),
        *("deleted", "status", "changes-since", "ip", "ip6", "created_at", "tags", "tags-any", "not-tags"),
        *("not-tags-any", "changes-before", "locked"),
    }
)
FLAVORS = PAGE | SORT | {"is_public", "minRam", "minDisk"}
HYPERVISORS = PAGE | {"hypervisor_hostname_pattern", "with_servers"}
USAGE = PAGE | {"start", "end"}
MIGRATIONS = PAGE | {
    *("hidden", "host", "instance_uuid", "source_compute", "status", "migration_type", "changes-since"),
}
OF_USER = frozenset({"user_id"})
Rule = tuple[Version, frozenset[str]]

#: Path without ``/v2.1`` -> what it knows, each set from a microversion on; with the first refusing begins.
RULES: Mapping[str, tuple[Rule, ...]] = {
    "/servers": (((2, 75), SERVERS),),
    "/servers/detail": (((2, 75), SERVERS),),
    "/servers/{server_id}/os-instance-actions": (
        ((2, 58), PAGE | {"changes-since"}),
        ((2, 66), PAGE | {"changes-since", "changes-before"}),
    ),
    "/flavors": (((2, 75), FLAVORS), ((2, 102), FLAVORS | {"name"})),
    "/flavors/detail": (((2, 75), FLAVORS), ((2, 102), FLAVORS | {"name"})),
    "/os-keypairs": (((2, 75), PAGE | OF_USER),),
    "/os-keypairs/{name}": (((2, 75), OF_USER),),
    "/limits": (((2, 75), frozenset({"tenant_id"})),),
    "/os-quota-sets/{project}": (((2, 75), OF_USER),),
    "/os-quota-sets/{project}/detail": (((2, 75), OF_USER),),
    "/os-server-groups": (((2, 75), frozenset({"all_projects", "limit", "offset"})),),
    "/os-services": (((2, 75), frozenset({"host", "binary"})),),
    "/os-simple-tenant-usage": (((2, 75), USAGE | {"detailed"}),),
    "/os-simple-tenant-usage/{project}": (((2, 75), USAGE),),
    "/os-hypervisors": (((2, 53), HYPERVISORS),),
    "/os-hypervisors/detail": (((2, 53), HYPERVISORS),),
    "/os-hypervisors/{hypervisor_id}": (((2, 53), frozenset({"with_servers"})),),
    "/os-migrations": (
        ((2, 59), MIGRATIONS),
        ((2, 66), MIGRATIONS | {"changes-before"}),
        ((2, 80), MIGRATIONS | {"changes-before", "user_id", "project_id"}),
    ),
}


#: Whose rule isn't for GET alone.
ANY_METHOD = frozenset({"/os-keypairs/{name}", "/os-quota-sets/{project}"})
ALL_STRICT: Version = (2, 102)


class QueryRules:
    """Refuse query parameters that nobody knows, where the microversion does so."""

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, params: Mapping[str, str]
    ) -> None:
        version = req.env.get("compute.microversion")
        if version is None or not req.query_string:
            return
        path = (req.uri_template or "").removeprefix(PREFIX)
        if req.method != "GET" and path not in ANY_METHOD:
            return
        known: frozenset[str] | None = frozenset() if version >= ALL_STRICT else None
        for since, names in RULES.get(path, ()):
            if version >= since:
                known = names
        if known is None:
            return
        strange = sorted({name for name, _ in parse_qsl(req.query_string, keep_blank_values=True)} - known)
        if strange:
            raise falcon.HTTPBadRequest(
                description=f"Invalid input for query parameters: Additional properties are not allowed "
                f"({strange[0]!r} was unexpected)"
            )
