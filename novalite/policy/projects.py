"""Rules of what projects and users have beside servers, and what they may use."""

from __future__ import annotations

from novalite.policy.base import ADMIN, ANYBODY, MEMBER, READER, Rule, rule

KEYPAIRS = "/os-keypairs"
KEYPAIR = f"{KEYPAIRS}/{{name}}"
GROUPS = "/os-server-groups"
GROUP = f"{GROUPS}/{{group_id}}"
QUOTAS = "/os-quota-sets/{project_id}"
CLASS = "/os-quota-class-sets/{name}"
USAGE = "/os-simple-tenant-usage"
OF_KEYPAIRS = "os_compute_api:os-keypairs:"
OF_GROUPS = "os_compute_api:os-server-groups:"
OF_QUOTAS = "os_compute_api:os-quota-sets:"
OF_CLASSES = "os_compute_api:os-quota-class-sets:"
OF_USAGE = "os_compute_api:os-simple-tenant-usage:"
OWN_KEYS = f"({ADMIN}) or user_id:%(user_id)s"

RULES: tuple[Rule, ...] = (
    rule(f"{OF_KEYPAIRS}index", OWN_KEYS, "List a user's key pairs", f"GET {KEYPAIRS}"),
    rule(f"{OF_KEYPAIRS}create", OWN_KEYS, "Create a key pair for a user", f"POST {KEYPAIRS}"),
    rule(f"{OF_KEYPAIRS}show", OWN_KEYS, "Show a user's key pair", f"GET {KEYPAIR}"),
    rule(f"{OF_KEYPAIRS}delete", OWN_KEYS, "Delete a user's key pair", f"DELETE {KEYPAIR}"),
    rule(f"{OF_GROUPS}index", READER, "List server groups", f"GET {GROUPS}"),
    rule(f"{OF_GROUPS}index:all_projects", ADMIN, "List the server groups of all projects", f"GET {GROUPS}"),
    rule(f"{OF_GROUPS}show", READER, "Show a server group", f"GET {GROUP}"),
    rule(f"{OF_GROUPS}create", MEMBER, "Create a server group", f"POST {GROUPS}"),
    rule(f"{OF_GROUPS}delete", MEMBER, "Delete a server group", f"DELETE {GROUP}"),
    rule(f"{OF_QUOTAS}show", READER, "See a project's quotas", f"GET {QUOTAS}"),
    rule(f"{OF_QUOTAS}detail", READER, "See a project's quotas and what it uses", f"GET {QUOTAS}/detail"),
    rule(f"{OF_QUOTAS}defaults", ANYBODY, "See the quotas of all projects", f"GET {QUOTAS}/defaults"),
    rule(f"{OF_QUOTAS}update", ADMIN, "Set a project's quotas", f"PUT {QUOTAS}"),
    rule(f"{OF_QUOTAS}delete", ADMIN, "Forget what was set for a project", f"DELETE {QUOTAS}"),
    rule(f"{OF_CLASSES}show", ADMIN, "See the quotas of a class", f"GET {CLASS}"),
    rule(f"{OF_CLASSES}update", ADMIN, "Set the quotas of all projects", f"PUT {CLASS}"),
    rule("os_compute_api:limits", ANYBODY, "See the own project's limits", "GET /limits"),
    rule("os_compute_api:limits:other_project", ADMIN, "See another project's limits", "GET /limits"),
    rule(f"{OF_USAGE}list", ADMIN, "See what all projects used", f"GET {USAGE}"),
    rule(f"{OF_USAGE}show", READER, "See what a project used", f"GET {USAGE}/{{project_id}}"),
    rule(
        "os_compute_api:extensions",
        ANYBODY,
        "List what is here of Nova's extensions",
        "GET /extensions",
        "GET /extensions/{alias}",
    ),
)
