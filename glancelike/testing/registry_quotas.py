"""Conformance: quotas that no race overshoots."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from glancelike.errors import ImageExists, InvalidInput, LeaseLost, QuotaExceeded, StaleImage
from glancelike.model import Amounts, Location, Status
from glancelike.registry.base import Registry
from glancelike.testing.registry_child import Child, take, together
from glancelike.testing.registry_kit import MINE, OTHER, RegistryKit, image, kinds, race, refusal, short_terms

WIDTH = 8
HOUR = 3600.0
PLACES = (Location("fast", "k"), Location("slow", "k"))


class QuotaTests(RegistryKit):
    """``QuotaRecords``."""

    def test_usage(self, registry: Registry) -> None:
        assert registry.usage(MINE) == registry.usage("nul\0") == Amounts()
        registry.create(image("queued"))
        registry.create(image("saving", status=Status.SAVING, size=7))
        registry.create(image("two", status=Status.ACTIVE, size=10, locations=PLACES, hidden=True))
        registry.create(image("one", status=Status.DEACTIVATED, size=100, locations=PLACES[:1]))
        staged = Location("staging", "s")
        registry.create(image("staged", status=Status.UPLOADING, size=1000, staged=staged))
        registry.create(
            image("copying", status=Status.IMPORTING, size=5, locations=PLACES[:1], staged=staged)
        )
        registry.create(image("other", owner=OTHER, size=1, locations=PLACES))
        registry.create(image("nobody's", owner=None, size=1, locations=PLACES))
        gone = registry.create(image("gone", size=1, locations=PLACES))
        registry.delete(gone.id, expect=1)
        registry.create(image("going", status=Status.PENDING_DELETE, size=1, locations=PLACES))
        assert registry.usage(MINE) == Amounts(total=125, staged=1005, images=6, uploading=3)
        assert registry.usage(OTHER) == Amounts(total=2, images=1)

    def test_limits(self, registry: Registry) -> None:
        registry.create(image("a", size=10, status=Status.ACTIVE, locations=PLACES))
        limits = {"total": 100, "images": 3, "uploading": -1}
        registry.reserve("r1", MINE, Amounts(total=50, uploading=10**6), limits, HOUR)
        with refusal(QuotaExceeded, "more than the limit", MINE):
            registry.reserve("r2", MINE, Amounts(total=31), limits, HOUR)
        registry.reserve("r2", MINE, Amounts(total=30), limits, HOUR)
        with refusal(QuotaExceeded, "a byte more than the limit", "100"):
            registry.reserve("r3", MINE, Amounts(total=1, images=1), limits, HOUR)
        registry.reserve("r3", MINE, Amounts(images=2), limits, HOUR)  # what isn't asked for isn't checked
        registry.reserve("r4", OTHER, Amounts(total=100, images=3), limits, HOUR)
        assert registry.usage(MINE) == Amounts(total=20, images=1), "reservations are no usage"
        registry.release_reservation("r1")
        registry.release_reservation("r1")
        registry.reserve("r5", MINE, Amounts(total=50), limits, HOUR)
        for field in ("total", "staged", "images", "uploading"):
            with refusal(QuotaExceeded, f"{field} beyond 0"):
                registry.reserve("r6", MINE, Amounts(**{field: 1}), {field: 0}, HOUR)

    def test_a_reservation_grows(self, registry: Registry) -> None:
        limits = {"total": 10}
        for total in (2, 10, 4):
            registry.reserve("mine", MINE, Amounts(total=total), limits, HOUR)
        with refusal(QuotaExceeded, "growing beyond the limit"):
            registry.reserve("mine", MINE, Amounts(total=11), limits, HOUR)
        registry.reserve("other", MINE, Amounts(total=6), limits, HOUR)
        with refusal(QuotaExceeded, "a refused growth keeps what was reserved before"):
            registry.reserve("third", MINE, Amounts(total=1), limits, HOUR)

    def test_a_reservation_runs_out(self, registry: Registry) -> None:
        limits = {"images": 2}
        for seconds in short_terms():
            registry.reserve("dead", MINE, Amounts(images=1), limits, seconds)
            registry.reserve("alive", MINE, Amounts(images=1), limits, seconds)
            registry.extend_reservations(["alive", "unknown", "nul\0"], HOUR)
        registry.extend_reservations(["dead"], HOUR)  # comes too late
        try:
            registry.reserve("new", MINE, Amounts(images=1), limits, HOUR)
        except QuotaExceeded as error:
            pytest.fail(f"a reservation must run out: {error}")
        with refusal(QuotaExceeded, "an extended reservation counts"):
            registry.reserve("more", MINE, Amounts(images=1), limits, HOUR)

    def test_records_settle_reservations(self, registry: Registry) -> None:
        limits = {"images": 1, "total": 10}

        def full(field: str) -> bool:
            try:
                registry.reserve("probe", MINE, Amounts(**{field: 1}), limits, HOUR)
            except QuotaExceeded:
                return True
            registry.release_reservation("probe")
            return False

        registry.create(image("taken", owner=OTHER))
        registry.reserve("count", MINE, Amounts(images=1), limits, HOUR)
        with pytest.raises(ImageExists):
            registry.create(image("taken"), settles="count")
        assert full("images"), "a create that failed settles nothing"
        made = registry.create(image("a"), settles="count")
        assert full("images"), "the image itself counts now"
        registry.reserve("bytes", MINE, Amounts(total=10), limits, HOUR)
        stored = replace(made, status=Status.ACTIVE, size=9, locations=PLACES[:1])
        with pytest.raises(StaleImage):
            registry.update(stored, expect=2, settles="bytes")
        assert full("total"), "an update that failed settles nothing"
        registry.update(stored, expect=1, settles="bytes")
        assert not full("total"), "the reservation must go with the update"
        registry.reserve("late", MINE, Amounts(total=1), limits, 0.1)
        time.sleep(0.2)
        for late in ("late", "unknown"):
            with refusal(LeaseLost, "settling what isn't reserved any more", late):
                registry.update(replace(stored, size=10), expect=2, settles=late)
            with refusal(LeaseLost, "settling what isn't reserved any more", late):
                registry.create(image("b", owner=OTHER), settles=late)
        assert registry.usage(MINE).total == 9
        assert registry.usage(OTHER).images == 1
        registry.delete("a", expect=2)
        assert not full("images")

    def test_racing_reservations(self, registry: Registry) -> None:
        limits = {"images": 3, "total": 40}
        for turn in range(3):
            project = f"{turn}"
            calls = [
                partial(registry.reserve, f"{turn}/{n}", project, Amounts(total=10, images=1), limits, HOUR)
                for n in range(WIDTH)
            ]
            assert kinds(race(calls)) == ["QuotaExceeded"] * (WIDTH - 3) + ["done"] * 3, "exactly the limit"

    def test_racing_creates_within_a_quota(self, registry: Registry) -> None:
        """Create, delete and create again: never over, and all of it used in the end."""
        results = race([partial(take, registry, f"c{n}", 12, 5) for n in range(WIDTH)])
        assert all(isinstance(most, int) and most <= 5 for most in results), f"overshoot: {results}"
        assert registry.usage(MINE).images == 5, "a limit must be usable to its end"

    def test_processes_within_a_quota(self, registry: Registry, children: Sequence[Child]) -> None:
        results = together(children, registry, "take", [(f"c{n}", 12, 5) for n in range(len(children))])
        assert all(isinstance(most, int) and most <= 5 for most in results), f"overshoot: {results}"
        assert registry.usage(MINE).images == 5, "a limit must be usable to its end"

    def test_huge_images(self, registry: Registry) -> None:
        """What a far server claims can't make the sums fail."""
        for number in range(5):
            registry.create(
                image(f"{number}", size=2**63 - 1, locations=PLACES, staged=PLACES[0], status=Status.ACTIVE)
            )
            registry.reserve(f"{number}", MINE, Amounts(total=2**63 - 1, staged=2**63 - 1), {}, HOUR)
        assert registry.usage(MINE).total > 2**53
        with refusal(QuotaExceeded, "one byte more"):
            registry.reserve("more", MINE, Amounts(total=1), {"total": 10}, HOUR)

    @pytest.mark.parametrize(
        ("name", "amounts", "limits", "seconds"),
        [
            ("x" * 256, Amounts(), {}, HOUR),
            ("r", Amounts(total=-1), {}, HOUR),
            ("r", Amounts(images=2**31), {}, HOUR),
            ("r", Amounts(), {"cores": 1}, HOUR),
            ("r", Amounts(), {}, 0),
            ("r", Amounts(), {}, float("nan")),
        ],
    )
    def test_impossible_reservations(
        self, registry: Registry, name: str, amounts: Amounts, limits: dict[str, int], seconds: float
    ) -> None:
        with refusal(InvalidInput, "an impossible reservation"):
            registry.reserve(name, MINE, amounts, limits, seconds)
