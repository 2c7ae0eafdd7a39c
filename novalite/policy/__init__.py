"""Who may do what: oslo.policy with Nova's rule names and defaults.

``Policy`` is the only place that decides by role. Whose servers are there at
all for a caller is no matter of a rule of theirs, as in Nova: the own
project's, and for administrators everybody's. Who is one, the rule
``context_is_admin`` says. The rules are in one module a noun; an operator
overrides any of them in ``policy.yaml``, which is read again when it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from glancelike.rules import Facts, PolicyFileError, Rules, sample_of
from novalite.errors import ConfigError, Forbidden
from novalite.groupings import ServerGroup
from novalite.model import Caller, Server
from novalite.policy import actions, base, flavors, hosts, projects, servers

__all__ = ["NOBODYS", "Policy", "rules", "sample"]

RULES: tuple[base.Rule, ...] = (
    *base.RULES,
    *servers.RULES,
    *actions.RULES,
    *flavors.RULES,
    *hosts.RULES,
    *projects.RULES,
)
#: The facts of what belongs to no project.
NOBODYS: Mapping[str, None] = MappingProxyType({})

Target = Server | ServerGroup | Facts | None


def rules() -> tuple[base.Rule, ...]:
    """Return every rule with its default."""
    return RULES


def sample() -> str:
    """Return the text of the sample ``policy.yaml``, all rules commented out."""
    return sample_of(RULES)


class Policy:
    """Decides whether a caller may do an action; thread-safe.

    ``file`` overrides the rules; an ``optional`` one needn't be there.
    """

    def __init__(self, file: Path | None = None, *, optional: bool = False) -> None:
        self._rules = Rules(RULES, file, optional=optional)

    def open(self) -> None:
        """Read the file; raise ConfigError when it can't be used."""
        try:
            self._rules.open()
        except PolicyFileError as error:
            raise ConfigError(f"[oslo_policy] policy_file: {error}") from error

    def allows(self, caller: Caller, rule: str, target: Target = None) -> bool:
        """Tell whether a rule lets the caller do what it is about.

        ``target`` is what it is done to: a server or a group, or the facts of
        anything else, by default the caller's project and user.
        """
        if target is None:
            facts: Facts = {"project_id": caller.project, "user_id": caller.user}
        elif isinstance(target, Server | ServerGroup):
            facts = {"project_id": target.project, "user_id": target.user}
        else:
            facts = target
        return self._rules.allows(caller, rule, facts)

    def check(self, caller: Caller, rule: str, target: Target = None) -> None:
        """Raise Forbidden, in Nova's words, unless a rule lets the caller; see ``allows``."""
        if not self.allows(caller, rule, target):
            raise Forbidden(f"Policy doesn't allow {rule} to be performed.")

    def is_admin(self, caller: Caller) -> bool:
        """Tell whether the caller is an administrator by ``context_is_admin``.

        A token for the whole system makes none.
        """
        plain = replace(caller, admin=False) if caller.admin else caller
        return caller.system_scope is None and self.allows(plain, base.IS_ADMIN)

    def recognised(self, caller: Caller) -> Caller:
        """Return the caller, an administrator only if ``context_is_admin`` says so."""
        admin = self.is_admin(caller)
        return caller if caller.admin is admin else replace(caller, admin=admin)
