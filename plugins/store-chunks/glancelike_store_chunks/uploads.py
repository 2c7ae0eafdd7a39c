"""Resumable uploads: each part is chunked as it comes and has its own manifest.

Joining the parts joins their manifests; no chunk moves.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections import defaultdict
from contextlib import suppress
from datetime import datetime

from glancelike.errors import BlobExists, BlobNotFound, SizeMismatch
from glancelike.stores.base import BlobInfo, PartInfo
from glancelike_store_chunks.lower import Lower
from glancelike_store_chunks.manifest import Draft
from glancelike_store_chunks.names import MARKER, UPLOADS
from glancelike_store_chunks.sessions import Session, began, stamp

_UPLOAD = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"uploads/[0-9a-f]{64}/([0-9]{5})-([0-9]{8})-([0-9]+)")


class Uploads:
    """The uploads in one store below."""

    def __init__(self, lower: Lower) -> None:
        self._lower = lower

    def begin(self, key: str) -> str:
        # The key's digest binds the two without a blob that would have to be read.
        upload = uuid.uuid4().hex + _digest(key)
        self._lower.write(f"{UPLOADS}{upload}{MARKER}", stamp())
        return upload

    def check(self, key: str, upload: str) -> None:
        """Raise BlobNotFound unless the upload goes on; its id comes from outside."""
        if not (_UPLOAD.fullmatch(upload) and upload.endswith(_digest(key))):
            raise BlobNotFound(f"no upload {upload!r}")
        try:
            self._lower.stat(f"{UPLOADS}{upload}{MARKER}")
        except BlobNotFound:
            raise BlobNotFound(f"no upload {upload!r}") from None

    def publish(self, session: Session, key: str, upload: str, number: int, draft: Draft) -> None:
        """Make a part of a finished draft; it takes the place of an earlier one."""
        while True:
            turns = [turn for other, turn, _size, _name in self._all(upload) if other == number]
            name = f"{UPLOADS}{upload}/{number:05}-{max(turns, default=0) + 1:08}-{draft.size}"
            source, length = draft.finish(key)
            try:
                session.publish(name, source, length)
                break
            except BlobExists:
                continue  # the same part is sent twice at once; the one that is later here counts
        try:
            self.check(key, upload)
        except BlobNotFound:
            with suppress(BlobNotFound):
                self._lower.delete(name)
            raise

    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        self.check(key, upload)
        return tuple(PartInfo(number, size) for number, (_turn, size, _name) in self._latest(upload))

    def names(self, key: str, upload: str) -> list[str]:
        """Return where the manifests of the parts lie; raise BlobNotFound, or SizeMismatch for a gap."""
        self.check(key, upload)
        latest = self._latest(upload)
        numbers = [number for number, _part in latest]
        if not numbers or numbers[-1] != len(numbers):
            raise SizeMismatch(f"parts {numbers}: not numbered from 1 without a gap")
        return [name for _number, (_turn, _size, name) in latest]

    def abort(self, key: str, upload: str) -> None:
        with suppress(BlobNotFound):
            self.check(key, upload)
            self._drop(upload)

    def sweep(self, before: datetime) -> int:
        """Drop uploads that got nothing since ``before``; return how many."""
        found: dict[str, list[BlobInfo]] = defaultdict(list)
        for info in self._lower.list(UPLOADS):
            found[info.key.split("/")[1]].append(info)
        swept = 0
        for upload, blobs in found.items():
            with suppress(BlobNotFound):
                if self._is_over(upload, blobs, before):
                    self._drop(upload)
                    swept += 1
        return swept

    def _is_over(self, upload: str, blobs: list[BlobInfo], before: datetime) -> bool:
        if any(info.modified is not None and info.modified >= before for info in blobs):
            return False
        try:
            return began(self._lower, self._lower.stat(f"{UPLOADS}{upload}{MARKER}")) < before
        except BlobNotFound:
            return True  # parts of one that was dropped

    def _drop(self, upload: str) -> None:
        # The marker first: who sends a part looks for it afterwards.
        with suppress(BlobNotFound):
            self._lower.delete(f"{UPLOADS}{upload}{MARKER}")
        for info in list(self._lower.list(f"{UPLOADS}{upload}/")):
            with suppress(BlobNotFound):
                self._lower.delete(info.key)

    def _all(self, upload: str) -> list[tuple[int, int, int, str]]:
        found = []
        for info in self._lower.list(f"{UPLOADS}{upload}/"):
            if part := _PART.fullmatch(info.key):
                found.append((int(part[1]), int(part[2]), int(part[3]), info.key))
        return found

    def _latest(self, upload: str) -> list[tuple[int, tuple[int, int, str]]]:
        latest: dict[int, tuple[int, int, str]] = {}
        for number, turn, size, name in sorted(self._all(upload)):
            latest[number] = (turn, size, name)
        return sorted(latest.items())


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]
