"""The registry kit catches backends that break the contract."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from glancelike.errors import StaleImage
from glancelike.model import (
    Amounts,
    Image,
    Member,
    Page,
    Query,
    Task,
    Upload,
    Viewer,
    Visibility,
    utcnow,
)
from glancelike.registry.base import ADMIN, Registry
from glancelike.registry.memory import MemoryRegistry
from glancelike.registry.parts import Purged
from glancelike.testing import RegistryConformance


class LosesUpdates(MemoryRegistry):
    """Compare first, set later."""

    def update(self, image: Image, *, expect: int, settles: str | None = None) -> Image:
        if self.get(image.id, ADMIN).version != expect:
            raise StaleImage(image.id)
        time.sleep(0.02)
        return super().update(image, expect=self.get(image.id, ADMIN).version, settles=settles)


class IgnoresVersionOnDelete(MemoryRegistry):
    def delete(self, image_id: str, *, expect: int) -> None:
        super().delete(image_id, expect=self.get(image_id, ADMIN).version)


class UsesIdsAgain(MemoryRegistry):
    def delete(self, image_id: str, *, expect: int) -> None:
        super().delete(image_id, expect=expect)
        self._used.discard(image_id)


class SkipsTies(MemoryRegistry):
    """Page by the sort value alone, as if no two were equal."""

    def list(self, query: Query, viewer: Viewer) -> Page:
        everything = super().list(replace(query, marker=None, limit=10**6), viewer).images
        if query.marker is not None:
            field = query.sort[0].field
            marker = super().list(query, viewer) and getattr(self.get(query.marker, viewer), field)
            places = [n for n, image in enumerate(everything) if getattr(image, field) == marker]
            everything = everything[max(places, default=-1) + 1 :]
        page = everything[: query.limit]
        return Page(page, page[-1].id if len(everything) > len(page) > 0 else None)


class PagesByNumber(MemoryRegistry):
    """Take the marker for a position, which moves when images come and go."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[str | None, int] = {None: 0}

    def list(self, query: Query, viewer: Viewer) -> Page:
        super().list(query, viewer)
        start = self._places.get(query.marker, 0)
        everything = super().list(replace(query, marker=None, limit=10**6), viewer).images
        page = everything[start : start + query.limit]
        if not page or start + len(page) == len(everything):
            return Page(page)
        self._places[page[-1].id] = start + len(page)
        return Page(page, page[-1].id)


class FiltersAfterPaging(MemoryRegistry):
    """Cut the page first and drop what the viewer may not see from it."""

    def list(self, query: Query, viewer: Viewer) -> Page:
        page = super().list(replace(query, visibility="all"), ADMIN)
        seen = {image.id for image in super().list(replace(query, marker=None, limit=10**6), viewer).images}
        return Page(tuple(image for image in page.images if image.id in seen), page.next_marker)


class ShowsCommunity(MemoryRegistry):
    def list(self, query: Query, viewer: Viewer) -> Page:
        return super().list(replace(query, visibility=query.visibility or "all"), viewer)


class ShowsAnyMarker(MemoryRegistry):
    """Tell strangers which ids exist."""

    def list(self, query: Query, viewer: Viewer) -> Page:
        if query.marker in self._images and not self._visible(self._images[query.marker], viewer):
            return Page(())
        return super().list(query, viewer)


class SharesPrivateImages(MemoryRegistry):
    def _visible(self, image: Image, viewer: Viewer) -> bool:
        return super()._visible(image, viewer) or viewer.project in self._members[image.id]


class FoldsCase(MemoryRegistry):
    """Compare as careless collations do."""

    def create(self, image: Image, *, settles: str | None = None) -> Image:
        return super().create(replace(image, tags=frozenset(tag.casefold() for tag in image.tags)))


class KeepsMilliseconds(MemoryRegistry):
    def create(self, image: Image, *, settles: str | None = None) -> Image:
        at = image.created_at
        return super().create(
            replace(image, created_at=at.replace(microsecond=at.microsecond // 1000 * 1000))
        )


class KeepsOldTags(MemoryRegistry):
    def update(self, image: Image, *, expect: int, settles: str | None = None) -> Image:
        return super().update(replace(image, tags=image.tags | self._images[image.id].tags), expect=expect)


class MiscountsMembers(MemoryRegistry):
    """Count first, add later."""

    def add_member(self, member: Member, *, limit: int = -1) -> Member:
        if limit >= 0 and len(self.list_members(member.image_id)) < limit:
            time.sleep(0.02)
            limit = -1
        return super().add_member(member, limit=limit)


class StealsLeases(MemoryRegistry):
    def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        self._leases.pop(name, None)
        return super().acquire_lease(name, holder, seconds)


class HoldsLeasesForEver(MemoryRegistry):
    def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        return super().acquire_lease(name, holder, seconds * 1000)


class RevivesLeases(MemoryRegistry):
    """Renew without looking at whether the lease has run out."""

    def renew_lease(self, name: str, holder: str, seconds: float) -> bool:
        if name not in self._leases or self._leases[name][0] != holder:
            return False
        return super().acquire_lease(name, holder, seconds)


class HandsOutItsOwn(MemoryRegistry):
    def get(self, image_id: str, viewer: Viewer) -> Image:
        super().get(image_id, viewer)
        return self._images[image_id]


class IsFalsy(MemoryRegistry):
    def __len__(self) -> int:
        return len(self._images)


class WritesInSteps(MemoryRegistry):
    """Let others look between two halves of an update."""

    def update(self, image: Image, *, expect: int, settles: str | None = None) -> Image:
        new = super().update(image, expect=expect)
        self._images[image.id] = replace(new, tags=frozenset())
        time.sleep(0.002)
        self._images[image.id] = new
        return new


class ForgetsMembersOnly(MemoryRegistry):
    """Leave locations of deleted images to be found."""

    def locations_of(self, image_ids: Iterable[str]) -> dict[str, tuple[tuple[str, str], ...]]:
        asked = [image_id for image_id in image_ids if image_id in self._used]
        return {**dict.fromkeys(asked, ()), **super().locations_of(asked)}


class CountsFirst(MemoryRegistry):
    """Look at the quota first, reserve later."""

    def reserve(
        self, name: str, project: str, amounts: Amounts, limits: Mapping[str, int], seconds: float
    ) -> None:
        super().reserve(name, project, amounts, limits, seconds)
        self.release_reservation(name)
        time.sleep(0.02)
        super().reserve(name, project, amounts, {}, seconds)


class SettlesEarly(MemoryRegistry):
    def update(self, image: Image, *, expect: int, settles: str | None = None) -> Image:
        self.release_reservation(settles or "")
        return super().update(image, expect=expect)


class NeverSettles(MemoryRegistry):
    def create(self, image: Image, *, settles: str | None = None) -> Image:
        return super().create(image)

    def update(self, image: Image, *, expect: int, settles: str | None = None) -> Image:
        return super().update(image, expect=expect)


class KeepsReservations(MemoryRegistry):
    """Count what the dead have reserved for ever."""

    def reserve(
        self, name: str, project: str, amounts: Amounts, limits: Mapping[str, int], seconds: float
    ) -> None:
        super().reserve(name, project, amounts, limits, seconds * 1000)


class RunsTasksTwice(MemoryRegistry):
    def _held(self, lease: str) -> bool:
        return not lease.startswith("task:") and super()._held(lease)


class LosesTaskUpdates(MemoryRegistry):
    def update_task(self, task: Task, *, expect: int) -> Task:
        return super().update_task(task, expect=self.get_task(task.id).version)


class ShowsPendingDeletes(MemoryRegistry):
    def _visible(self, image: Image, viewer: Viewer) -> bool:
        return super()._visible(image, replace(viewer, pending=True))


class LosesUploadUpdates(MemoryRegistry):
    """Let a writer that was taken over go on."""

    def update_upload(self, upload: Upload, *, expect: int) -> Upload:
        return super().update_upload(upload, expect=self.get_upload(upload.id).version)


class KeepsUploads(MemoryRegistry):
    """Delete an image, and keep what was being sent to it."""

    def delete(self, image_id: str, *, expect: int) -> None:
        kept = dict(self._uploads)
        super().delete(image_id, expect=expect)
        self._uploads.update(kept)


class ExpiresAtTheEnd(MemoryRegistry):
    """Let an upload be dropped while its bytes become the image's data."""

    def expired_uploads(self, limit: int) -> tuple[Upload, ...]:
        found = [each for each in self._uploads.values() if each.expires_at <= utcnow()]
        return tuple(sorted(found, key=lambda each: each.expires_at))[:limit]


class ForgetsTombstones(MemoryRegistry):
    """Purge all there is of an image."""

    def purge(self, before: datetime, *, limit: int = 1000) -> Purged:
        for image_id, at in self._tombstones.items():
            if at < before:
                self._used.discard(image_id)
        return super().purge(before, limit=limit)


class HidesStagedData(MemoryRegistry):
    """Let garbage collection take what waits for its import."""

    def locations_of(self, image_ids: Iterable[str]) -> dict[str, tuple[tuple[str, str], ...]]:
        found = super().locations_of(list(image_ids))
        return {
            image_id: tuple((place.store, place.key) for place in self._images[image_id].locations)
            for image_id in found
        }


Test = Callable[[RegistryConformance, Registry], None]
Kit = RegistryConformance


def _pages_while_changing(kit: Kit, registry: Registry) -> None:
    kit.test_paging_while_images_come_and_go(registry, "created_at", descending=True)


CAUGHT: tuple[tuple[Callable[[], Registry], Any], ...] = (
    (LosesUpdates, Kit.test_racing_updates),
    (IgnoresVersionOnDelete, Kit.test_delete),
    (UsesIdsAgain, Kit.test_an_id_is_never_used_again),
    (SkipsTies, lambda kit, registry: kit.test_every_sort(registry, 5)),
    (
        PagesByNumber,
        _pages_while_changing,
    ),
    (FiltersAfterPaging, Kit.test_a_page_is_full),
    (ShowsCommunity, Kit.test_what_a_viewer_lists),
    (ShowsAnyMarker, Kit.test_markers),
    (SharesPrivateImages, lambda kit, registry: kit.test_who_may_see_what(registry, Visibility.PRIVATE)),
    (FoldsCase, lambda kit, registry: kit.test_lookalikes(registry, "name", "Name")),
    (KeepsMilliseconds, Kit.test_times),
    (KeepsOldTags, Kit.test_update_replaces_everything),
    (MiscountsMembers, Kit.test_racing_members),
    (StealsLeases, Kit.test_racing_leases),
    (HoldsLeasesForEver, Kit.test_takeover),
    (RevivesLeases, Kit.test_takeover),
    (HandsOutItsOwn, Kit.test_values_are_copies),
    (IsFalsy, Kit.test_is_never_falsy),
    (WritesInSteps, Kit.test_readers_see_whole_images),
    (ForgetsMembersOnly, Kit.test_delete),
    (CountsFirst, Kit.test_racing_reservations),
    (CountsFirst, Kit.test_racing_creates_within_a_quota),
    (SettlesEarly, Kit.test_records_settle_reservations),
    (NeverSettles, Kit.test_records_settle_reservations),
    (NeverSettles, Kit.test_racing_creates_within_a_quota),
    (KeepsReservations, Kit.test_a_reservation_runs_out),
    (RunsTasksTwice, Kit.test_runnable_tasks),
    (LosesTaskUpdates, Kit.test_update_task),
    (ShowsPendingDeletes, Kit.test_pending_deletes_are_not_seen),
    (LosesUploadUpdates, Kit.test_update_upload),
    (KeepsUploads, Kit.test_uploads_go_with_their_image),
    (ExpiresAtTheEnd, Kit.test_uploads_are_found),
    (ForgetsTombstones, Kit.test_purge_images),
    (HidesStagedData, Kit.test_staged_data),
)


@pytest.mark.parametrize(("broken", "test"), CAUGHT, ids=lambda each: each.__name__)
def test_catches(broken: Callable[[], Registry], test: Test) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(Kit(), broken())


@pytest.mark.parametrize("test", [test for _, test in CAUGHT])
def test_lets_a_sound_one_pass(test: Test) -> None:
    test(Kit(), MemoryRegistry())


def test_without_make_registry() -> None:
    with pytest.raises(pytest.fail.Exception, match="make_registry"):
        Kit().make_registry()
