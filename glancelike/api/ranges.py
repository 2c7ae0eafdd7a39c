"""The Range header (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

SINGLE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*,?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """``length`` bytes from ``offset`` on; a length of 0 can't be satisfied."""

    offset: int
    length: int

    @property
    def last(self) -> int:
        return self.offset + self.length - 1


def parse_range(header: str | None, size: int) -> Span | None:
    """Return the one range asked for, None when the whole is to be sent.

    Several ranges, other units and what can't be read are answered with
    the whole, as the RFC allows.
    """
    match = SINGLE.fullmatch((header or "").strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = min(_number(last), size)
        return Span(size - length, length)
    offset = _number(first)
    end = _number(last) if last else size - 1
    if last and end < offset:
        return None
    return Span(offset, max(0, min(end, size - 1) - offset + 1))


def _number(digits: str) -> int:
    # Far more digits than any size has are all the same: behind the end.
    return int(digits) if len(digits) <= 20 else 10**20
