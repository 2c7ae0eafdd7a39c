"""Property protections: who may create, read, update and delete which property.

The file and its meaning are Glance's, see its administrator's guide,
"Property protections". A section's name is a regular expression; the first
one found in a property's name is the rule for it, and what no rule is for
nobody may touch::

    [^x_billing_]
    create = admin,billing
    read = admin,billing,member
    update = admin,billing
    delete = admin

``@`` stands for everybody and ``!`` for nobody. With the format ``policies``
each line names one rule of ``policy.yaml`` instead of roles.
"""

from __future__ import annotations

import configparser
import enum
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from glancelike.errors import ConfigError

OPTION = "property_protection_file"
EVERYBODY, NOBODY = "@", "!"
# What the service itself keeps in properties; nobody can set those anyway.
INTERNAL = "os_glance"


class Use(enum.StrEnum):
    """What can be done to a property."""

    CREATE = "create"
    READ = "read"
    UPDATE = "update"
    DELETE = "delete"


class Format(enum.StrEnum):
    ROLES = "roles"
    POLICIES = "policies"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may do what to the properties whose name the pattern is found in."""

    pattern: re.Pattern[str]
    allowed: Mapping[Use, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Protections:
    """The rules in order; without any, everything is allowed."""

    rules: tuple[Rule, ...] = ()
    format: Format = Format.ROLES

    def __bool__(self) -> bool:
        return bool(self.rules)

    def allows(self, name: str, use: Use, roles: Iterable[str], fulfils: Callable[[str], bool]) -> bool:
        """Tell whether somebody may do this to the property.

        ``roles`` are the caller's own and those of the service that passes
        the request on; ``fulfils`` tells whether the caller fulfils a
        policy rule of that name.
        """
        if not self.rules or name.startswith(INTERNAL):
            return True
        rule = next((rule for rule in self.rules if rule.pattern.search(name)), None)
        if rule is None:
            return False
        allowed = rule.allowed[use]
        if EVERYBODY in allowed or NOBODY in allowed:
            return EVERYBODY in allowed
        if self.format is Format.POLICIES:
            return any(fulfils(policy) for policy in allowed)
        return not allowed.isdisjoint(role.lower() for role in roles)

    def policies(self) -> frozenset[str]:
        """Return the policy rules that are referred to."""
        if self.format is Format.ROLES:
            return frozenset()
        named = frozenset().union(*(allowed for rule in self.rules for allowed in rule.allowed.values()))
        return named - {EVERYBODY, NOBODY}


def load(path: Path, format: Format) -> Protections:
    """Read a property protection file; raise ConfigError naming file and section."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{OPTION}: {path} is no readable file: {error}") from error
    except configparser.Error as error:
        raise ConfigError(f"{OPTION}: {error}") from error
    rules = tuple(_rules(path, parser, format))
    if not rules:
        # Nothing would be protected, which can't be what the file is for.
        raise ConfigError(f"{OPTION}: {path} holds no rule")
    return Protections(rules, format)


def _rules(path: Path, parser: configparser.ConfigParser, format: Format) -> Iterator[Rule]:
    for section in parser.sections():
        if section.startswith(INTERNAL):
            continue
        where = f"{OPTION}: {path}: [{section}]"
        try:
            pattern = re.compile(section)
        except re.error as error:
            raise ConfigError(f"{where} is no regular expression: {error}") from error
        unknown = set(parser[section]) - set(Use)
        if unknown:
            raise ConfigError(f"{where} {min(unknown)}: expected {', '.join(Use)}")
        yield Rule(pattern, {use: _allowed(where, use, parser[section].get(use), format) for use in Use})


def _allowed(where: str, use: Use, value: str | None, format: Format) -> frozenset[str]:
    if value is None:
        raise ConfigError(f"{where} {use} is missing")
    names = frozenset(name for each in value.split(",") if (name := each.strip()))
    if {EVERYBODY, NOBODY} <= names:
        raise ConfigError(f"{where} {use}: {EVERYBODY} and {NOBODY} exclude each other")
    if format is Format.POLICIES:
        if len(names) > 1:
            raise ConfigError(f"{where} {use}: one policy, not {value!r}; combine them in the policy file")
        return names
    return frozenset(name.lower() for name in names)
