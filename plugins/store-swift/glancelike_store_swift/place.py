"""A part of an account in which blobs lie, each under its name there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from glancelike.errors import BlobExists, BlobNotFound, StoreError, Unsupported
from glancelike.stores.base import PartInfo, Source
from glancelike_store_swift.containers import Containers
from glancelike_store_swift.failures import Undecided
from glancelike_store_swift.intake import BLOCK, Intake, SourceFailed
from glancelike_store_swift.layout import Group, Layout, new_id
from glancelike_store_swift.objects import Cluster, Headers, Objects, Segment, require, size_of
from glancelike_store_swift.publishing import Publisher, Put
from glancelike_store_swift.reading import Download
from glancelike_store_swift.segments import Segments
from glancelike_store_swift.uploads import Uploads, sweep


class Place:
    """Blobs in the containers of one account; keys are names in it."""

    def __init__(
        self,
        objects: Objects,
        layout: Layout,
        containers: Containers,
        cluster: Cluster,
        settings: Mapping[str, Any],
    ) -> None:
        self.objects = objects
        self.layout = layout
        self.containers = containers
        self._segments = Segments(objects, cluster, settings)
        self._publisher = Publisher(objects, layout)
        self._uploads = Uploads(objects, layout, containers, self._segments, self._publisher)

    def head(self, key: str) -> Headers | None:
        return self.objects.head(self.layout.container_of(key), key)

    def read(self, key: str, offset: int, length: int | None) -> Download:
        return Download.start(self.objects.client, self.path(key), offset, length)

    def path(self, key: str) -> str:
        return f"{self.layout.container_of(key)}/{key}"

    def write(self, key: str, source: Source, size: int | None) -> int:
        """Store a source and return its size."""
        self._check_absent(key)
        group = self.layout.group(key, new_id())
        intake = Intake(source, size)
        try:
            with self.containers.held(group):
                return self._write(group, intake, size)
        except (SourceFailed, StoreError) as error:
            failed: BaseException = intake.error or error
        raise failed

    def delete(self, key: str) -> None:
        """Remove the blob, then its segments: a crash in between leaves these to ``sweep``."""
        container = self.layout.container_of(key)
        headers = require(self.objects.head(container, key))
        if not self.objects.delete(container, key):
            raise BlobNotFound("no such blob")
        upload = self._segments.upload_of(headers)
        if upload and "X-Static-Large-Object" in headers:
            self._segments.discard(self.layout.group(key, upload))
        if unquote(headers.get("X-Object-Manifest", "")) == f"{container}/{key}-":
            self._segments.discard_glances(container, key)
        self.containers.forget(key)

    def copy(self, origin: Place, source: str, key: str) -> int:
        """Copy a blob from another place, or this one, and return its size."""
        path, headers, through = self._origin(origin, source)
        self._check_absent(key)
        group = self.layout.group(key, new_id())
        with self.containers.held(group):
            self._store(group, self._segments.copy(group, path, headers, through))
        return size_of(headers)

    def begin(self, key: str) -> str:
        return self._uploads.begin(key)

    def put_part(self, key: str, upload: str, number: int, source: Source, size: int) -> PartInfo:
        return self._uploads.put_part(key, upload, number, source, size)

    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        return self._uploads.parts(key, upload)

    def complete(self, key: str, upload: str) -> int:
        return self._uploads.complete(key, upload)

    def abort(self, key: str, upload: str) -> None:
        self._uploads.abort(key, upload)

    def sweep(self, containers: Iterable[str], before: datetime) -> int:
        """Remove segments that no blob has, uploads, and claims that began ``before``."""
        return sweep(self.objects, containers, before, self._uploads.drop)

    def _write(self, group: Group, intake: Intake, size: int | None) -> int:
        if size is None or size < BLOCK:
            small = intake.small()
            if small is not None:
                # No segments: what is in memory anyway is published as it is.
                self._publisher.publish(group.key, group.id, self._put_whole(group.key, small))
                return len(small)
        return self._store(group, self._segments.send(group, intake, size))

    def _store(self, group: Group, arriving: Iterator[Segment]) -> int:
        """Gather segments and publish them; what failed for certain is deleted."""
        try:
            segments = list(arriving)
        except BaseException:
            self._segments.discard(group)
            raise
        try:
            self._publisher.publish(
                group.key,
                group.id,
                lambda headers: self._segments.join(group, segments, group.container, group.key, headers),
            )
        except Undecided:
            raise  # the object may appear yet, and needs its segments
        except StoreError:
            self._segments.discard(group)
            raise
        return sum(segment.size for segment in segments)

    def _put_whole(self, key: str, data: bytes) -> Put:
        path = self.path(key)
        return lambda headers: self.objects.client.call(
            "PUT", path, headers=headers, body=data, expect={202, 409, 412}
        )

    def _origin(self, origin: Place, key: str) -> tuple[str, Headers, dict[str, str]]:
        """Return path and headers of a blob to copy, and what makes Swift find it.

        Raises Unsupported where this store's user can't read the other's blobs.
        """
        path = origin.path(key)
        headers = require(origin.head(key))
        if origin.objects.url == self.objects.url:
            return path, headers, {}
        if _cluster_url(origin.objects.url) != _cluster_url(self.objects.url):
            raise Unsupported("the two stores are in different clusters")
        account = origin.objects.account
        if not self.objects.at(account).may_read(path):
            raise Unsupported("this store's user may not read the other store's account")
        return path, headers, {"X-Copy-From-Account": account}

    def _check_absent(self, key: str) -> None:
        if self.head(key) is not None:
            raise BlobExists("the blob is there already")


def _cluster_url(url: str) -> str:
    return url.rpartition("/")[0]
