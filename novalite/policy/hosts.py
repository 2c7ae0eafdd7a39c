"""Rules of hosts, and of what is made of them: services, hypervisors, aggregates, zones."""

from __future__ import annotations

from novalite.policy.base import ADMIN, ANYBODY, MANAGER, Rule, rule

HYPERVISORS = "/os-hypervisors"
HYPERVISOR = f"{HYPERVISORS}/{{hypervisor_id}}"
SERVICES = "/os-services"
SERVICE = f"{SERVICES}/{{service_id}}"
AGGREGATES = "/os-aggregates"
AGGREGATE = f"{AGGREGATES}/{{aggregate_id}}"
ZONES = "/os-availability-zone"
MIGRATIONS = "GET /os-migrations"
OF_HYPERVISORS = "os_compute_api:os-hypervisors:"
OF_SERVICES = "os_compute_api:os-services:"
OF_AGGREGATES = "os_compute_api:os-aggregates:"
OF_ZONES = "os_compute_api:os-availability-zone:"
OF_MIGRATIONS = "os_compute_api:os-migrations:index"

RULES: tuple[Rule, ...] = (
    rule(f"{OF_HYPERVISORS}list", ADMIN, "List the hypervisors", f"GET {HYPERVISORS}"),
    rule(f"{OF_HYPERVISORS}list-detail", ADMIN, "List all of the hypervisors", f"GET {HYPERVISORS}/detail"),
    rule(f"{OF_HYPERVISORS}show", ADMIN, "Show a hypervisor", f"GET {HYPERVISOR}"),
    rule(f"{OF_HYPERVISORS}uptime", ADMIN, "See how long a hypervisor is up", f"GET {HYPERVISOR}/uptime"),
    rule(
        f"{OF_HYPERVISORS}search",
        ADMIN,
        "Find hypervisors by a part of their names",
        f"GET {HYPERVISORS}/{{pattern}}/search",
    ),
    rule(
        f"{OF_HYPERVISORS}servers",
        ADMIN,
        "List the servers of hypervisors",
        f"GET {HYPERVISORS}/{{pattern}}/servers",
    ),
    rule(f"{OF_HYPERVISORS}statistics", ADMIN, "Sum up all hypervisors", f"GET {HYPERVISORS}/statistics"),
    rule(f"{OF_SERVICES}list", ADMIN, "List the compute workers", f"GET {SERVICES}"),
    rule(
        f"{OF_SERVICES}update",
        ADMIN,
        "Enable and disable compute workers, and say that one is down",
        f"PUT {SERVICE}",
        *(f"PUT {SERVICES}/{name}" for name in ("enable", "disable", "disable-log-reason", "force-down")),
    ),
    rule(f"{OF_SERVICES}delete", ADMIN, "Forget a compute worker", f"DELETE {SERVICE}"),
    rule(f"{OF_AGGREGATES}index", ADMIN, "List the aggregates", f"GET {AGGREGATES}"),
    rule(f"{OF_AGGREGATES}show", ADMIN, "Show an aggregate", f"GET {AGGREGATE}"),
    rule(f"{OF_AGGREGATES}create", ADMIN, "Create an aggregate", f"POST {AGGREGATES}"),
    rule(f"{OF_AGGREGATES}update", ADMIN, "Rename an aggregate, or its zone", f"PUT {AGGREGATE}"),
    rule(f"{OF_AGGREGATES}delete", ADMIN, "Delete an aggregate", f"DELETE {AGGREGATE}"),
    rule(f"{OF_AGGREGATES}add_host", ADMIN, "Put a host in", f"POST {AGGREGATE}/action (add_host)"),
    rule(f"{OF_AGGREGATES}remove_host", ADMIN, "Take a host out", f"POST {AGGREGATE}/action (remove_host)"),
    rule(
        f"{OF_AGGREGATES}set_metadata",
        ADMIN,
        "Set an aggregate's metadata",
        f"POST {AGGREGATE}/action (set_metadata)",
    ),
    rule(
        "compute:aggregates:images",
        ADMIN,
        "Have an aggregate's hosts fetch images ahead",
        f"POST {AGGREGATE}/images",
    ),
    rule(f"{OF_ZONES}list", ANYBODY, "List the availability zones", f"GET {ZONES}"),
    rule(f"{OF_ZONES}detail", ADMIN, "List the availability zones with their hosts", f"GET {ZONES}/detail"),
    rule(OF_MIGRATIONS, MANAGER, "List migrations, without their hosts", MIGRATIONS),
    rule(f"{OF_MIGRATIONS}:all_projects", ADMIN, "List the migrations of other projects", MIGRATIONS),
    rule(f"{OF_MIGRATIONS}:host", ADMIN, "See the hosts of migrations", MIGRATIONS),
)
