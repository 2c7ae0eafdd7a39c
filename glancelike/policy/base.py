"""What the rules are made of: check strings and their description.

Names and defaults are Glance's, so a ``policy.yaml`` written for it works
here. The personas are reader, member and administrator of a project, and
the service that acts for users ("secure RBAC" of OpenStack).
"""

from __future__ import annotations

from glancelike.policy.oslo import policy

Rule = policy.RuleDefault

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

# Nobody acts on an image or a namespace by a token for a whole domain or system.
SCOPE = ["project"]


def rule(name: str, check: str, text: str, *operations: str) -> Rule:
    """Describe what a rule lets a caller do, and by which operations (``GET /v2/images``)."""
    if not operations:
        return policy.RuleDefault(name, check, text, scope_types=SCOPE)
    split = [operation.split(" ", 1) for operation in operations]
    asked: list[policy.Operation] = [{"method": method, "path": path} for method, path in split]
    return policy.DocumentedRuleDefault(name, check, text, asked, scope_types=SCOPE)


RULES: tuple[Rule, ...] = (
    policy.RuleDefault("default", "", "What rules stand for that are defined nowhere else"),
    policy.RuleDefault("context_is_admin", "role:admin", "Be an administrator, who sees every image"),
    policy.RuleDefault("service_api", "role:service or role:admin", "Be another service"),
)
