"""Conformance: staged data, pending deletes, caches, purging."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

from glancelike.errors import ImageExists, ImageNotFound, InvalidInput, InvalidMarker, QuotaExceeded
from glancelike.model import (
    Amounts,
    CachedImage,
    Filter,
    Location,
    Op,
    Query,
    Status,
    TaskStatus,
    Viewer,
    Visibility,
    utcnow,
)
from glancelike.registry.base import ADMIN, Registry
from glancelike.registry.parts import Purged
from glancelike.testing.registry_kit import (
    EVERYTHING,
    MINE,
    START,
    RegistryKit,
    full_image,
    ids,
    image,
    refusal,
)
from glancelike.testing.registry_tasks import task

PENDING = Viewer(admin=True, pending=True)


class UpkeepTests(RegistryKit):
    """Staged data, ``Viewer.pending``, ``CacheRecords`` and ``Upkeep``."""

    def test_staged_data(self, registry: Registry) -> None:
        staged = Location("staging", "key-0", {"é": "🦊"})
        made = registry.create(replace(full_image(), staged=staged))
        assert registry.get("full", ADMIN) == made
        assert made.staged == staged
        assert registry.list(EVERYTHING, ADMIN).images == (made,)
        places = registry.locations_of(["full"])["full"]
        assert set(places) == {("staging", "key-0"), ("fast", "key-2"), ("slow", "key-1")}
        only = registry.update(replace(made, locations=()), expect=1)
        assert registry.get("full", ADMIN) == only
        done = registry.update(replace(only, staged=None, locations=made.locations), expect=2)
        assert registry.get("full", ADMIN) == done
        assert len(registry.locations_of(["full"])["full"]) == 2

    def test_pending_deletes_are_not_seen(self, registry: Registry) -> None:
        for id_, hidden in (("a", False), ("b", True), ("going", False), ("gone hidden", True)):
            registry.create(
                image(id_, hidden=hidden, visibility=Visibility.PUBLIC, locations=(Location("s", "k"),))
            )
        for id_ in ("going", "gone hidden"):
            found = registry.get(id_, ADMIN)
            registry.update(replace(found, status=Status.PENDING_DELETE), expect=1)
        for viewer in (ADMIN, Viewer(MINE), Viewer()):
            assert sorted(ids(registry, EVERYTHING, viewer)) == ["a", "b"]
            for id_ in ("going", "gone hidden"):
                with refusal(ImageNotFound, "get() of a pending delete", repr(id_)):
                    registry.get(id_, viewer)
                with refusal(InvalidMarker, "a pending delete as marker"):
                    registry.list(replace(EVERYTHING, marker=id_), viewer)
                assert registry.get(id_, replace(viewer, pending=True)).status is Status.PENDING_DELETE
        assert sorted(ids(registry, EVERYTHING, PENDING)) == ["a", "b", "going", "gone hidden"]
        assert sorted(ids(registry, replace(EVERYTHING, hidden=False), PENDING)) == ["a", "going"]
        assert sorted(ids(registry, replace(EVERYTHING, hidden=True), PENDING)) == ["b", "gone hidden"]
        status = Filter("status", Op.EQ, Status.PENDING_DELETE)
        for filters in ((status,), (status, Filter("id", Op.NEQ, "x"))):
            assert len(ids(registry, replace(EVERYTHING, filters=filters, limit=1), PENDING)) == 2
            assert ids(registry, replace(EVERYTHING, filters=filters), ADMIN) == []
        assert set(registry.locations_of(["going", "a"])) == {"going", "a"}, "its data is still to be deleted"

    def test_pending_deletes_come_back_or_go(self, registry: Registry) -> None:
        made = registry.create(image("a", hidden=True))
        pending = registry.update(replace(made, status=Status.PENDING_DELETE), expect=1)
        assert pending.hidden
        restored = registry.update(replace(pending, status=Status.ACTIVE), expect=2)
        assert registry.get("a", ADMIN) == restored
        assert restored.hidden, "hidden must survive a delete that was taken back"
        registry.update(replace(restored, status=Status.PENDING_DELETE), expect=3)
        registry.delete("a", expect=4)
        with refusal(ImageNotFound, "get() of a deleted image"):
            registry.get("a", PENDING)
        assert ids(registry, Query(), PENDING) == []

    def test_cached_images(self, registry: Registry) -> None:
        for node, image_id in (("n2", "a"), ("n1", "a"), ("N1", "a"), ("n1", "b")):
            registry.put_cached(CachedImage(node, image_id, size=1))
        registry.put_cached(CachedImage("n1", "a", size=2, hits=5, last_accessed=START, last_modified=START))
        assert registry.cached_nodes("a") == ("N1", "n1", "n2")
        assert registry.cached_nodes("none") == registry.cached_nodes("nul\0") == ()
        registry.delete_cached("n1", iter(["a", "none", "nul\0", *(f"x{n}" for n in range(1200))]))
        registry.delete_cached("nowhere", ["a"])
        registry.delete_cached("n2", [])
        assert registry.cached_nodes("a") == ("N1", "n2")
        assert registry.cached_nodes("b") == ("n1",)
        for bad in (CachedImage("", "a", 1), CachedImage("n", "a", -1), CachedImage("n", "a", 1, hits=-1)):
            with refusal(InvalidInput, f"{bad}"):
                registry.put_cached(bad)

    def test_purge_images(self, registry: Registry) -> None:
        for number in range(5):
            registry.create(replace(full_image(f"{number}"), owner=MINE))
        for number in range(4):
            registry.delete(f"{number}", expect=1)
        assert registry.purge(utcnow() - timedelta(days=1)) == Purged(), "younger ones must stay"
        counts = [registry.purge(utcnow() + timedelta(hours=1), limit=3).images for _ in range(3)]
        assert counts == [3, 1, 0]
        assert ids(registry) == ["4"]
        assert registry.get("4", ADMIN).name == "Everything"
        for number in range(5):
            with refusal(ImageExists, "clause 4: a purged image's id stays taken"):
                registry.create(image(f"{number}"))
        with refusal(ImageNotFound, "get() of a purged image"):
            registry.get("0", PENDING)

    def test_purge_what_has_run_out(self, registry: Registry) -> None:
        past = utcnow() - timedelta(hours=1)
        registry.create_task(task("old", status=TaskStatus.SUCCESS, expires_at=past))
        registry.create_task(task("open", expires_at=past))
        for number in range(3):
            registry.acquire_lease(f"old{number}", "me", 0.1)
            registry.reserve(f"old{number}", MINE, Amounts(images=1), {}, 0.1)
        registry.acquire_lease("held", "me", 60)
        registry.reserve("held", MINE, Amounts(images=1), {}, 60)
        time.sleep(0.2)
        assert registry.purge(past, limit=2) == Purged(tasks=1, leases=2, reservations=2)
        assert registry.purge(past, limit=2) == Purged(leases=1, reservations=1)
        assert registry.purge(past) == Purged()
        assert registry.leased(["held", "old0"]) == {"held"}
        assert registry.get_task("open").status is TaskStatus.PENDING
        with refusal(QuotaExceeded, "a live reservation counts after a purge"):
            registry.reserve("new", MINE, Amounts(images=1), {"images": 1}, 60)
