"""Who there is: the rules that the others refer to.

Names and defaults are Nova's ("secure RBAC" of OpenStack): a project's
readers, members and managers, and administrators. What is nobody's, as hosts
and flavors are, has no project, so that no rule for a project's own lets
anybody at it.
"""

from __future__ import annotations

from glancelike.rules import Rule, alias, rule

__all__ = ["Rule", "rule"]

IS_ADMIN = "context_is_admin"
ADMIN = f"rule:{IS_ADMIN}"
MANAGER = "rule:project_manager_or_admin"
MEMBER = "rule:project_member_or_admin"
READER = "rule:project_reader_or_admin"
ANYBODY = "@"

_KEPT = "asked by nothing here, kept for policy files"

RULES: tuple[Rule, ...] = (
    alias(IS_ADMIN, "role:admin", "Be an administrator, to whom the servers of all projects are there"),
    alias("admin_or_owner", "is_admin:True or project_id:%(project_id)s", f"Nova's old default; {_KEPT}"),
    alias("admin_api", "is_admin:True", f"Nova's old default for administrators; {_KEPT}"),
    alias("project_manager_api", "role:manager and project_id:%(project_id)s", "Manage a project"),
    alias("project_member_api", "role:member and project_id:%(project_id)s", "Change what a project has"),
    alias("project_reader_api", "role:reader and project_id:%(project_id)s", "Look at what a project has"),
    alias("service_api", "role:service", f"Be another service; {_KEPT}"),
    alias(
        "project_manager_or_admin", f"rule:project_manager_api or {ADMIN}", "Be its manager, or administrator"
    ),
    alias(
        "project_member_or_admin", f"rule:project_member_api or {ADMIN}", "Be its member, or administrator"
    ),
    alias(
        "project_reader_or_admin", f"rule:project_reader_api or {ADMIN}", "Be its reader, or administrator"
    ),
    alias(
        "service_or_admin", f"rule:service_api or {ADMIN}", f"Be another service, or administrator; {_KEPT}"
    ),
)
