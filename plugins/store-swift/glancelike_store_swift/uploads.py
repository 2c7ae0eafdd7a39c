"""Resumable uploads: each part is an object, and becomes a segment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from glancelike.errors import BlobExists, BlobNotFound, SizeMismatch, StoreError
from glancelike.stores.base import PartInfo, Source
from glancelike_store_swift.containers import Containers
from glancelike_store_swift.intake import Intake, SourceFailed
from glancelike_store_swift.layout import CLAIMS, ID, Group, Layout, new_id, owner
from glancelike_store_swift.objects import Entry, Objects, Segment
from glancelike_store_swift.publishing import Publisher
from glancelike_store_swift.segments import Segments


class Uploads:
    """The uploads of one store.

    An upload lives as long as its marker. ``complete`` looks for it again
    after publishing, ``abort`` removes it before it looks for the blob: so
    one of the two sees the other, and no blob loses its segments.
    """

    def __init__(
        self,
        objects: Objects,
        layout: Layout,
        containers: Containers,
        segments: Segments,
        publisher: Publisher,
    ) -> None:
        self._objects = objects
        self._layout = layout
        self._containers = containers
        self._segments = segments
        self._publisher = publisher

    def begin(self, key: str) -> str:
        self._check_absent(key)
        group = self._layout.group(key, new_id())
        self._containers.ready(key)
        self._containers.hold(group.container, group.marker)
        return group.id

    def put_part(self, key: str, upload: str, number: int, source: Source, size: int) -> PartInfo:
        group = self._known(key, upload)
        intake = Intake(source, size)
        container, name = group.container, group.part(number)
        try:
            if size:
                segment = self._segments.send_one(container, name, intake, size, size)
            else:
                self._objects.put(container, name)
                segment = Segment(container, name, 0, "")
        except (SourceFailed, StoreError) as error:
            failed: BaseException = intake.error or error
        else:
            return PartInfo(number, segment.size, segment.etag)
        raise failed

    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        newest = self._newest(self._known(key, upload))
        return tuple(PartInfo(number, newest[number].size, newest[number].etag) for number in sorted(newest))

    def complete(self, key: str, upload: str) -> int:
        """Join the parts and return the blob's size."""
        group = self._known(key, upload)
        self._check_absent(key)
        newest = self._newest(group)
        if not newest or max(newest) != len(newest):
            there = ", ".join(map(str, sorted(newest))) or "none"
            raise SizeMismatch(f"parts {there}: not numbered from 1 without a gap")
        segments = [
            Segment(group.container, newest[number].name, newest[number].size, newest[number].etag)
            for number in sorted(newest)
        ]
        container = self._layout.container_of(key)
        self._publisher.publish(
            key, upload, lambda headers: self._segments.join(group, segments, container, key, headers)
        )
        if self._objects.head(group.container, group.marker) is None:
            # It was aborted meanwhile, and its parts are being deleted.
            self._objects.delete(container, key)
            raise BlobNotFound("the upload was aborted")
        self._tidy(group, frozenset(segment.name for segment in segments))
        return sum(segment.size for segment in segments)

    def _tidy(self, group: Group, used: frozenset[str]) -> None:
        """Delete the marker and the parts that were sent again; the blob is there, come what may."""
        try:
            self._objects.delete(group.container, group.marker)
            stale = [
                entry.name
                for entry in self._objects.list(group.container, group.prefix)
                if group.part_number(entry.name) is not None and entry.name not in used
            ]
            self._objects.delete_all(group.container, stale, bulk=self._segments.bulk)
        except StoreError:
            return

    def abort(self, key: str, upload: str) -> None:
        if ID.fullmatch(upload):
            self.drop(self._layout.group(key, upload))
            self._containers.forget(key)

    def drop(self, group: Group) -> bool:
        """Delete a group's objects unless they are the blob's; tell whether they were deleted."""
        self._objects.delete(group.container, group.marker)
        blob = self._objects.head(self._layout.container_of(group.key), group.key, newest=True)
        if blob is None or self._segments.upload_of(blob) != group.id:
            self._segments.remove(group)
            return True
        return False

    def _known(self, key: str, upload: str) -> Group:
        group = self._layout.group(key, upload)
        if not ID.fullmatch(upload) or self._objects.head(group.container, group.marker) is None:
            raise BlobNotFound("no such upload")
        return group

    def _check_absent(self, key: str) -> None:
        if self._objects.head(self._layout.container_of(key), key) is not None:
            raise BlobExists("the blob is there already")

    def _newest(self, group: Group) -> dict[int, Entry]:
        """Return the parts by number: of one that was sent again the newest."""
        found: dict[int, Entry] = {}
        for entry in self._objects.list(group.container, group.prefix):
            number = group.part_number(entry.name)
            if number is not None and (number not in found or found[number].modified <= entry.modified):
                found[number] = entry
        return found


def sweep(
    objects: Objects, containers: Iterable[str], before: datetime, drop: Callable[[Group], bool]
) -> int:
    """Delete claims, and groups of segments, that were begun ``before``; return how many groups.

    ``drop`` deletes a group unless it is a blob's.
    """
    swept = 0
    for container in containers:
        begun: dict[Group, datetime] = {}
        for entry in objects.list(container, "."):
            whose = owner(entry.name)
            if whose is not None:
                group = Group(container, *whose)
                begun[group] = min(entry.modified, begun.get(group, entry.modified))
            elif entry.name.startswith(CLAIMS) and entry.modified < before:
                objects.delete(container, entry.name)
        for group, since in begun.items():
            if since < before:
                swept += drop(group)
    return swept
