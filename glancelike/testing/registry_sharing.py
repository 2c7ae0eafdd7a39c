"""Conformance: members and leases."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from glancelike.errors import ImageNotFound, InvalidInput, LimitExceeded, MemberExists, MemberNotFound
from glancelike.model import Member, MemberStatus
from glancelike.registry.base import ADMIN, Registry
from glancelike.testing.registry_kit import MINE, OTHER, START, RegistryKit, image, refusal, short_terms


class MemberTests(RegistryKit):
    """Members, one caller at a time."""

    def test_members(self, registry: Registry) -> None:
        made = registry.create(image("a"))
        first = registry.add_member(Member("a", "z", created_at=START, updated_at=START))
        second = registry.add_member(Member("a", "y", created_at=START + timedelta(microseconds=1)))
        third = registry.add_member(Member("a", "x", MemberStatus.REJECTED, created_at=second.created_at))
        assert first == registry.get_member("a", "z")
        assert registry.list_members("a") == (first, third, second), "members come oldest first"
        before = datetime.now(UTC) - timedelta(seconds=5)
        changed = registry.update_member(replace(first, status=MemberStatus.ACCEPTED, created_at=before))
        assert changed == replace(first, status=MemberStatus.ACCEPTED, updated_at=changed.updated_at)
        assert changed.updated_at >= before, "update_member() must set updated_at"
        assert registry.get_member("a", "z") == changed
        registry.delete_member("a", "z")
        assert registry.list_members("a") == (third, second)
        assert registry.get("a", ADMIN) == made, "sharing doesn't change the image"

    def test_member_errors(self, registry: Registry) -> None:
        registry.create(image("a"))
        registry.add_member(Member("a", OTHER, MemberStatus.ACCEPTED))
        with refusal(MemberExists, "a second add_member()"):
            registry.add_member(Member("a", OTHER))
        assert registry.get_member("a", OTHER).status is MemberStatus.ACCEPTED
        for absent in ("missing", "nul\0", "\ud800"):
            with refusal(ImageNotFound, "add_member() to an unknown image"):
                registry.add_member(Member(absent, OTHER))
            for image_id, project in ((absent, OTHER), ("a", absent)):
                with refusal(MemberNotFound, "get_member() of an unknown one"):
                    registry.get_member(image_id, project)
                with refusal(MemberNotFound, "delete_member() of an unknown one"):
                    registry.delete_member(image_id, project)
                with refusal(MemberNotFound, "update_member() of an unknown image"):
                    registry.update_member(Member(absent, OTHER))
            assert registry.list_members(absent) == ()
        with refusal(MemberNotFound, "update_member() of an unknown one"):
            registry.update_member(Member("a", "missing"))
        for bad in ("", "x" * 256):
            with refusal(InvalidInput, "a bad member", "member"):
                registry.add_member(Member("a", bad))

    def test_member_limit(self, registry: Registry) -> None:
        registry.create(image("a"))
        with refusal(LimitExceeded, "add_member() with limit 0"):
            registry.add_member(Member("a", MINE), limit=0)
        registry.add_member(Member("a", MINE), limit=1)
        with refusal(MemberExists, "a second add_member() at the limit"):
            registry.add_member(Member("a", MINE), limit=1)
        with refusal(LimitExceeded, "add_member() at the limit"):
            registry.add_member(Member("a", OTHER), limit=1)
        registry.delete_member("a", MINE)
        registry.add_member(Member("a", OTHER), limit=1)
        registry.add_member(Member("a", MINE))
        assert len(registry.list_members("a")) == 2


class LeaseTests(RegistryKit):
    """Clause 6."""

    def test_one_holder(self, registry: Registry) -> None:
        assert registry.leased(["work", "nul\0"]) == frozenset()
        assert registry.acquire_lease("work", "me", 60)
        assert registry.acquire_lease("work", "me", 60), "a holder may take its lease again"
        assert not registry.acquire_lease("work", "you", 60), "clause 6: a held lease was given away"
        assert not registry.renew_lease("work", "you", 60)
        registry.release_lease("work", "you")
        assert registry.renew_lease("work", "me", 60), "only the holder can release a lease"
        assert registry.acquire_lease("other", "you", 60)
        assert registry.leased(["work", "other", "third"]) == {"work", "other"}
        registry.release_lease("work", "me")
        registry.release_lease("work", "me")
        assert registry.leased(["work"]) == frozenset()
        assert not registry.renew_lease("work", "me", 60), "a lease given back can't be renewed"
        assert registry.acquire_lease("work", "you", 60)

    def test_takeover(self, registry: Registry) -> None:
        assert registry.acquire_lease("work", "me", 0.2)
        assert registry.acquire_lease("long", "me", 60)
        time.sleep(0.3)
        assert registry.leased(["work", "long"]) == {"long"}, "clause 6: a lease must run out"
        assert not registry.renew_lease("work", "me", 60), "a lease that ran out can't be renewed"
        assert registry.acquire_lease("work", "you", 60), "clause 6: a lease that ran out is free"
        assert not registry.renew_lease("work", "me", 60), "clause 6: it is somebody else's now"
        registry.release_lease("work", "me")
        assert not registry.acquire_lease("work", "me", 60), "clause 6: the late holder stole it back"

    def test_renewal(self, registry: Registry) -> None:
        for seconds in short_terms():
            assert registry.acquire_lease("work", "me", seconds)
            renewed = registry.renew_lease("work", "me", 3600)
        assert renewed, "a lease that hasn't run out can be renewed"
        assert not registry.acquire_lease("work", "you", 60), "clause 6: renewing must extend the lease"

    def test_many_names(self, registry: Registry) -> None:
        names = [f"upload:{number}" for number in range(1200)]
        for name in names[::100]:
            assert registry.acquire_lease(name, "me", 60)
        assert registry.leased(iter(names)) == set(names[::100])
        assert registry.leased([]) == frozenset()

    @pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
    def test_impossible_durations(self, registry: Registry, seconds: float) -> None:
        with refusal(InvalidInput, f"a lease for {seconds} seconds"):
            registry.acquire_lease("work", "me", seconds)
        assert registry.leased(["work"]) == frozenset()
