"""Sort and page values as clause 3 of the contract says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from glancelike.model import SortKey

T = TypeVar("T")


def in_order(found: Iterable[T], sort: Sequence[SortKey], marker: T | None) -> list[T]:
    """Return those that come after the marker (all without one), sorted."""
    rest = [each for each in found if marker is None or _before(marker, each, sort)]
    # Sorting is stable: the last key first, the first one has the last word.
    for key in reversed(sort):
        rest.sort(key=partial(_rank, key.field), reverse=key.descending)
    return rest


def _rank(field: str, value: object) -> tuple[bool, Any]:
    found = getattr(value, field)
    return (found is not None, found)


def _before(marker: object, value: object, sort: Sequence[SortKey]) -> bool:
    for key in sort:
        left, right = _rank(key.field, marker), _rank(key.field, value)
        if left != right:
            return (right < left) if key.descending else (left < right)
    return False
