"""What the headers of an answer say, and what its status means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import urllib3

from glancelike.errors import Forbidden, NotFound, Unreachable
from glancelike.urlrules import Target

TRANSIENT = {408, 425, 429, 500, 502, 503, 504}

_SIZE = re.compile(r"[0-9]{1,19}")
_CONTENT_RANGE = re.compile(r"bytes (?:(?P<start>[0-9]{1,19})-[0-9]{1,19}|\*)/(?:(?P<total>[0-9]{1,19})|\*)")


class Broken(Exception):
    """Something that may work when it is tried again; never leaves this package."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server tells of the data at a URL. ``size`` in bytes, None if it doesn't."""

    size: int | None
    etag: str | None = None
    last_modified: str | None = None  # as sent

    @property
    def validator(self) -> str | None:
        """What If-Range takes: a weak ETag doesn't promise equal bytes."""
        strong = self.etag is not None and not self.etag.startswith("W/")
        return self.etag if strong else self.last_modified

    def contradicts(self, other: Facts) -> bool:
        """Tell whether two answers are about different data; what one doesn't tell is no difference."""
        pairs = (
            (self.size, other.size),
            (self.etag, other.etag),
            (self.last_modified, other.last_modified),
        )
        return any(None not in pair and pair[0] != pair[1] for pair in pairs)

    @property
    def modified(self) -> datetime | None:
        """The time of the last change."""
        try:
            found = parsedate_to_datetime(self.last_modified or "")
        except ValueError:
            return None
        return found if found.tzinfo else found.replace(tzinfo=UTC)


def facts_of(answer: urllib3.BaseHTTPResponse, target: Target) -> Facts:
    """Return what an answer's headers tell; raise Unreachable for encoded data."""
    encoding = answer.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise Unreachable(f"{target}: the server sends the data encoded as {encoding!r}, not as it is")
    told = answer.headers.get("Content-Length", "")
    chunked = "Transfer-Encoding" in answer.headers
    plain = answer.status == 200 and not chunked and _SIZE.fullmatch(told)
    size = int(told) if plain else total_of(answer)
    return Facts(size, answer.headers.get("ETag"), answer.headers.get("Last-Modified"))


def refusal_of(answer: urllib3.BaseHTTPResponse, target: Target) -> Exception:
    """Return the error that a status means."""
    said = f"{target} answered {answer.status}"
    if answer.status in (404, 410):
        return NotFound(said)
    if answer.status in (401, 403):
        return Forbidden(said)
    return (Broken if answer.status in TRANSIENT else Unreachable)(said)


def drop(answer: urllib3.BaseHTTPResponse) -> None:
    """End an answer whose body isn't wanted: its connection must not be drained."""
    answer.close()
    answer.release_conn()


def start_of(answer: urllib3.BaseHTTPResponse) -> int | None:
    """Return the first byte's position that Content-Range tells."""
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return int(found["start"]) if found and found["start"] else None


def total_of(answer: urllib3.BaseHTTPResponse) -> int | None:
    """Return the size of the whole that Content-Range tells."""
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return int(found["total"]) if found and found["total"] else None
