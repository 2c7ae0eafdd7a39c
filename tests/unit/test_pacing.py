"""How long guests on their way may take, and stand still."""

from __future__ import annotations

from novalite.virt import pacing

GIB = 1 << 30


def terms(**values: object) -> pacing.Terms:
    options = {opt.name: opt.default for opt in pacing.OPTIONS}
    return pacing.Terms.of({**options, **{f"live_migration_{name}": value for name, value in values.items()}})


def test_each_of_memory_and_disks_counts_for_2_gib_at_least() -> None:
    assert pacing.gib(128 << 20, [3 * GIB]) == 5
    assert pacing.gib(4 * GIB, [GIB, 0]) == 8


def test_the_time_is_by_the_gib() -> None:
    assert terms(completion_timeout=10).timeout(4.5) == 45
    assert terms(completion_timeout=0).timeout(4.5) == float("inf")


def test_a_guest_may_stand_still_for_longer_step_by_step() -> None:
    """With an example of Nova's own."""
    told = terms(downtime=400, downtime_steps=10, downtime_delay=30)
    reached = {seconds: told.downtime_after(seconds, 3) for seconds in (0, 89, 90, 180, 450, 899, 900, 9000)}
    assert reached == {0: 40, 89: 40, 90: 76, 180: 112, 450: 220, 899: 364, 900: 400, 9000: 400}
