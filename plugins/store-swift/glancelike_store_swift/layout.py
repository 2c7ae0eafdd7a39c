"""Where things lie.

::

    <key>                                        one object a blob
    .segments/<id>/<key>/<number>                segments of a write, a copy
    .segments/<id>/<key>/<number>-<random>       parts of a resumable upload
    .segments/<id>/<key>/m<number>-<random>      manifests of a manifest that has too many segments
    .segments/<id>/<key>/upload                  what makes a resumable upload known
    .segments/<id>/<key>/hold                    somebody writes into a container made for this key
    .claims/<key>/<nonce>                        somebody is about to publish this key
    .claims/<key>/<nonce>.done                   and has done so
    .elsewhere/<owner>/<key>                     this key is, or may be, in its owner's account

All in one container: a temporary URL whose key is the container's opens
nothing outside of it. No key starts with a dot, and a listing after ``/``
has no name that does.

``<id>`` is random, 32 hex digits, new for each write: no two writers touch
the same segments. A blob's object names its id in its metadata. The key is
part of the names so that ``sweep`` can tell whom a segment belongs to.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

UPLOAD_META = "X-Object-Meta-Glancelike-Upload"
NONCE_META = "X-Object-Meta-Glancelike-Nonce"
SEGMENTS = ".segments/"
CLAIMS = ".claims/"
BEFORE_KEYS = "/"  # sorts behind the dot, and before letters and digits
ELSEWHERE = ".elsewhere/"
MAX_CONTAINER = 256
ID = re.compile(r"[0-9a-f]{32}")
_SEGMENT = re.compile(r"\.segments/([0-9a-f]{32})/(.+)/[^/]+")
_PART = re.compile(r"([0-9]{6})-[0-9a-f]{8}")


def new_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Group:
    """The segments of one write: their container, id and key."""

    container: str
    id: str
    key: str

    @property
    def prefix(self) -> str:
        return f"{SEGMENTS}{self.id}/{self.key}/"

    @property
    def marker(self) -> str:
        """Name the object that makes a resumable upload known."""
        return f"{self.prefix}upload"

    @property
    def hold(self) -> str:
        """Name the object that keeps a container from being taken for empty."""
        return f"{self.prefix}hold"

    def segment(self, number: int) -> str:
        return f"{self.prefix}{number:06d}"

    def part(self, number: int) -> str:
        """Name a part anew each time: what a manifest has taken is never written over."""
        return f"{self.prefix}{number:06d}-{uuid.uuid4().hex[:8]}"

    def part_number(self, name: str) -> int | None:
        """Return the number of a part by its name, None of what is no part."""
        found = _PART.fullmatch(name.removeprefix(self.prefix))
        return int(found[1]) if found else None

    def submanifest(self, number: int) -> str:
        return f"{self.prefix}m{number:06d}-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Which container a key lies in."""

    container: str
    seed: int

    def container_of(self, key: str) -> str:
        if not self.seed:
            return self.container
        return f"{self.container}_{key[: self.seed].replace('/', '_')}"

    def group(self, key: str, upload: str) -> Group:
        return Group(self.container_of(key), upload, key)

    def own(self, containers: Iterator[str]) -> Iterator[str]:
        """Choose the containers of images among those whose name starts alike."""
        for name in containers:
            rest = name.removeprefix(f"{self.container}_")
            if rest != name and len(rest) <= self.seed:
                yield name


class OneEach(Layout):
    """A container for each key: what is deleted or swept of one touches no other."""

    def container_of(self, key: str) -> str:
        name = f"{self.container}_{key.replace('/', '+')}"  # which no key has
        if len(name) <= MAX_CONTAINER:
            return name
        return f"{self.container}_{hashlib.sha256(key.encode()).hexdigest()}"


def owner(name: str) -> tuple[str, str] | None:
    """Return id and key of a segment, None of anything else."""
    found = _SEGMENT.fullmatch(name)
    return (found[1], found[2]) if found else None
