"""What an operation takes and answers.

From this, ROUTES and the schemas the OpenAPI document is made, and the
table of operations in the documentation. ``descriptions`` has them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]

JSON = "application/json"
OCTETS = "application/octet-stream"
TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "integer", "minimum": 0}
ANY: Json = {"type": "object"}
SORT_DIR: Json = {"type": "string", "enum": ["asc", "desc"]}
FLAG: Json = {"type": "string", "enum": ["true", "false"]}


@dataclass(frozen=True, slots=True)
class Operation:
    """What one operation takes and answers.

    ``answers`` maps each status of success to the schema of its body, by
    name or written out, or to None where there is none; ``body`` maps media
    types to the schemas of what is sent. ``errors`` are the
    statuses of failure besides those that follow from the route: see
    ``openapi``. With ``filters`` any other query parameter is a filter.
    """

    summary: str
    answers: Mapping[int, str | Json | None]
    errors: frozenset[int] = frozenset()
    query: Mapping[str, Json] = field(default_factory=dict)
    headers: Mapping[str, Json] = field(default_factory=dict)
    body: Mapping[str, str | Json] | None = None
    answer_type: str = JSON
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    filters: bool = False


def told(summary: str, answers: Mapping[int, str | Json | None], *errors: int, **more: Any) -> Operation:
    """Describe an operation; ``more`` are fields of Operation."""
    return Operation(summary, answers, frozenset(errors), **more)


def listing(name: str, items: str | Json, *, paged: bool = True) -> Json:
    """Return the schema of a collection under its plural name."""
    one = {"$ref": f"#/components/schemas/{items}"} if isinstance(items, str) else items
    links = {"first": TEXT, "next": TEXT} if paged else {}
    return {
        "type": "object",
        "properties": {name: {"type": "array", "items": one}, **links, "schema": TEXT},
        "required": [name],
    }
