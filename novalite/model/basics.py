"""What all values share: units, times, pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

MIB = 1024**2
GIB = 1024**3


def utcnow() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing; ``next_marker`` is None on the last page."""

    items: tuple[T, ...]
    next_marker: str | None = None
