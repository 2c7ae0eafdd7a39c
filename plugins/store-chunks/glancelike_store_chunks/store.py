"""The driver: blobs as manifests and chunks in the store below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from oslo_config import cfg

from glancelike.errors import BlobExists, BlobNotFound, ConfigError, InvalidRange, Unsupported
from glancelike.stores.base import BlobInfo, Cap, PartInfo, Source, Store, Usage
from glancelike_store_chunks.chunks import CHUNKS, load, store, store_all
from glancelike_store_chunks.collector import Collector
from glancelike_store_chunks.cutting import AVERAGE, LEAST, MOST, Cutter
from glancelike_store_chunks.lower import Lower
from glancelike_store_chunks.manifest import HEAD_READ, Draft, Manifest
from glancelike_store_chunks.names import BLOBS, LONG, LONGEST, UPLOADS, manifest_name
from glancelike_store_chunks.reading import blocks
from glancelike_store_chunks.sessions import CONDEMNED, GENERATIONS, SESSIONS, WAITING, Session
from glancelike_store_chunks.uploads import Uploads

_OURS = (CHUNKS, BLOBS, LONG, UPLOADS, SESSIONS, CONDEMNED, WAITING, GENERATIONS)


class ChunkStore(Store):
    """Keep blobs in the store that ``chunk_store_over`` names, each chunk once."""

    schemes = ("chunks",)
    capabilities = (
        Cap.RANGE | Cap.WRITE | Cap.UNKNOWN_SIZE | Cap.DELETE | Cap.LIST | Cap.COPY | Cap.PARTS | Cap.USAGE
    )
    stacks_on = "chunk_store_over"
    needs_below = Cap.RANGE | Cap.WRITE | Cap.DELETE | Cap.LIST
    options = (
        cfg.StrOpt("chunk_store_over", help="Id of the store that holds the chunks."),
        cfg.StrOpt(
            "chunk_store_method",
            default="cdc",
            choices=[
                ("cdc", "cut where the content says so: also shares what has moved"),
                ("fixed", "cut every chunk_store_avg_size bytes: for raw disks, which change in place"),
            ],
            help="How images are cut into chunks. May be changed at any time.",
        ),
        cfg.IntOpt(
            "chunk_store_min_size",
            default=256 << 10,
            min=LEAST[0],
            max=LEAST[1],
            help="Bytes of the smallest chunk, but the last of an image (cdc).",
        ),
        cfg.IntOpt(
            "chunk_store_avg_size",
            default=1 << 20,
            min=AVERAGE[0],
            max=AVERAGE[1],
            help="Bytes that a chunk has behind the smallest on average (cdc), or each (fixed).",
        ),
        cfg.IntOpt(
            "chunk_store_max_size",
            default=4 << 20,
            min=MOST[0],
            max=MOST[1],
            help="Bytes of the largest chunk (cdc); a reader holds three in memory.",
        ),
        cfg.IntOpt(
            "chunk_store_threads",
            default=4,
            min=1,
            max=64,
            help="Chunks that one upload stores at a time; it holds as many in memory.",
        ),
    )

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._threads: int = self.settings["chunk_store_threads"]
        method = self.settings["chunk_store_method"]
        if method not in ("cdc", "fixed"):
            raise ConfigError(f"chunk_store_method = {method!r}: it must be cdc or fixed")
        self._cutter = Cutter(
            method,
            *(int(self.settings[f"chunk_store_{which}_size"]) for which in ("min", "avg", "max")),
        )

    @classmethod
    def settings_from_uri(cls, uri: str) -> dict[str, Any]:
        """Turn ``chunks://files?method=fixed`` into settings: the store below, then options."""
        parts = urlsplit(uri)
        if not parts.netloc or parts.path or parts.fragment:
            raise ConfigError(f"{uri!r}: a chunk store is written chunks://, then another store's id")
        given: dict[str, Any] = {"chunk_store_over": parts.netloc}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            option = f"chunk_store_{name}"
            try:
                given[option] = value if name == "method" else int(value)
            except ValueError:
                raise ConfigError(f"{uri!r}: {name} isn't a number") from None
        return given

    def open(self) -> None:
        if getattr(self, "below", None) is None:
            raise ConfigError("chunk_store_over: a chunk store works only on another store")
        self._lower = Lower(self.below)
        self._uploads = Uploads(self._lower)
        # What the store below lacks must show now, not at the first upload.
        for _info in self._lower.list(SESSIONS):
            break

    def public_properties(self) -> Mapping[str, Any]:
        return {"over": self.settings["chunk_store_over"], "method": self.settings["chunk_store_method"]}

    def stat(self, key: str) -> BlobInfo:
        manifest = self._manifest(key)
        try:
            info = self._lower.stat(manifest.name)
        except BlobNotFound:
            raise BlobNotFound("no such blob") from None
        return BlobInfo(key, manifest.size, modified=info.modified)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        manifest = self._manifest(key)
        if offset and offset >= manifest.size:
            raise InvalidRange(f"offset {offset} of {manifest.size} bytes")
        end = manifest.size if length is None else min(manifest.size, offset + length)
        return blocks(self._lower, manifest, offset, end)

    def write(self, key: str, source: Source, *, size: int | None) -> BlobInfo:
        self._check_absent(key)
        with Session(self._lower) as session, Draft() as draft:
            store_all(self._lower, session, self._cutter.cut(source), draft.add, self._threads)
            return self._publish(session, key, draft)

    def delete(self, key: str) -> None:
        """Remove the manifest; ``sweep`` removes the chunks that nothing else lists."""
        try:
            self._lower.delete(manifest_name(key))
        except BlobNotFound:
            raise BlobNotFound("no such blob") from None

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        if len(BLOBS + prefix) <= LONGEST:
            yield from self._listed(BLOBS + prefix, prefix)
        yield from self._listed(LONG, prefix)

    def copy(self, source_key: str, target_key: str, *, source: Store | None = None) -> BlobInfo:
        if source is not None:
            raise Unsupported("a copy between two chunk stores has to be written")
        self._manifest(source_key)
        self._check_absent(target_key)
        with Session(self._lower) as session, Draft() as draft:
            # Once more: what the manifest lists is safe only if it's there after the session is.
            self._relist(session, draft, self._manifest(source_key))
            return self._publish(session, target_key, draft)

    def begin(self, key: str) -> str:
        self._check_absent(key)
        return self._uploads.begin(key)

    def put_part(self, key: str, upload: str, number: int, source: Source, *, size: int) -> PartInfo:
        self._uploads.check(key, upload)
        with Session(self._lower) as session, Draft() as draft:
            store_all(self._lower, session, self._cutter.cut(source), draft.add, self._threads)
            self._uploads.publish(session, key, upload, number, draft)
            return PartInfo(number, draft.size)

    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        return self._uploads.parts(key, upload)

    def complete(self, key: str, upload: str) -> BlobInfo:
        self._check_absent(key)
        with Session(self._lower) as session, Draft() as draft:
            for name in self._uploads.names(key, upload):
                self._relist(session, draft, Manifest(self._lower, name))
            info = self._publish(session, key, draft)
        with suppress(Exception):  # the blob is there, whatever becomes of the parts
            self._uploads.abort(key, upload)
        return info

    def abort(self, key: str, upload: str) -> None:
        self._uploads.abort(key, upload)

    def sweep(self, before: datetime) -> int:
        collector = Collector(self._lower)
        return self._uploads.sweep(before) + collector.end_sessions(before) + collector.collect(before)

    def usage(self) -> Usage:
        """Tell what all blobs take up below, and how large they are to their readers."""
        used = sum(info.size for prefix in _OURS for info in self._lower.list(prefix))
        return Usage(used, self._lower.free(), sum(info.size for info in self.list()))

    def _manifest(self, key: str) -> Manifest:
        try:
            return Manifest(self._lower, manifest_name(key))
        except BlobNotFound:
            raise BlobNotFound("no such blob") from None

    def _check_absent(self, key: str) -> None:
        with suppress(BlobNotFound):
            self._lower.stat(manifest_name(key))
            raise BlobExists("the blob is there already")

    def _publish(self, session: Session, key: str, draft: Draft) -> BlobInfo:
        source, length = draft.finish(key)
        try:
            session.publish(manifest_name(key), source, length)
        except BlobExists:
            raise BlobExists("the blob is there already") from None
        return BlobInfo(key, draft.size)

    def _relist(self, session: Session, draft: Draft, manifest: Manifest) -> None:
        """Add what a manifest lists to a draft; store anew what is condemned."""
        for start, end, chunk in manifest.pieces(0, manifest.size):
            if chunk.packed() in session.condemned:
                chunk = store(self._lower, session, load(self._lower, chunk, end - start))
            draft.add(chunk, end - start)

    def _listed(self, below: str, prefix: str) -> Iterator[BlobInfo]:
        for info in self._lower.list(below):
            with suppress(BlobNotFound):  # deleted meanwhile
                manifest = Manifest(self._lower, info.key, first_read=HEAD_READ)
                if manifest.key.startswith(prefix):
                    yield BlobInfo(manifest.key, manifest.size, modified=info.modified)
