"""Conformance: threads, processes, kill -9 and a registry that is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from glancelike.errors import RegistryUnavailable, StaleImage
from glancelike.model import Image, Member, Query
from glancelike.registry.base import ADMIN, Registry
from glancelike.testing.registry_child import Child, is_whole, marked, together
from glancelike.testing.registry_child import update as rename
from glancelike.testing.registry_kit import RegistryKit, fill, ids, image, kinds, race

WIDTH = 8


class ThreadTests(RegistryKit):
    """Clauses 1, 6 and 8 among threads."""

    def test_racing_updates(self, registry: Registry) -> None:
        registry.create(image("a"))
        for version in range(1, 6):
            found = registry.get("a", ADMIN)
            results = race(
                [partial(registry.update, marked(found, f"{n}"), expect=version) for n in range(WIDTH)]
            )
            assert kinds(results) == ["StaleImage"] * (WIDTH - 1) + ["done"], "clause 1: one winner"
            (winner,) = [result for result in results if isinstance(result, Image)]
            assert registry.get("a", ADMIN) == winner, "clause 1: losers change nothing"
            assert winner.version == version + 1

    def test_racing_creates(self, registry: Registry) -> None:
        for turn in range(5):
            results = race([partial(registry.create, image(f"{turn}", name=f"{n}")) for n in range(WIDTH)])
            assert kinds(results) == ["ImageExists"] * (WIDTH - 1) + ["done"], "clause 4: one id, one image"
            (winner,) = [result for result in results if isinstance(result, Image)]
            assert registry.get(f"{turn}", ADMIN) == winner

    def test_update_against_delete(self, registry: Registry) -> None:
        for turn in range(10):
            made = registry.create(image(f"{turn}"))
            calls: list[Callable[[], object]] = [
                partial(registry.update, marked(made, "new"), expect=1),
                partial(registry.delete, made.id, expect=1),
            ]
            updated, deleted = race(calls)
            if isinstance(updated, Exception):
                assert type(updated).__name__ in ("StaleImage", "ImageNotFound")
                assert deleted is None, "clause 1: one of two must win"
                assert made.id not in ids(registry)
            else:
                assert type(deleted).__name__ == "StaleImage", "clause 1: delete is a compare-and-set too"
                assert registry.get(made.id, ADMIN) == updated

    def test_racing_members(self, registry: Registry) -> None:
        for turn in range(3):
            registry.create(image(f"{turn}"))
            results = race(
                [partial(registry.add_member, Member(f"{turn}", f"{n}"), limit=3) for n in range(WIDTH)]
            )
            assert kinds(results) == ["LimitExceeded"] * (WIDTH - 3) + ["done"] * 3
            assert len(registry.list_members(f"{turn}")) == 3, "the member limit must be exact"

    def test_the_same_member_at_once(self, registry: Registry) -> None:
        registry.create(image("a"))
        results = race([partial(registry.add_member, Member("a", "same")) for _ in range(WIDTH)])
        assert kinds(results) == ["MemberExists"] * (WIDTH - 1) + ["done"]

    def test_racing_leases(self, registry: Registry) -> None:
        for turn in range(3):
            results = race([partial(registry.acquire_lease, f"{turn}", f"{n}", 60) for n in range(WIDTH)])
            assert sorted(results, key=str) == [False] * (WIDTH - 1) + [True], "clause 6: one holder"
        assert registry.acquire_lease("short", "old", 0.05)
        time.sleep(0.1)
        results = race([partial(registry.acquire_lease, "short", f"{n}", 60) for n in range(WIDTH)])
        assert sorted(results, key=str) == [False] * (WIDTH - 1) + [True], "clause 6: one takes it over"

    def test_readers_see_whole_images(self, registry: Registry) -> None:
        registry.create(marked(image("a"), "mark"))
        written, times = threading.Event(), 40

        def write() -> None:
            try:
                for number in range(times):
                    found = registry.get("a", ADMIN)
                    registry.update(marked(found, f"mark-{number}"), expect=found.version)
            finally:
                written.set()

        def read() -> None:
            while not written.is_set():
                (listed,) = registry.list(Query(), ADMIN).images
                assert is_whole(listed), "one method is one transaction: half an update was listed"
                assert is_whole(registry.get("a", ADMIN)), "half an update was read"

        assert race([write, read, read]) == [None] * 3
        assert registry.get("a", ADMIN).version == 1 + times

    def test_many_callers(self, registry: Registry) -> None:
        """More threads than any pool has connections."""

        def work(number: int) -> str:
            made = registry.create(image(f"{number}", tags=frozenset({"t"})))
            registry.update(made, expect=1)
            registry.list(Query(tags=frozenset({"t"})), ADMIN)
            registry.delete(made.id, expect=2)
            return "done"

        assert race([partial(work, number) for number in range(40)]) == ["done"] * 40
        assert ids(registry) == []


class ProcessTests(RegistryKit):
    """The same among processes, where ``processes`` says they can share it."""

    def test_processes_update(self, registry: Registry, children: Sequence[Child]) -> None:
        registry.create(image("a", name="kept"))
        results = together(children, registry, "update", [("a", 1, f"{n}") for n in range(len(children))])
        assert sorted(map(str, results)) == ["StaleImage"] * (len(children) - 1) + ["done"], "clause 1"
        assert registry.get("a", ADMIN).name == f"{results.index('done')}"

    def test_processes_count(self, registry: Registry, children: Sequence[Child]) -> None:
        registry.create(image("a", name="0"))
        times = 25
        results = together(children, registry, "increment", [("a", times)] * len(children))
        assert all(isinstance(result, int) for result in results), f"{results}"
        assert registry.get("a", ADMIN).name == str(times * len(children)), "clause 1: an update was lost"

    def test_processes_create(self, registry: Registry, children: Sequence[Child]) -> None:
        results = together(children, registry, "create", [("a", f"{n}") for n in range(len(children))])
        assert sorted(map(str, results)) == ["ImageExists"] * (len(children) - 1) + ["done"], "clause 4"

    def test_processes_share(self, registry: Registry, children: Sequence[Child]) -> None:
        registry.create(image("a"))
        results = together(children, registry, "add_member", [("a", f"{n}", 2) for n in range(len(children))])
        assert sorted(map(str, results)) == ["LimitExceeded"] * (len(children) - 2) + ["done"] * 2
        assert len(registry.list_members("a")) == 2, "the member limit must be exact"

    def test_processes_lease(self, registry: Registry, children: Sequence[Child]) -> None:
        leases = [("work", f"{n}", 60) for n in range(len(children))]
        results = together(children, registry, "acquire_lease", leases)
        assert sorted(map(str, results)) == ["False"] * (len(children) - 1) + ["True"], "clause 6"
        holder = f"{results.index(True)}"
        assert registry.renew_lease("work", holder, 60)
        assert registry.leased(["work"]) == {"work"}

    def test_processes_upgrade(self, children: Sequence[Child]) -> None:
        registry = self.make_registry()
        results = together(children, registry, "upgrade", [()] * len(children))
        assert results == ["done"] * len(children), "clause 7: two may upgrade at once"
        registry.open()
        registry.create(image("a"))
        registry.close()

    def test_kill_in_the_middle(self, registry: Registry, children: Sequence[Child]) -> None:
        registry.create(marked(image("a"), "first"))
        for turn in range(3):
            child = Child()
            child.start(registry, "rewrite", ("a",), 0)
            before = registry.get("a", ADMIN).version
            until = time.monotonic() + self.patience
            while registry.get("a", ADMIN).version < before + 3 and time.monotonic() < until:
                time.sleep(0.001)
            time.sleep(turn * 0.013)
            child.kill()
            assert registry.get("a", ADMIN).version >= before + 3, "the child never wrote"
            # A server may still do what the child had sent it before.
            until = time.monotonic() + self.patience
            while True:
                found = registry.get("a", ADMIN)
                assert is_whole(found), "half a transaction survived kill -9"
                try:
                    rename(registry, "a", found.version, found.name or "")
                    break
                except StaleImage:
                    assert time.monotonic() < until, "the child goes on after kill -9"

    def test_what_was_written_stays(self, registry: Registry, children: Sequence[Child]) -> None:
        made = fill(registry, 3, tags=frozenset({"t"}))
        assert registry.acquire_lease("work", "me", 60)
        registry.close()
        other = type(registry)(registry.settings)
        other.open()
        assert ids(other) == [image.id for image in made[::-1]]
        assert other.get(made[0].id, ADMIN) == made[0]
        assert other.leased(["work"]) == {"work"}
        other.close()


class OutageTests(RegistryKit):
    """Clause 9, where ``outage`` knows how to make one."""

    def test_outage(self, registry: Registry) -> None:
        registry.create(image("a"))
        away = self.outage(registry)
        if away is None:
            pytest.skip("this registry has no outages")
        with away:
            began = time.monotonic()
            with pytest.raises(RegistryUnavailable) as caught:
                registry.create(image("b"))
            assert time.monotonic() - began < self.patience, "clause 9: it must not hang"
            assert caught.value.retryable
        assert registry.create(image("b")).id == "b", "clause 9: after the outage it must work again"
