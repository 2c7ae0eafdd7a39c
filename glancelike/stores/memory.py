"""A store in memory: for tests and trials, and as the reference to read."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from glancelike.errors import BlobExists, BlobNotFound, ConfigError, InvalidRange, SizeMismatch
from glancelike.model import utcnow
from glancelike.stores.base import BlobInfo, Cap, PartInfo, Source, Store, Usage

BLOCK = 1 << 20


@dataclass(slots=True)
class _Upload:
    key: str
    parts: dict[int, bytes] = field(default_factory=dict)
    begun: datetime = field(default_factory=utcnow)


class MemoryStore(Store):
    """Keep blobs in a dictionary; they are gone with the instance."""

    schemes = ("memory",)
    capabilities = (
        Cap.RANGE | Cap.WRITE | Cap.UNKNOWN_SIZE | Cap.DELETE | Cap.LIST | Cap.COPY | Cap.PARTS | Cap.USAGE
    )

    def __init__(self, settings: dict[str, Any] | None = None) -> None:
        super().__init__(settings or {})
        # Held only to look and to publish, never while a source is read.
        self._lock = threading.Lock()
        self._blobs: dict[str, tuple[BlobInfo, bytes]] = {}
        self._uploads: dict[str, _Upload] = {}

    @classmethod
    def settings_from_uri(cls, uri: str) -> dict[str, Any]:
        """Accept ``memory://``, which says all there is to say."""
        if uri != "memory://":
            raise ConfigError(f"{uri!r}: a memory store is written memory://")
        return {}

    def stat(self, key: str) -> BlobInfo:
        return self._blob(key)[0]

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        info, data = self._blob(key)
        if offset and offset >= info.size:
            raise InvalidRange(f"offset {offset} of {info.size} bytes")
        end = info.size if length is None else min(info.size, offset + length)
        return (data[at : min(at + BLOCK, end)] for at in range(offset, end, BLOCK))

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._check_absent(key)
        return self._publish(key, _drain(source))

    def delete(self, key: str) -> None:
        with self._lock:
            if self._blobs.pop(key, None) is None:
                raise BlobNotFound("no such blob")

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        with self._lock:
            infos = [info for info, _ in self._blobs.values()]
        return (info for info in infos if info.key.startswith(prefix))

    def copy(self, source_key: str, target_key: str, *, source: Store | None = None) -> BlobInfo:
        origin = self if source is None else source
        assert isinstance(origin, MemoryStore)  # noqa: S101 - the contract says so
        return self._publish(target_key, origin._blob(source_key)[1])

    def begin(self, key: str) -> str:
        self._check_absent(key)
        upload = uuid.uuid4().hex
        with self._lock:
            self._uploads[upload] = _Upload(key)
        return upload

    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        self._upload(key, upload)
        data = _drain(source)
        with self._lock:
            self._upload(key, upload).parts[number] = data
        return PartInfo(number, len(data))

    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        with self._lock:
            parts = sorted(self._upload(key, upload).parts.items())
        return tuple(PartInfo(number, len(data)) for number, data in parts)

    def complete(self, key: str, upload: str) -> BlobInfo:
        self._check_absent(key)
        with self._lock:
            parts = dict(self._upload(key, upload).parts)
        if not parts or max(parts) != len(parts):
            raise SizeMismatch(f"parts {sorted(parts)} aren't numbered from 1 without a gap")
        info = self._publish(key, b"".join(parts[number] for number in sorted(parts)))
        self.abort(key, upload)
        return info

    def abort(self, key: str, upload: str) -> None:
        with self._lock:
            self._uploads.pop(upload, None)

    def sweep(self, before: datetime) -> int:
        with self._lock:
            old = [upload for upload, found in self._uploads.items() if found.begun < before]
            for upload in old:
                del self._uploads[upload]
        return len(old)

    def usage(self) -> Usage:
        with self._lock:
            return Usage(sum(info.size for info, _ in self._blobs.values()))

    def _blob(self, key: str) -> tuple[BlobInfo, bytes]:
        try:
            return self._blobs[key]
        except KeyError:
            raise BlobNotFound("no such blob") from None

    def _upload(self, key: str, upload: str) -> _Upload:
        found = self._uploads.get(upload)
        if found is None or found.key != key:
            raise BlobNotFound(f"no upload {upload!r}")
        return found

    def _check_absent(self, key: str) -> None:
        if key in self._blobs:
            raise BlobExists("the blob is there already")

    def _publish(self, key: str, data: bytes) -> BlobInfo:
        info = BlobInfo(key, len(data), modified=utcnow())
        with self._lock:
            self._check_absent(key)
            self._blobs[key] = info, data
        return info


def _drain(source: Source) -> bytes:
    blocks = []
    while block := source.read(BLOCK):
        blocks.append(block)
    return b"".join(blocks)
