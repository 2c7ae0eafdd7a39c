"""The query string of ``GET /v2/images`` as a Query."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from glancelike.errors import InvalidInput
from glancelike.model import (
    FILTER_FIELDS,
    SORT_FIELDS,
    Filter,
    MemberStatus,
    Op,
    Query,
    SortKey,
    Visibility,
)
from glancelike.service import Settings

# Base fields whose API name differs from the model's.
FIELD_NAMES = {"os_hash_algo": "hash_algo", "os_hash_value": "hash_value"}
HIDDEN_NAMES = frozenset(FIELD_NAMES.values())
IN_FIELDS = frozenset({"id", "name", "status", "container_format", "disk_format"})
TIME_OPS = {op.value: op for op in (Op.GT, Op.GTE, Op.EQ, Op.NEQ, Op.LT, Op.LTE)}
# size_min and size_max, and so on for all numbers.
BOUNDS = {
    f"{name}_{end}": (name, op)
    for name, kind in FILTER_FIELDS.items()
    if kind is int
    for end, op in (("min", Op.GTE), ("max", Op.LTE))
}
ONCE = frozenset({"limit", "marker", "sort", "member_status", "visibility", "os_hidden", *BOUNDS})
# An item of in:, which stands in double quotes where it holds a comma or a quote.
ITEM = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^",]+)')
TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})
FALSE = frozenset({"false", "0", "no", "off", "f", "n"})


def parse_pairs(query_string: str) -> list[tuple[str, str]]:
    """Split a query string; raise InvalidInput when it isn't UTF-8."""
    try:
        return parse_qsl(query_string, keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise InvalidInput(f"The query string can't be read: {error}") from error


def parse_query(pairs: list[tuple[str, str]], settings: Settings) -> Query:
    """Make a Query; raise InvalidInput naming the parameter."""
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        given.setdefault(name, []).append(value)
    for name in ONCE & given.keys():
        if len(given[name]) > 1:
            raise InvalidInput(f"Parameter {name} may be given only once")
    if "changes-since" in given:
        raise InvalidInput('The "changes-since" filter is no longer available on v2.')
    once = {name: given.pop(name)[0] for name in ONCE & given.keys()}
    return Query(
        tags=frozenset(tag.strip() for tag in given.pop("tag", ())),
        sort=_sort(once.get("sort"), given.pop("sort_key", []), given.pop("sort_dir", [])),
        limit=_limit(once.get("limit"), settings),
        marker=once.get("marker"),
        visibility=_choice("visibility", once.get("visibility"), Visibility),
        member_status=_choice("member_status", once.get("member_status"), MemberStatus)
        or MemberStatus.ACCEPTED,
        hidden=_flag("os_hidden", once.get("os_hidden", "false")),
        filters=tuple(
            [_bound(name, once[name]) for name in BOUNDS if name in once]
            + [_filter(name, value) for name, values in given.items() for value in values]
        ),
    )


def _limit(value: str | None, settings: Settings) -> int:
    if value is None:
        return settings.limit_param_default
    number = _number("limit", value)
    if number < 0:
        raise InvalidInput("limit param must be positive")
    return min(number, settings.api_limit_max)


def _number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InvalidInput(f"{name} param must be an integer, not '{value}'") from None


def _flag(name: str, value: str) -> bool:
    lowered = value.strip().lower()
    if lowered in TRUE:
        return True
    if lowered in FALSE:
        return False
    raise InvalidInput(f"{name} param must be true or false, not '{value}'")


def _choice(name: str, value: str | None, choices: Callable[[str], Any]) -> Any:
    if value is None or value == "all":
        return value
    try:
        return choices(value)
    except ValueError:
        raise InvalidInput(f"Invalid {name} value: {value}") from None


def _sort(combined: str | None, keys: list[str], directions: list[str]) -> tuple[SortKey, ...]:
    if combined is not None:
        if keys or directions:
            raise InvalidInput("Old and new sorting syntax cannot be combined")
        for part in combined.split(","):
            key, _, direction = part.partition(":")
            keys.append(key.strip())
            directions.append(direction.strip() or "desc")
    keys = keys or ["created_at"]
    directions = directions or ["desc"]
    if len(directions) == 1:
        directions = directions * len(keys)
    if len(directions) != len(keys):
        raise InvalidInput("Number of sort dirs does not match the number of sort keys")
    return tuple(_sort_key(key, direction) for key, direction in zip(keys, directions, strict=True))


def _sort_key(key: str, direction: str) -> SortKey:
    if key not in SORT_FIELDS:
        raise InvalidInput(f"Invalid sort key: {key}. It must be one of: {', '.join(sorted(SORT_FIELDS))}")
    if direction not in ("asc", "desc"):
        raise InvalidInput(f"Invalid sort direction: {direction}")
    return SortKey(key, direction == "desc")


def _bound(name: str, value: str) -> Filter:
    number = _number(name, value)
    if number < 0:
        raise InvalidInput(f"{name} param must not be negative")
    field, op = BOUNDS[name]
    return Filter(field, op, number)


def _filter(name: str, value: str) -> Filter:
    field = FIELD_NAMES.get(name, name)
    if field not in FILTER_FIELDS or name in HIDDEN_NAMES:
        return Filter(name, Op.EQ, value, is_property=True)
    kind = FILTER_FIELDS[field]
    if kind is datetime:
        op, instant = _instant(name, value)
        return Filter(field, op, instant)
    if name in IN_FIELDS:
        if value.startswith("in:"):
            return Filter(field, Op.IN, tuple(_typed(name, kind, each) for each in _items(name, value[3:])))
        value = value.removeprefix("eq:")
    return Filter(field, Op.EQ, _typed(name, kind, value))


def _typed(name: str, kind: type, value: str) -> Any:
    if kind is bool:
        return _flag(name, value)
    if kind is int:
        return _number(name, value)
    if issubclass(kind, enum.Enum):
        return _choice(name, value, kind) if value != "all" else _choice(name, "", kind)
    return value


def _items(name: str, text: str) -> list[str]:
    """Split ``a,"b,c","d\\"e"``; a backslash in quotes stands before a quote or itself."""
    items = []
    position = 0
    while True:
        found = ITEM.match(text, position)
        if found is None:
            raise InvalidInput(f"Invalid filter value for {name}: expected an item at {text[position:]!r}")
        plain = found["plain"]
        items.append(re.sub(r"\\(.)", r"\1", found["quoted"]) if plain is None else plain)
        position = found.end()
        if position == len(text):
            return items
        if text[position] != ",":
            raise InvalidInput(f"Invalid filter value for {name}: expected a comma at {text[position:]!r}")
        position += 1


def _instant(name: str, value: str) -> tuple[Op, datetime]:
    prefix, colon, rest = value.partition(":")
    op = TIME_OPS.get(prefix)
    if op is None:
        if colon and prefix.isalpha():
            raise InvalidInput(f"Unable to filter by {name} with operator '{prefix}'")
        op, rest = Op.EQ, value
    try:
        # An unescaped "+" of a zone offset arrives as a blank.
        parsed = datetime.fromisoformat(rest.strip().replace(" ", "+"))
        # A zone may carry the first and the last day out of the calendar.
        return op, parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(f"Invalid time format for {name}: '{rest}'") from None
