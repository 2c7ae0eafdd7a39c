"""Metadata definitions as the Image API writes them, and the query strings of their listings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import falcon

from glancelike.api.query import parse_pairs
from glancelike.api.wire import PREFIX, instant
from glancelike.errors import InvalidInput
from glancelike.model import Namespace, SortKey

NAMESPACES = f"{PREFIX}/metadefs/namespaces"
SCHEMAS = f"{PREFIX}/schemas/metadefs"


def _url(*names: str) -> str:
    # Colons stay as they are: namespaces are full of them.
    return "/".join((NAMESPACES, *(quote(name, safe=":") for name in names)))


def namespace_url(name: str) -> str:
    """Return the path of a namespace."""
    return _url(name)


def namespace(value: Namespace, *, content: bool = True) -> dict[str, Any]:
    """Return the body that shows a namespace; what isn't set is left out."""
    fields: dict[str, Any] = {
        "namespace": value.name,
        "display_name": value.display_name,
        "description": value.description,
        "visibility": value.visibility,
        "protected": value.protected,
        "owner": value.owner,
        "created_at": instant(value.created_at),
        "updated_at": instant(value.updated_at),
        "self": namespace_url(value.name),
        "schema": f"{SCHEMAS}/namespace",
    }
    body = {key: field for key, field in fields.items() if field is not None}
    if content:
        body |= {key: found for key, found in _content(value).items() if found}
    return body


def _content(value: Namespace) -> dict[str, Any]:
    return {
        "resource_type_associations": _named(value.resource_types),
        "properties": value.properties,
        "objects": [definition_of_object(value.name, each) for each in _named(value.objects)],
        "tags": [{"name": name} for name in value.tags],
    }


def definition_of_object(namespace_name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that shows an object."""
    return {
        **body,
        "self": _url(namespace_name, "objects", body["name"]),
        "schema": f"{SCHEMAS}/object",
    }


def _named(definitions: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": name, **each} for name, each in definitions.items()]


# Query strings


def parameters(req: falcon.Request) -> dict[str, str]:
    """Return the query parameters, of doubles the last."""
    return dict(parse_pairs(req.query_string))


def limit(given: Mapping[str, str], *, lowest: int = 0) -> int | None:
    """Return the parameter ``limit``; raise InvalidInput."""
    value = given.get("limit")
    if not value:
        return None
    try:
        number = int(value)
    except ValueError:
        raise InvalidInput("limit param must be an integer") from None
    if number < lowest:
        raise InvalidInput("limit param must be positive")
    return number


def sort(
    given: Mapping[str, str], fields: Mapping[str, str], default: str | None = "created_at"
) -> SortKey | None:
    """Return the order asked for; ``fields`` maps the API's names to the model's.

    Without a ``default`` nothing is sorted unless somebody asks.
    """
    key, direction = given.get("sort_key", default), given.get("sort_dir", "desc")
    if direction not in ("asc", "desc"):
        raise InvalidInput(f"Invalid sort direction: {direction}")
    if key is None:
        if "sort_dir" not in given:
            return None
        key = "created_at"
    if key not in fields:
        raise InvalidInput(f"Invalid sort key: {key}. It must be one of: {', '.join(fields)}")
    return SortKey(fields[key], direction == "desc")


def visibility(given: Mapping[str, str]) -> str | None:
    """Return the filter by visibility; raise InvalidInput."""
    value = given.get("visibility")
    if value not in (None, "public", "private"):
        raise InvalidInput(f"Invalid visibility value: {value}")
    return value
