"""Who may do what: oslo.policy with Glance's rule names and defaults.

``Policy.check`` is the only place that decides by role. What a caller may
*see* at all is the registry's business (visibility), decided before.
Defaults follow the "secure RBAC" personas admin, member and reader of a
project; an operator overrides any rule in ``policy.yaml``, which is read
again when it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from oslo_config import cfg
from oslo_policy import opts as policy_opts
from oslo_policy import policy

from glancelike.errors import ConfigError, Forbidden
from glancelike.model import Caller, Image

_VISIBLE = (
    "project_id:%(project_id)s or project_id:%(member_id)s or 'community':%(visibility)s "
    "or 'public':%(visibility)s or 'shared':%(visibility)s"
)
ADMIN = "role:admin"
OWNER_MEMBER = "role:admin or (role:member and project_id:%(project_id)s)"
OWNER_READER = "role:admin or (role:reader and project_id:%(project_id)s)"
SHARED_READER = "role:admin or role:reader and (project_id:%(project_id)s or project_id:%(member_id)s)"

REMEMBERED = 4096

# name, default check, what it lets the caller do, method and path
_RULES: tuple[tuple[str, str, str, str, str], ...] = (
    (
        "add_image",
        "role:admin or (role:member and project_id:%(project_id)s and project_id:%(owner)s)",
        "Create an image",
        "POST",
        "/v2/images",
    ),
    ("get_images", OWNER_READER, "List images", "GET", "/v2/images"),
    (
        "get_image",
        f"role:admin or (role:reader and ({_VISIBLE}))",
        "Show an image",
        "GET",
        "/v2/images/{image_id}",
    ),
    ("modify_image", OWNER_MEMBER, "Change an image, its tags included", "PATCH", "/v2/images/{image_id}"),
    ("delete_image", OWNER_MEMBER, "Delete an image", "DELETE", "/v2/images/{image_id}"),
    ("publicize_image", ADMIN, "Make an image public", "PATCH", "/v2/images/{image_id}"),
    ("communitize_image", OWNER_MEMBER, "Make an image a community image", "PATCH", "/v2/images/{image_id}"),
    (
        "download_image",
        f"role:admin or (role:member and ({_VISIBLE}))",
        "Download an image's data",
        "GET",
        "/v2/images/{image_id}/file",
    ),
    ("upload_image", OWNER_MEMBER, "Upload an image's data", "PUT", "/v2/images/{image_id}/file"),
    ("add_member", OWNER_MEMBER, "Share an image", "POST", "/v2/images/{image_id}/members"),
    ("get_member", SHARED_READER, "Show a member", "GET", "/v2/images/{image_id}/members/{member_id}"),
    ("get_members", SHARED_READER, "List members", "GET", "/v2/images/{image_id}/members"),
    (
        "modify_member",
        "role:admin or (role:member and project_id:%(member_id)s)",
        "Accept or reject a shared image",
        "PUT",
        "/v2/images/{image_id}/members/{member_id}",
    ),
    ("delete_member", OWNER_MEMBER, "Stop sharing", "DELETE", "/v2/images/{image_id}/members/{member_id}"),
)


def rules() -> list[policy.DocumentedRuleDefault]:
    """Return every rule with its default, for the enforcer and the sample file."""
    return [
        policy.DocumentedRuleDefault(name, check, text, [{"method": method, "path": path}])
        for name, check, text, method, path in _RULES
    ]


class Policy:
    """Decides whether a caller may do an action; thread-safe."""

    def __init__(self, policy_file: Path | None = None) -> None:
        if policy_file is not None and not policy_file.is_file():
            raise ConfigError(f"[oslo_policy] policy_file: {policy_file} is no readable file")
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[], default_config_dirs=[])
        policy_opts.set_defaults(conf, policy_file=str(policy_file) if policy_file else "policy.yaml")
        self._enforcer = policy.Enforcer(conf, use_conf=policy_file is not None)
        self._enforcer.register_defaults(rules())
        self._decisions: dict[tuple[Any, ...], bool] = {}
        self._decided_by: object = None
        self._names = frozenset(name for name, *_ in _RULES)
        # Without a file nothing is ever loaded, so the defaults are put in
        # place here, where a request need not look for files each time.
        self._enforcer.load_rules(force_reload=policy_file is not None)
        if policy_file is None:
            for rule in self._enforcer.registered_rules.values():
                self._enforcer.rules.setdefault(rule.name, rule.check)

    def allows(self, caller: Caller, action: str, target: Mapping[str, str | None]) -> bool:
        """Tell whether the caller may do ``action`` to ``target``."""
        if action not in self._names:
            raise KeyError(action)
        enforcer = self._enforcer
        enforcer.load_rules()
        if enforcer.rules is not self._decided_by:
            self._decisions, self._decided_by = {}, enforcer.rules
        # A decision follows from these values alone, and oslo.policy takes
        # some 150 microseconds for each, so the last ones are remembered.
        question = (action, caller.user, caller.project, caller.roles, caller.admin, *sorted(target.items()))
        decisions = self._decisions
        allowed = decisions.get(question)
        if allowed is None:
            creds = {
                "user_id": caller.user,
                "project_id": caller.project,
                "roles": sorted(caller.roles | ({"admin"} if caller.admin else frozenset())),
                "is_admin": caller.admin,
            }
            allowed = bool(enforcer.enforce(action, dict(target), creds))
            if len(decisions) >= REMEMBERED:
                decisions.clear()
            decisions[question] = allowed
        return allowed

    def check(self, caller: Caller, action: str, image: Image | None = None, **target: str) -> None:
        """Raise Forbidden unless the caller may do ``action``."""
        facts: dict[str, str | None] = {"project_id": caller.project, "owner": caller.project}
        if image is not None:
            facts = {
                "project_id": image.owner,
                "owner": image.owner,
                "visibility": str(image.visibility),
                "member_id": None,
            }
        facts.update(target)
        if not self.allows(caller, action, facts):
            raise Forbidden(f"You are not authorized to complete {action} action.")


def sample(only: Iterable[str] | None = None) -> str:
    """Return the text of the sample ``policy.yaml``, all rules commented out."""
    wanted = set(only) if only is not None else None
    parts = []
    for name, check, text, method, path in _RULES:
        if wanted is None or name in wanted:
            parts.append(f'# {text}\n# {method} {path}\n#"{name}": "{check}"\n')
    return "\n".join(parts)
