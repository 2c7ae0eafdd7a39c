"""Who may do what: oslo.policy with Glance's rule names and defaults.

``Policy.check`` is the only place that decides by role. What a caller may
*see* at all is the registry's business (visibility), decided before. The
rules are in one module a noun; an operator overrides any of them in
``policy.yaml``, which is read again when it changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from oslo_config import cfg

from glancelike.errors import ConfigError, Forbidden, ImageNotFound, NamespaceNotFound
from glancelike.model import Caller, Image, Namespace
from glancelike.policy import base, cache, images, metadefs, stores, tasks
from glancelike.policy.oslo import opts as policy_opts
from glancelike.policy.oslo import policy

REMEMBERED = 4096
RULES: tuple[base.Rule, ...] = (
    *base.RULES,
    *images.RULES,
    *cache.RULES,
    *stores.RULES,
    *tasks.RULES,
    *metadefs.RULES,
)
REFERENCE = re.compile(r"%\((\w+)\)s")

Facts = Mapping[str, str | None]
Target = Image | Namespace | Facts | None


def rules() -> tuple[base.Rule, ...]:
    """Return every rule with its default."""
    return RULES


def facts_of(target: Target) -> dict[str, str | None]:
    """Return what a check string may ask of its target, as ``%(name)s``.

    Of an image these are its fields and properties, ``project_id`` being
    its owner; of a namespace its name, owner and visibility.
    """
    if isinstance(target, Image):
        return {
            **target.properties,
            "member_id": None,  # whoever asks says whose membership it is about
            "user_id": None,
            "id": target.id,
            "image_id": target.id,
            "name": target.name,
            "status": str(target.status),
            "visibility": str(target.visibility),
            "protected": str(target.protected),
            "os_hidden": str(target.hidden),
            "disk_format": target.disk_format,
            "container_format": target.container_format,
            "owner": target.owner,
            "project_id": target.owner,
        }
    if isinstance(target, Namespace):
        return {
            "namespace": target.name,
            "visibility": target.visibility,
            "protected": str(target.protected),
            "owner": target.owner,
            "project_id": target.owner,
        }
    return dict(target or {})


@dataclass(slots=True)
class _Decisions:
    """What has been decided by one state of the rules.

    A decision follows from the caller and from those facts that the rules
    refer to. oslo.policy takes some 150 microseconds for each, so the last
    ones are remembered, but for rules that ask another server.
    """

    rules: Any
    facts: tuple[str, ...]
    remote: bool
    made: dict[tuple[Any, ...], bool] = field(default_factory=dict)

    @classmethod
    def by(cls, rules: Mapping[str, Any]) -> _Decisions:
        text = " ".join(str(check) for check in rules.values())
        return cls(rules, tuple(sorted(set(REFERENCE.findall(text)))), bool(re.search(r"\bhttps?:", text)))


class Policy:
    """Decides whether a caller may do an action; thread-safe."""

    def __init__(self, policy_file: Path | None = None) -> None:
        if policy_file is not None and not policy_file.is_file():
            raise ConfigError(f"[oslo_policy] policy_file: {policy_file} is no readable file")
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[], default_config_dirs=[])
        policy_opts.set_defaults(conf, policy_file=str(policy_file) if policy_file else "policy.yaml")
        self._enforcer = policy.Enforcer(conf, use_conf=policy_file is not None)
        self._enforcer.register_defaults(RULES)
        self._names = frozenset(rule.name for rule in RULES)
        # Without a file nothing is ever loaded, so the defaults are put in
        # place here, where a request need not look for files each time.
        self._enforcer.load_rules(force_reload=policy_file is not None)
        if policy_file is None:
            for rule in self._enforcer.registered_rules.values():
                self._enforcer.rules.setdefault(rule.name, rule.check)
        self._decisions = _Decisions.by(self._enforcer.rules)

    def allows(self, caller: Caller, action: str, facts: Facts) -> bool:
        """Tell whether the caller may do ``action`` to a target of such facts."""
        return self._decide(self._current(), caller, action, facts)

    def allowed(self, caller: Caller, action: str, images: Iterable[Image]) -> tuple[Image, ...]:
        """Return those of the images that the caller may do ``action`` to."""
        decisions = self._current()
        return tuple(image for image in images if self._decide(decisions, caller, action, facts_of(image)))

    def _current(self) -> _Decisions:
        """Return the decisions made by the rules as the policy file has them now."""
        self._enforcer.load_rules()
        decisions = self._decisions
        if self._enforcer.rules is not decisions.rules:
            self._decisions = decisions = _Decisions.by(self._enforcer.rules)
        return decisions

    def _decide(self, decisions: _Decisions, caller: Caller, action: str, facts: Facts) -> bool:
        if action not in self._names:
            raise KeyError(action)
        if decisions.remote:
            return self._enforce(caller, action, facts)
        values = tuple([facts.get(name) for name in decisions.facts])
        question = (action, *_who(caller), values)
        allowed = decisions.made.get(question)
        if allowed is None:
            allowed = self._enforce(caller, action, dict(zip(decisions.facts, values, strict=True)))
            if len(decisions.made) >= REMEMBERED:
                decisions.made.clear()
            decisions.made[question] = allowed
        return allowed

    def _enforce(self, caller: Caller, action: str, facts: Facts) -> bool:
        # What isn't known can't be equal to anything: it is left out.
        known = {name: value for name, value in facts.items() if value is not None}
        return bool(self._enforcer.enforce(action, known, _credentials(caller)))

    def check(self, caller: Caller, action: str, target: Target = None, **facts: str) -> None:
        """Raise Forbidden unless the caller may do ``action``.

        ``target`` is what it is done to: an image or namespace that exists,
        or the facts of anything else, by default the caller's project.
        ``facts`` add to it. Of an image or a namespace that the caller may
        not even look at it says ImageNotFound or NamespaceNotFound.
        """
        own = {"project_id": caller.project, "owner": caller.project}
        asked = {**own, **facts_of(target), **facts}
        if self.allows(caller, action, asked):
            return
        if isinstance(target, Image) and not self.allows(caller, "get_image", asked):
            raise ImageNotFound(f"No image found with ID {target.id}")
        if isinstance(target, Namespace) and not self.allows(caller, "get_metadef_namespace", asked):
            raise NamespaceNotFound(f"Metadata definition namespace {target.name} not found")
        raise Forbidden(f"You are not authorized to complete {action} action.")

    def fulfils(self, caller: Caller, rule: str) -> bool:
        """Tell whether the caller fulfils a rule that may be the policy file's own.

        One that isn't there is fulfilled by nobody.
        """
        self._enforcer.load_rules()
        return bool(self._enforcer.enforce(rule, {}, _credentials(caller)))

    def knows(self, rule: str) -> bool:
        """Tell whether there is such a rule, ours or the policy file's."""
        return rule in self._enforcer.rules

    def recognised(self, caller: Caller) -> Caller:
        """Return the caller, an administrator only if ``context_is_admin`` says so.

        A token for the whole system makes no administrator of images.
        """
        plain = replace(caller, admin=False)
        facts = {"project_id": caller.project, "user_id": caller.user}
        if caller.system_scope is None and self.allows(plain, "context_is_admin", facts):
            return caller if caller.admin else replace(caller, admin=True)
        return plain


def _who(caller: Caller) -> tuple[Any, ...]:
    """Return all of the caller that a rule may ask for."""
    return (
        caller.user,
        caller.project,
        caller.roles,
        caller.admin,
        caller.service_roles,
        caller.system_scope,
    )


def _credentials(caller: Caller) -> dict[str, Any]:
    """Return the caller as rules know it."""
    return {
        "user_id": caller.user,
        "project_id": caller.project,
        "roles": sorted(caller.roles | ({"admin"} if caller.admin else frozenset())),
        "service_roles": sorted(caller.service_roles),
        "is_admin": caller.admin,
        "system_scope": caller.system_scope,
    }


def sample() -> str:
    """Return the text of the sample ``policy.yaml``, all rules commented out."""
    parts = []
    for rule in RULES:
        asked = "".join(f"# {each['method']} {each['path']}\n" for each in getattr(rule, "operations", ()))
        parts.append(f'# {rule.description}\n{asked}#"{rule.name}": "{rule.check_str}"\n')
    return "\n".join(parts)
