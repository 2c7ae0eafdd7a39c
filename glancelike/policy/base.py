"""What the rules are made of: check strings and their description.

Names and defaults are Glance's, so a ``policy.yaml`` written for it works
here. The personas are reader, member and administrator of a project, and
the service that acts for users ("secure RBAC" of OpenStack).
"""

from __future__ import annotations

from glancelike.rules import Rule, alias, rule

__all__ = ["Rule", "rule"]

ADMIN = "rule:context_is_admin"
SERVICE = "rule:service_api"
MEMBER = "role:member and project_id:%(project_id)s"
READER = "role:reader and project_id:%(project_id)s"
SHARED_WITH = "project_id:%(member_id)s"
PUBLIC = "'public':%(visibility)s"
VISIBLE = (
    f"project_id:%(project_id)s or {SHARED_WITH} or 'community':%(visibility)s or {PUBLIC} "
    "or 'shared':%(visibility)s"
)

ADMIN_OR_MEMBER = f"{ADMIN} or ({MEMBER})"
ADMIN_OR_READER = f"{ADMIN} or ({READER})"

RULES: tuple[Rule, ...] = (
    alias("default", "", "What rules stand for that are defined nowhere else"),
    alias("context_is_admin", "role:admin", "Be an administrator, who sees every image"),
    alias("service_api", "role:service or role:admin", "Be another service"),
)
