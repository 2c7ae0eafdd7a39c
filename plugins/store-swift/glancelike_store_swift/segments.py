"""Segments: how large, how they are sent, copied and removed, and what joins them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from glancelike.errors import BlobNotFound, StoreError, StoreFault
from glancelike_store_swift.client import Answer
from glancelike_store_swift.intake import Intake
from glancelike_store_swift.layout import ID, UPLOAD_META, Group
from glancelike_store_swift.objects import Cluster, Headers, Objects, Segment, manifest, size_of
from glancelike_store_swift.options import MIB

# Unknown sizes: twice the segment size after each fifth of a manifest.
GROWTHS = 5


class Segments:
    """Segments of blobs, in one cluster."""

    def __init__(self, objects: Objects, cluster: Cluster, settings: Mapping[str, Any]) -> None:
        self._objects = objects
        self.cluster = cluster
        self._single: int = settings["swift_store_large_object_size"] * MIB
        self._chunk: int = settings["swift_store_large_object_chunk_size"] * MIB

    def sizes(self, size: int | None) -> Iterator[int]:
        """Yield the largest size of each segment in turn.

        A known size needs as few segments as one manifest has, up to
        that many of the cluster's largest objects.
        """
        most, largest = self.cluster.max_segments, self.cluster.max_file
        if size is not None:
            wanted = size if size <= self._single else max(self._chunk, -(-size // most))
            yield from itertools.repeat(min(wanted, largest))
        step = max(1, most // GROWTHS)
        for number in itertools.count():
            yield min(self._chunk << min(number // step, 40), largest)

    def send(self, group: Group, intake: Intake, size: int | None) -> Iterator[Segment]:
        """Upload all of the intake, segment by segment; nothing is held but a block."""
        left = size
        for number, most in enumerate(self.sizes(size)):
            if not intake.more():
                return
            length = None if left is None else min(most, left)
            segment = self.send_one(group.container, group.segment(number), intake, most, length)
            if left is not None:
                left -= segment.size
            yield segment

    def send_one(self, container: str, name: str, intake: Intake, most: int, length: int | None) -> Segment:
        """Upload one segment.

        It can't be repeated, the source being read once. So a request
        without data goes before, which finds an old token or a connection
        that the server has closed.
        """
        intake.more()
        self._objects.head_container(container)
        before = intake.count
        etag = self._objects.send(container, name, intake.blocks(most), length)
        return Segment(container, name, intake.count - before, etag)

    def copy(self, group: Group, source: str, headers: Headers, through: Headers) -> Iterator[Segment]:
        """Copy an object, whatever it consists of, inside the cluster, range by range.

        ``headers`` are the source's, ``through`` go along with each request.
        """
        size, at = size_of(headers), 0
        for number, most in enumerate(self.sizes(size)):
            if at >= size:
                return
            end = min(at + most, size)
            choice = {**through, "Range": f"bytes={at}-{end - 1}", "If-Match": headers["Etag"]}
            name = group.segment(number)
            answer = self._objects.copy_range(source, choice, group.container, name)
            if answer.status in (404, 412):
                raise BlobNotFound("the blob was deleted while it was copied")
            yield Segment(group.container, name, end - at, answer.headers["Etag"].strip('"'))
            at = end

    def join(
        self, group: Group, segments: Sequence[Segment], container: str, name: str, headers: dict[str, str]
    ) -> Answer:
        """Put the object that joins the segments: a manifest, or one of manifests."""
        filled = [segment for segment in segments if segment.size]
        if not filled:
            return self._objects.client.call(
                "PUT", f"{container}/{name}", headers=headers, expect={202, 409, 412}
            )
        most = self.cluster.max_segments
        number = 0
        while len(filled) > most:
            level = []
            for start in range(0, len(filled), most):
                level.append(self._submanifest(group, filled[start : start + most], number))
                number += 1
            filled = level
        return self._objects.put_manifest(container, name, manifest(filled), headers)

    def _submanifest(self, group: Group, segments: Sequence[Segment], number: int) -> Segment:
        name = group.submanifest(number)
        answer = self._objects.put_manifest(group.container, name, manifest(segments), {})
        if answer.status != 201:
            raise StoreFault(f"Swift answered {answer.status} to PUT of {name}")
        etag = answer.headers["Etag"].strip('"')
        return Segment(group.container, name, sum(segment.size for segment in segments), etag)

    def remove(self, group: Group, *, but: frozenset[str] = frozenset()) -> None:
        """Delete what lies in a group."""
        try:
            names = [entry.name for entry in self._objects.list(group.container, group.prefix)]
        except BlobNotFound:
            return  # the container is gone, and all that was in it before
        doomed = [name for name in names if name not in but]
        self._objects.delete_all(group.container, doomed, bulk=self.bulk)

    def discard_glances(self, container: str, key: str) -> None:
        """Delete the segments that Glance wrote for a blob, ``<key>-00001`` and on, as far as that works.

        No temporary URL can store the manifest that names them.
        """
        named = re.compile(rf"{re.escape(key)}-[0-9]{{5,}}")
        with suppress(StoreError):
            names = [entry.name for entry in self._objects.list(container, f"{key}-")]
            self._objects.delete_all(container, filter(named.fullmatch, names), bulk=self.bulk)

    def discard(self, group: Group) -> None:
        """Delete a failed write's segments as far as that works; ``sweep`` does the rest."""
        with suppress(StoreError):
            self.remove(group)

    @property
    def bulk(self) -> bool:
        return "bulk_delete" in self.cluster.features

    @staticmethod
    def upload_of(headers: Headers) -> str:
        """Return the id of a blob's own segments, "" of one that this driver didn't write.

        Only what is named so is ever deleted along with a blob, not what a
        manifest refers to: somebody with a temporary URL might have written that.
        """
        upload = headers.get(UPLOAD_META, "")
        return upload if ID.fullmatch(upload) else ""
