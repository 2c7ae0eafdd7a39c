"""What an operation takes and answers, said beside the method that does it.

From this, ROUTES and the schemas the OpenAPI document is made, and the
table of operations in the documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
Json = Mapping[str, Any]

EMPTY: Mapping[str, Any] = MappingProxyType({})
JSON = "application/json"
OCTETS = "application/octet-stream"
TEXT: Json = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Body:
    """A request body: a schema by its name in the document, or written out."""

    schema: str | Json
    types: tuple[str, ...] = (JSON,)
    required: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """What one operation takes and answers.

    ``answers`` maps each status of success to the schema of its body, by
    name or written out, or to None where there is none; ``errors`` are the
    statuses of failure besides those that any operation has.
    """

    summary: str
    answers: Mapping[int, str | Json | None]
    errors: frozenset[int] = frozenset()
    query: Mapping[str, Json] = field(default_factory=dict)
    headers: Mapping[str, Json] = field(default_factory=dict)
    body: Body | None = None
    answer_type: str = JSON
    open_query: bool = False  # any other parameter is a filter


def operation(
    summary: str,
    answers: Mapping[int, str | Json | None],
    *errors: int,
    query: Mapping[str, Json] = EMPTY,
    headers: Mapping[str, Json] = EMPTY,
    body: Body | None = None,
    answer_type: str = JSON,
    open_query: bool = False,
) -> Callable[[F], F]:
    """Describe the resource's method below; see Operation."""

    def describe(method: F) -> F:
        method.__operation__ = Operation(  # type: ignore[attr-defined]
            summary, answers, frozenset(errors), query, headers, body, answer_type, open_query
        )
        return method

    return describe


def described(method: Callable[..., Any]) -> Operation:
    """Return what ``operation`` said of a method; raise LookupError if it didn't."""
    found: Operation | None = getattr(method, "__operation__", None)
    if found is None:
        raise LookupError(f"{method.__qualname__} has no @operation")
    return found
