"""What a registry can keep of metadata definitions: the checks that every backend shares.

Everything raises InvalidInput naming the field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from glancelike.errors import InvalidInput
from glancelike.model import Namespace, NamespaceQuery
from glancelike.registry.values import LENGTHS, check_name, check_text, in_utc, total_sort

# What a namespace holds, each a mapping by name. The first is kept apart
# from the others, since listings show it.
PARTS = ("resource_types", "properties", "objects", "tags")
CONTENT = PARTS[1:]
VISIBILITIES = ("public", "private")
LARGEST = 4 << 20  # bytes of JSON that the definitions of a namespace may take
DEEPEST = 50  # how far they may be nested: far from where a reader of JSON gives up
SORT_FIELDS: Mapping[str, bool] = MappingProxyType(
    # field, and whether it may be None
    {
        "name": False,
        "display_name": True,
        "description": True,
        "visibility": False,
        "protected": False,
        "owner": True,
        "created_at": False,
        "updated_at": False,
    }
)


def encoded(definitions: Mapping[str, Any]) -> str:
    """Return definitions as JSON in ASCII, in their order."""
    _check_depth(definitions, DEEPEST)
    try:
        return json.dumps(definitions, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"definitions can't be kept as JSON: {error}") from None


def _check_depth(value: object, left: int) -> None:
    if not left:
        raise InvalidInput(f"definitions can't be nested deeper than {DEEPEST} levels")
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for each in value:
        _check_depth(each, left - 1)


def decoded(text: str) -> dict[str, Any]:
    """Return what ``encoded`` wrote."""
    found: dict[str, Any] = json.loads(text)
    return found


def checked_namespace(namespace: Namespace) -> Namespace:
    """Return the namespace with definitions of its own and its times in UTC."""
    check_name("namespace", namespace.name, LENGTHS["namespace"])
    for field in ("display_name", "description", "owner"):
        value = getattr(namespace, field)
        if value is not None:
            check_text(field, value, limit=LENGTHS[field])
    if namespace.visibility not in VISIBILITIES:
        raise InvalidInput(f"visibility {namespace.visibility!r} must be one of {', '.join(VISIBILITIES)}")
    if not isinstance(namespace.protected, bool):
        raise InvalidInput("protected must be true or false")
    for name in namespace.resource_types:
        check_name("resource type", name, LENGTHS["resource_type"])
    texts = {part: encoded(getattr(namespace, part)) for part in PARTS}
    if sum(map(len, texts.values())) > LARGEST:
        raise InvalidInput(f"the definitions in a namespace can't take more than {LARGEST} bytes of JSON")
    return replace(
        namespace,
        resource_types=decoded(texts["resource_types"]),
        properties=decoded(texts["properties"]),
        objects=decoded(texts["objects"]),
        tags=decoded(texts["tags"]),
        created_at=in_utc("created_at", namespace.created_at),
        updated_at=in_utc("updated_at", namespace.updated_at),
    )


def checked_namespace_query(query: NamespaceQuery) -> NamespaceQuery:
    """Return the query with its sort made total."""
    if not isinstance(query.limit, int) or query.limit < 0:
        raise InvalidInput(f"limit must not be negative: {query.limit}")
    if query.visibility is not None and query.visibility not in VISIBILITIES:
        raise InvalidInput(f"visibility {query.visibility!r} must be one of {', '.join(VISIBILITIES)}")
    if query.owner is not None:
        check_text("owner", query.owner)
    for name in query.resource_types:
        check_text("resource type", name)
    return replace(query, sort=total_sort("namespaces", query.sort, SORT_FIELDS, "name"))


def summary(namespace: Namespace) -> Namespace:
    """Return the namespace as listings show it: without what is in it but resource types."""
    return replace(namespace, properties={}, objects={}, tags={})
