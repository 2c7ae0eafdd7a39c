"""How blobs, and what is to become one, are called in the pool.

A key is the name of its image, so that ``rbd:<pool>/<id>`` means to others
what it means here; only ``/``, which names of images can't have, becomes
``+``, which keys can't have. Names that begin with a dot are no keys::

    .glancelike-<random>                         being written, or being removed
    .upload-<upload>                             stands for an upload in parts
    .part-<upload>-<number>-<time>-<size>        a complete part of it
"""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from glancelike.errors import BlobNotFound, InvalidInput, InvalidKey

SNAPSHOT = "snap"  # as Glance and Nova call it
_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_NAME = re.compile(rf"{_SEGMENT}(?:\+{_SEGMENT})*")
_UPLOAD = re.compile(r"[0-9a-f]{64}")
_URL = re.compile(r"rbd://([^/?#]+)/([^/?#]+)/([^/?#]+)/([^/?#]+)")
_PART = re.compile(r"\.part-([0-9a-f]{64})-([0-9]{5})-([0-9]{20})-([0-9]+)")
TEMPORARY = ".glancelike-"
UPLOAD = ".upload-"
PART = ".part-"


def image_of(key: str) -> str:
    """Return the name of the image that holds a blob."""
    if not _KEY.fullmatch(key):
        raise InvalidKey("not a key")
    return key.replace("/", "+")


def key_of(name: str) -> str | None:
    """Return the key of the blob that an image holds, None for one that can't hold any."""
    return name.replace("+", "/") if _NAME.fullmatch(name) else None


def temporary() -> str:
    """Make up a name for an image that is no blob yet, or no longer."""
    return f"{TEMPORARY}{uuid.uuid4().hex}"


def url_of(key: str, fsid: str, pool: str) -> str:
    """Return the URL of a blob, as Glance writes it."""
    return "rbd://" + "/".join(quote(piece, safe="") for piece in (fsid, pool, image_of(key), SNAPSHOT))


def key_of_url(url: str, fsid: str, pool: str) -> str:
    """Return the key of the blob that a URL names; raise InvalidInput when it's elsewhere."""
    match = _URL.fullmatch(url)
    if match is None:
        raise InvalidInput("not of the form rbd://fsid/pool/image/snapshot")
    theirs, where, name, snapshot = (unquote(piece) for piece in match.groups())
    if (theirs, where) != (fsid, pool):
        raise InvalidInput("the URL names another cluster or pool than this store's")
    key = key_of(name)
    if key is None or snapshot != SNAPSHOT:
        raise InvalidInput("the URL can't be one of a blob in this store")
    return key


def new_upload(key: str) -> str:
    """Make up the id of an upload to ``key``, bound to it by the key's digest."""
    return uuid.uuid4().hex + _digest(key)


def check_upload(key: str, upload: str) -> None:
    """Raise BlobNotFound for what can't be the id of an upload to ``key``: it comes from outside."""
    if not (_UPLOAD.fullmatch(upload) and upload.endswith(_digest(key))):
        raise BlobNotFound(f"no upload {upload!r}")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class PartName:
    """What the name of a part's image says."""

    name: str
    upload: str
    number: int
    stored: int  # nanoseconds since 1970: the newer of two replaces the other
    size: int


def part_name(upload: str, number: int, size: int) -> str:
    """Make up the name of a part stored now."""
    return f"{PART}{upload}-{number:05d}-{time.time_ns():020d}-{size}"


def parsed_parts(names: Iterable[str]) -> list[PartName]:
    """Return what the names say that are names of parts, by number, then by age."""
    found = [
        PartName(match.string, match[1], int(match[2]), int(match[3]), int(match[4]))
        for match in map(_PART.fullmatch, names)
        if match is not None
    ]
    return sorted(found, key=lambda part: (part.upload, part.number, part.stored))
