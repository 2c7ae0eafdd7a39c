"""How blobs, and what is to become one, are called in the pool.

A key is the name of its image, so that ``rbd:<pool>/<id>`` means to others
what it means here; only ``/``, which names of images can't have, becomes
``+``, which keys can't have. Names that begin with a dot are no keys::

    .glancelike-<random>    being written, or being removed
"""

from __future__ import annotations

import re
import uuid
from urllib.parse import quote, unquote

from glancelike.errors import InvalidInput, InvalidKey

SNAPSHOT = "snap"  # as Glance and Nova call it
_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_NAME = re.compile(rf"{_SEGMENT}(?:\+{_SEGMENT})*")
_URL = re.compile(r"rbd://([^/?#]+)/([^/?#]+)/([^/?#]+)/([^/?#]+)")
TEMPORARY = ".glancelike-"


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
