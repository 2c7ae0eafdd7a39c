"""The memory registry: the reference that the contract is read against."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from glancelike.errors import (
    ImageExists,
    ImageNotFound,
    InvalidMarker,
    LimitExceeded,
    MemberExists,
    MemberNotFound,
    StaleImage,
)
from glancelike.model import (
    Filter,
    Image,
    Location,
    Member,
    MemberStatus,
    Op,
    Page,
    Query,
    Status,
    Viewer,
    Visibility,
    utcnow,
)
from glancelike.registry import values
from glancelike.registry.base import Registry
from glancelike.registry.memory.cached import CachedMemory
from glancelike.registry.memory.metadefs import MetadefMemory
from glancelike.registry.memory.order import in_order
from glancelike.registry.memory.quotas import QuotaMemory
from glancelike.registry.memory.tasks import TaskMemory
from glancelike.registry.memory.upkeep import UpkeepMemory
from glancelike.registry.memory.uploads import UploadMemory

COMPARE: Mapping[Op, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        Op.EQ: operator.eq,
        Op.NEQ: operator.ne,
        Op.GT: operator.gt,
        Op.GTE: operator.ge,
        Op.LT: operator.lt,
        Op.LTE: operator.le,
        Op.IN: lambda found, wanted: found in wanted,
    }
)


class MemoryRegistry(
    TaskMemory, UploadMemory, QuotaMemory, CachedMemory, MetadefMemory, UpkeepMemory, Registry
):
    """Keep everything in this process until it ends; for tests and scripts."""

    schemes = ("memory",)

    @classmethod
    def settings_from_uri(cls, uri: str) -> dict[str, Any]:
        return {}

    def create(self, image: Image, *, settles: str | None = None) -> Image:
        image = replace(values.checked_image(image), version=1)
        with self._lock:
            if image.id in self._used:
                raise ImageExists(f"image {image.id} exists or existed")
            self._settle(settles)
            self._used.add(image.id)
            self._images[image.id] = image
            self._members[image.id] = {}
        return _copy(image)

    def get(self, image_id: str, viewer: Viewer) -> Image:
        with self._lock:
            image = self._images.get(image_id)
            if image is None or not self._visible(image, viewer):
                raise ImageNotFound(f"image {image_id!r} not found")
            return _copy(image)

    def list(self, query: Query, viewer: Viewer) -> Page:
        query = values.checked_query(query)
        with self._lock:
            images = [image for image in self._images.values() if self._listed(image, query, viewer)]
            marker = None if query.marker is None else self._images.get(query.marker)
            if query.marker is not None and (marker is None or not self._visible(marker, viewer)):
                raise InvalidMarker(f"marker {query.marker!r} not found")
        images = in_order(images, query.sort, marker)
        page = images[: query.limit]
        return Page(
            tuple(_copy(image) for image in page), page[-1].id if page and len(images) > len(page) else None
        )

    def update(self, image: Image, *, expect: int, settles: str | None = None) -> Image:
        image = values.checked_image(image)
        with self._lock:
            found = self._expect(image.id, expect)
            image = replace(image, created_at=found.created_at, updated_at=utcnow(), version=expect + 1)
            self._settle(settles)
            self._images[image.id] = image
        return _copy(image)

    def delete(self, image_id: str, *, expect: int) -> None:
        with self._lock:
            self._expect(image_id, expect)
            del self._images[image_id], self._members[image_id]
            self._tombstones[image_id] = utcnow()
            for upload in [each for each in self._uploads.values() if each.image_id == image_id]:
                del self._uploads[upload.id]

    def locations_of(self, image_ids: Iterable[str]) -> dict[str, tuple[tuple[str, str], ...]]:
        with self._lock:
            return {
                image_id: tuple((place.store, place.key) for place in _places(self._images[image_id]))
                for image_id in image_ids
                if image_id in self._images
            }

    def add_member(self, member: Member, *, limit: int = -1) -> Member:
        member = values.checked_member(member)
        with self._lock:
            members = self._members.get(member.image_id)
            if members is None:
                raise ImageNotFound(f"image {member.image_id!r} not found")
            if member.project in members:
                raise MemberExists(f"image {member.image_id} is shared with {member.project} already")
            if 0 <= limit <= len(members):
                raise LimitExceeded(f"image {member.image_id} can't have more than {limit} members")
            members[member.project] = member
        return member

    def get_member(self, image_id: str, project: str) -> Member:
        with self._lock:
            member = self._members.get(image_id, {}).get(project)
        if member is None:
            raise MemberNotFound(f"image {image_id!r} has no member {project!r}")
        return member

    def list_members(self, image_id: str) -> tuple[Member, ...]:
        with self._lock:
            members = self._members.get(image_id, {}).values()
            return tuple(sorted(members, key=lambda member: (member.created_at, member.project)))

    def update_member(self, member: Member) -> Member:
        member = values.checked_member(member)
        with self._lock:
            found = self.get_member(member.image_id, member.project)
            member = replace(found, status=member.status, updated_at=utcnow())
            self._members[member.image_id][member.project] = member
        return member

    def delete_member(self, image_id: str, project: str) -> None:
        with self._lock:
            self.get_member(image_id, project)
            del self._members[image_id][project]

    def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        values.check_lease(name, holder, seconds)
        with self._lock:
            if self._held(name) and self._leases[name][0] != holder:
                return False
            self._leases[name] = (holder, time.monotonic() + seconds)
        return True

    def renew_lease(self, name: str, holder: str, seconds: float) -> bool:
        values.check_lease(name, holder, seconds)
        with self._lock:
            if not self._held(name) or self._leases[name][0] != holder:
                return False
            self._leases[name] = (holder, time.monotonic() + seconds)
        return True

    def release_lease(self, name: str, holder: str) -> None:
        values.check_lease(name, holder)
        with self._lock:
            if name in self._leases and self._leases[name][0] == holder:
                del self._leases[name]

    def leased(self, names: Iterable[str]) -> frozenset[str]:
        with self._lock:
            return frozenset(name for name in names if self._held(name))

    def _settle(self, reservation: str | None) -> None:
        """Drop a reservation, if any; raise LeaseLost when it has run out."""
        if reservation is not None:
            held = self._reservations.get(reservation)
            if held is None or held.until <= time.monotonic():
                raise values.run_out(reservation)
            del self._reservations[reservation]

    def _expect(self, image_id: str, version: int) -> Image:
        found = self._images.get(image_id)
        if found is None:
            raise ImageNotFound(f"image {image_id!r} not found")
        if found.version != version:
            raise StaleImage(f"image {image_id} is at version {found.version}, not {version}")
        return found

    def _shared(self, image: Image, viewer: Viewer, status: MemberStatus | str = "all") -> bool:
        if image.visibility is not Visibility.SHARED or viewer.project is None:
            return False
        member = self._members[image.id].get(viewer.project)
        return member is not None and status in ("all", member.status)

    def _visible(self, image: Image, viewer: Viewer) -> bool:
        if image.status is Status.PENDING_DELETE and not viewer.pending:
            return False
        return (
            viewer.admin
            or image.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY)
            or _owns(viewer, image)
            or self._shared(image, viewer)
        )

    def _listed(self, image: Image, query: Query, viewer: Viewer) -> bool:
        if query.visibility is None:
            wanted = image.visibility is not Visibility.COMMUNITY or _owns(viewer, image)
        else:
            wanted = query.visibility in ("all", image.visibility)
        return (
            wanted
            and query.hidden in (None, image.hidden)
            and self._visible(image, viewer)
            and (
                viewer.admin
                or image.visibility is not Visibility.SHARED
                or _owns(viewer, image)
                or self._shared(image, viewer, query.member_status)
            )
            and query.tags <= image.tags
            and all(_matches(image, condition) for condition in query.filters)
        )


def _places(image: Image) -> tuple[Location, ...]:
    return image.locations if image.staged is None else (image.staged, *image.locations)


def _copy(image: Image) -> Image:
    """Keep the caller's hands off the dictionaries in here."""
    places = tuple(values.checked_location(place) for place in image.locations)
    staged = None if image.staged is None else values.checked_location(image.staged)
    return replace(image, properties=dict(image.properties), locations=places, staged=staged)


def _owns(viewer: Viewer, image: Image) -> bool:
    return viewer.project is not None and image.owner == viewer.project


def _matches(image: Image, condition: Filter) -> bool:
    if condition.is_property:
        found = image.properties.get(condition.field)
    else:
        found = getattr(image, condition.field)
    return found is not None and bool(COMPARE[condition.op](found, condition.value))
