"""Rules of flavors. To list and show them Nova has none: those of all, and of the caller's project."""

from __future__ import annotations

from novalite.policy.base import ADMIN, READER, Rule, rule

FLAVOR = "/flavors/{flavor_id}"
SPECS = f"{FLAVOR}/os-extra_specs"
SPEC = f"{SPECS}/{{key}}"
MANAGE = "os_compute_api:os-flavor-manage:"
ACCESS = "os_compute_api:os-flavor-access"
OF_SPECS = "os_compute_api:os-flavor-extra-specs:"

RULES: tuple[Rule, ...] = (
    rule(f"{MANAGE}create", ADMIN, "Create a flavor", "POST /flavors"),
    rule(f"{MANAGE}update", ADMIN, "Describe a flavor", f"PUT {FLAVOR}"),
    rule(f"{MANAGE}delete", ADMIN, "Delete a flavor", f"DELETE {FLAVOR}"),
    rule(ACCESS, ADMIN, "List the projects that may use a flavor", f"GET {FLAVOR}/os-flavor-access"),
    rule(
        f"{ACCESS}:add_tenant_access",
        ADMIN,
        "Let a project use a flavor",
        f"POST {FLAVOR}/action (addTenantAccess)",
    ),
    rule(
        f"{ACCESS}:remove_tenant_access",
        ADMIN,
        "Take a flavor from a project",
        f"POST {FLAVOR}/action (removeTenantAccess)",
    ),
    rule(
        f"{OF_SPECS}index",
        READER,
        "List a flavor's extra specs, and from 2.61 on see them with it",
        f"GET {SPECS}",
        "POST /flavors",
        "GET /flavors/detail",
        f"GET {FLAVOR}",
        f"PUT {FLAVOR}",
    ),
    rule(f"{OF_SPECS}show", READER, "Show an extra spec", f"GET {SPEC}"),
    rule(f"{OF_SPECS}create", ADMIN, "Add extra specs", f"POST {SPECS}"),
    rule(f"{OF_SPECS}update", ADMIN, "Set an extra spec", f"PUT {SPEC}"),
    rule(f"{OF_SPECS}delete", ADMIN, "Remove an extra spec", f"DELETE {SPEC}"),
)
