"""The engine of policies: rules of oslo.policy, an operator's file over them, decisions remembered.

A kit that knows no images and no servers. Whoever uses it lists rules with their
defaults, and says of each question who asks and what is asked about. A file of
the operator's overrides any rule, and is read again when it changes.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from oslo_config import cfg

from glancelike.rules.oslo import opts as policy_opts
from glancelike.rules.oslo import policy

LOG = logging.getLogger(__name__)
REMEMBERED = 4096
REFERENCE = re.compile(r"%\((\w+)\)s")

Rule = policy.RuleDefault
Facts = Mapping[str, str | None]
Stamp = tuple[int, int, int]

# Nobody acts on what a project has by a token for a whole domain or system.
SCOPE = ["project"]


class PolicyFileError(ValueError):
    """The policy file can't be used; the message names it."""


class Who(Protocol):
    """All of a caller that a rule may ask for."""

    @property
    def user(self) -> str | None: ...
    @property
    def project(self) -> str | None: ...
    @property
    def roles(self) -> Collection[str]: ...
    @property
    def admin(self) -> bool: ...
    @property
    def service_roles(self) -> Collection[str]: ...
    @property
    def system_scope(self) -> str | None: ...


def rule(name: str, check: str, text: str, *operations: str) -> Rule:
    """Describe what a rule lets a caller do, and by which operations (``GET /v2/images``)."""
    if not operations:
        return policy.RuleDefault(name, check, text, scope_types=SCOPE)
    split = [operation.split(" ", 1) for operation in operations]
    asked: list[policy.Operation] = [{"method": method, "path": path} for method, path in split]
    return policy.DocumentedRuleDefault(name, check, text, asked, scope_types=SCOPE)


def alias(name: str, check: str, text: str) -> Rule:
    """Describe a rule that others refer to, as ``rule:name``, whatever the token is for."""
    return policy.RuleDefault(name, check, text)


def sample_of(rules: Iterable[Rule]) -> str:
    """Return the text of a sample policy file, all rules commented out."""
    parts = []
    for each in rules:
        asked = "".join(f"# {one['method']} {one['path']}\n" for one in getattr(each, "operations", ()))
        parts.append(f'# {each.description}\n{asked}#"{each.name}": "{each.check_str}"\n')
    return "\n".join(parts)


@dataclass(slots=True)
class Decisions:
    """What has been decided by one edition of the rules.

    A decision follows from the caller and from those facts that the rules
    refer to. oslo.policy takes some 150 microseconds for each, so the last
    ones are remembered, but for rules that ask another server.
    """

    enforcer: Any
    facts: tuple[str, ...]
    remote: bool
    made: dict[tuple[Any, ...], bool] = field(default_factory=dict)

    def allow(self, caller: Who, action: str, facts: Facts) -> bool:
        """Tell whether the caller may do ``action`` to a target of such facts."""
        if self.remote:
            return self._enforce(caller, action, facts)
        values = tuple([facts.get(name) for name in self.facts])
        question = (action, *_who(caller), values)
        allowed = self.made.get(question)
        if allowed is None:
            allowed = self._enforce(caller, action, dict(zip(self.facts, values, strict=True)))
            if len(self.made) >= REMEMBERED:
                self.made.clear()
            self.made[question] = allowed
        return allowed

    def _enforce(self, caller: Who, action: str, facts: Facts) -> bool:
        # What isn't known can't be equal to anything: it is left out.
        known = {name: value for name, value in facts.items() if value is not None}
        return bool(self.enforcer.enforce(action, known, _credentials(caller)))


class Rules:
    """Decides by rules and a policy file; thread-safe.

    The file is looked at before each decision. One that went away or broke
    while this runs leaves the rules as they were, and is complained about
    once per change: nothing is opened or closed by an editor's half-written
    file. An ``optional`` one needn't be there at the start.
    """

    def __init__(self, rules: Sequence[Rule], file: Path | None = None, *, optional: bool = False) -> None:
        self._rules = tuple(rules)
        self._names = frozenset(each.name for each in self._rules)
        self._file = file
        self._path = str(file)
        self._optional = optional
        self._lock = threading.Lock()
        self._seen: Stamp | None = None
        self._conf = cfg.ConfigOpts()
        self._conf([], default_config_files=[], default_config_dirs=[])
        policy_opts.set_defaults(self._conf, policy_dirs=[])
        self._decisions: Decisions | None = None

    def open(self) -> None:
        """Read the file; raise PolicyFileError when it can't be used."""
        self._decisions = self._read()

    def allows(self, caller: Who, action: str, facts: Facts) -> bool:
        """Tell whether the caller may do ``action`` to a target of such facts.

        Raises KeyError for an action without a rule.
        """
        if action not in self._names:
            raise KeyError(action)
        return self.current().allow(caller, action, facts)

    def fulfils(self, caller: Who, name: str) -> bool:
        """Tell whether the caller fulfils a rule that may be the file's own.

        One that isn't there is fulfilled by nobody.
        """
        return bool(self.current().enforcer.enforce(name, {}, _credentials(caller)))

    def knows(self, name: str) -> bool:
        """Tell whether there is such a rule, ours or the file's."""
        return name in self.current().enforcer.rules

    def current(self) -> Decisions:
        """Return the decisions made by the rules as the file has them now."""
        decisions = self._decisions
        if decisions is not None and (self._file is None or self._stamp() == self._seen):
            return decisions
        with self._lock:
            if self._decisions is None:
                self._decisions = self._read()
            elif (stamp := self._stamp()) != self._seen:
                try:
                    self._decisions = self._read()
                except PolicyFileError as error:
                    LOG.error("keeping the policies read before: %s", error)  # noqa: TRY400
                    self._seen = stamp
            return self._decisions

    def _stamp(self) -> Stamp | None:
        if self._file is None:
            return None
        try:
            stat = os.stat(self._path)  # noqa: PTH116 - a third of the time, for each decision
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> Decisions:
        stamp, text = self._stamp(), ""
        if self._file is not None and (stamp is not None or not self._may_be_absent()):
            try:
                text = self._file.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise PolicyFileError(f"{self._file} is no readable file: {error}") from error
        enforcer = policy.Enforcer(self._conf, use_conf=False)
        enforcer.register_defaults(self._rules)
        try:
            # Without a file a parser needn't even be imported.
            by_default = enforcer.default_rule
            told = policy.Rules.load(text, by_default) if text else policy.Rules({}, by_default)
        except Exception as error:  # whatever a parser makes of what somebody wrote
            raise PolicyFileError(f"{self._file}: {error}") from error
        for each in self._rules:
            told.setdefault(each.name, each.check)
        enforcer.set_rules(told, use_conf=False)
        enforcer.check_rules()
        asked = " ".join(str(check) for check in told.values())
        self._seen = stamp
        facts = tuple(sorted(set(REFERENCE.findall(asked))))
        return Decisions(enforcer, facts, bool(re.search(r"\bhttps?:", asked)))

    def _may_be_absent(self) -> bool:
        """Tell whether a file that isn't there is none; one that was there is missed."""
        return self._optional and self._seen is None


def _who(caller: Who) -> tuple[Any, ...]:
    return (
        caller.user,
        caller.project,
        caller.roles,
        caller.admin,
        caller.service_roles,
        caller.system_scope,
    )


def _credentials(caller: Who) -> dict[str, Any]:
    """Return the caller as rules know it."""
    return {
        "user_id": caller.user,
        "project_id": caller.project,
        "roles": sorted({*caller.roles, *({"admin"} if caller.admin else ())}),
        "service_roles": sorted(caller.service_roles),
        "is_admin": caller.admin,
        "system_scope": caller.system_scope,
    }
