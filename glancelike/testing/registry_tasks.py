"""Conformance: tasks, the queue in the registry."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from glancelike.errors import InvalidInput, InvalidMarker, TaskNotFound
from glancelike.model import SortKey, Task, TaskQuery, TaskStatus, TaskType, utcnow
from glancelike.registry.base import Registry
from glancelike.registry.parts import TASK_LEASE
from glancelike.testing.registry_child import Child, together
from glancelike.testing.registry_kit import MINE, OTHER, START, TEXTS, RegistryKit, kinds, race, refusal

WIDTH = 8


def task(id_: str, **values: Any) -> Task:
    """Make a task of this project's."""
    return Task(id_, **{"type": TaskType.IMAGE_IMPORT, "owner": MINE, **values})


def queue(registry: Registry, count: int, **values: Any) -> list[Task]:
    """Create tasks a second apart, the oldest first."""
    return [
        registry.create_task(task(f"t{number:04}", created_at=START + timedelta(seconds=number), **values))
        for number in range(count)
    ]


def task_ids(registry: Registry, query: TaskQuery) -> list[str]:
    """List everything the query finds, in pages of its limit."""
    found: list[str] = []
    for _ in range(1000):
        page = registry.list_tasks(query)
        assert len(page.tasks) <= query.limit, "a page holds more tasks than its limit"
        found += [each.id for each in page.tasks]
        if page.next_marker is None:
            return found
        assert page.next_marker == page.tasks[-1].id, "the marker must be the page's last task"
        query = replace(query, marker=page.next_marker)
    pytest.fail("clause 3: the listing doesn't end")


class TaskTests(RegistryKit):
    """``TaskRecords``."""

    def test_tasks_are_kept_whole(self, registry: Registry) -> None:
        made = task(
            "full",
            status=TaskStatus.PROCESSING,
            owner=OTHER,
            user="alice",
            image_id="an-image",
            request_id="req-1",
            input={"method": {"name": "web-download", "uri": "https://example.org/é"}, "stores": ["a", "b"]},
            result={"image_id": "an-image", "sizes": [1, 2**53, 0.5, None, True]},
            message="half way",
            progress={"offset": 2**40},
            secret="token",  # noqa: S106 - no password of anything
            created_at=START,
            updated_at=START + timedelta(microseconds=1),
            expires_at=START + timedelta(days=2),
        )
        for each in (made, task("plain")):
            assert registry.create_task(each) == replace(each, version=1)
            assert registry.get_task(each.id) == each
        for text in TEXTS:
            changed = replace(made, message=text, input={text: text}, result=None, secret=None)
            version = registry.get_task("full").version
            assert registry.update_task(changed, expect=version).input == {text: text}
            found = registry.get_task("full")
            assert (found.message, found.input, found.result, found.secret) == (
                text,
                {text: text},
                None,
                None,
            )

    def test_tasks_are_copies(self, registry: Registry) -> None:
        given: dict[str, Any] = {"list": [1]}
        registry.create_task(task("a", input=given))
        given["list"].append(2)
        registry.get_task("a").input["list"].append(3)
        assert registry.get_task("a").input == {"list": [1]}, "values must be copies"

    def test_update_task(self, registry: Registry) -> None:
        made = registry.create_task(task("a", created_at=START, updated_at=START))
        changed = replace(made, status=TaskStatus.SUCCESS, owner=OTHER, created_at=utcnow(), version=99)
        updated = registry.update_task(changed, expect=1)
        assert (updated.version, updated.created_at, updated.owner) == (2, START, OTHER)
        assert updated.updated_at > START
        assert registry.get_task("a") == updated
        results = race([partial(registry.update_task, changed, expect=2) for _ in range(WIDTH)])
        assert kinds(results) == ["StaleTask"] * (WIDTH - 1) + ["done"], "clause 1: one winner"
        with refusal(TaskNotFound, "update_task() of none", "'none'"):
            registry.update_task(task("none"), expect=1)

    def test_tasks_that_are_not_there(self, registry: Registry) -> None:
        for id_ in ("none", "nul\0", "\ud800"):
            with refusal(TaskNotFound, "get_task()"):
                registry.get_task(id_)
            with refusal(TaskNotFound, "delete_task()"):
                registry.delete_task(id_)
        registry.create_task(task("a"))
        with refusal(InvalidInput, "create_task() with an id in use", "a"):
            registry.create_task(task("a"))
        registry.delete_task("a")
        with refusal(TaskNotFound, "delete_task() twice"):
            registry.delete_task("a")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("id", "x" * 65),
            ("owner", "x" * 256),
            ("message", "x" * 65536),
            ("message", "nul\0"),
            ("secret", "x" * 65536),
            ("input", {"a": "x" * 65536}),
            ("input", {"a": object()}),
            ("input", {"a": float("nan")}),
            ("input", ["a"]),
            ("result", {"a": b"bytes"}),
            ("progress", {"a": "é" * 30000}),
            ("type", "cooking"),
            ("status", "bored"),
            ("expires_at", START.replace(tzinfo=None)),
        ],
    )
    def test_impossible_tasks(self, registry: Registry, field: str, value: object) -> None:
        with refusal(InvalidInput, f"a task with {field} {value!r:.40}", field):
            registry.create_task(replace(task("a"), **{field: value}))  # type: ignore[arg-type]
        assert registry.list_tasks(TaskQuery()).tasks == ()

    @pytest.mark.parametrize("descending", [True, False])
    @pytest.mark.parametrize("field", ["created_at", "status", "type", "expires_at", "id"])
    def test_task_pages(self, registry: Registry, field: str, descending: bool) -> None:
        for number, made in enumerate(queue(registry, 12)):
            registry.update_task(
                replace(
                    made,
                    status=list(TaskStatus)[number % 3],
                    type=list(TaskType)[number % 2],
                    expires_at=None if number % 4 == 0 else START + timedelta(days=number % 3),
                ),
                expect=1,
            )
        everything = registry.list_tasks(TaskQuery(limit=100)).tasks

        def rank(each: Task) -> Any:
            value = getattr(each, field)
            return (value is not None, value), each.id

        wanted = [each.id for each in sorted(everything, key=rank, reverse=descending)]
        for limit in (1, 5, 12):
            query = TaskQuery(sort=(SortKey(field, descending),), limit=limit)
            assert task_ids(registry, query) == wanted, "clause 3: every task once, in order"

    def test_task_filters(self, registry: Registry) -> None:
        registry.create_task(task("a", image_id="i"))
        registry.create_task(task("b", owner=OTHER, type=TaskType.LOCATION_IMPORT))
        registry.create_task(task("c", status=TaskStatus.FAILURE, image_id="i", owner=None))
        by_id = (SortKey("id", False),)
        for found, condition in (
            (["a", "b", "c"], {}),
            (["a"], {"owner": MINE}),
            (["a", "c"], {"image_id": "i"}),
            (["b"], {"type": TaskType.LOCATION_IMPORT}),
            (["c"], {"status": TaskStatus.FAILURE, "image_id": "i"}),
            ([], {"status": TaskStatus.FAILURE, "owner": OTHER}),
        ):
            assert task_ids(registry, TaskQuery(sort=by_id, **condition)) == found, condition
        for marker in ("none", "nul\0"):
            with refusal(InvalidMarker, "a marker that isn't there"):
                registry.list_tasks(TaskQuery(marker=marker))
        with refusal(InvalidMarker, "a marker of another owner's"):
            registry.list_tasks(TaskQuery(owner=MINE, marker="b"))
        for bad in (TaskQuery(limit=-1), TaskQuery(sort=(SortKey("secret"),)), TaskQuery(owner="nul\0")):
            with refusal(InvalidInput, f"{bad}"):
                registry.list_tasks(bad)

    def test_runnable_tasks(self, registry: Registry) -> None:
        made = queue(registry, 6)
        registry.update_task(replace(made[1], status=TaskStatus.PROCESSING), expect=1)
        registry.update_task(replace(made[2], status=TaskStatus.SUCCESS), expect=1)
        registry.update_task(replace(made[3], status=TaskStatus.FAILURE), expect=1)

        def runnable(limit: int = 10) -> list[str]:
            return [each.id for each in registry.runnable_tasks(limit)]

        assert runnable() == ["t0000", "t0001", "t0004", "t0005"], "the oldest first, no finished ones"
        assert runnable(2) == ["t0000", "t0001"]
        assert registry.acquire_lease(TASK_LEASE + "t0000", "me", 60)
        assert registry.acquire_lease(TASK_LEASE + "t0004", "me", 60)
        assert runnable() == ["t0001", "t0005"], "a task under a lease isn't free"
        assert registry.renew_lease(TASK_LEASE + "t0004", "me", 0.05)
        time.sleep(0.1)
        assert runnable() == ["t0001", "t0004", "t0005"], "a lease that ran out frees the task"
        registry.release_lease(TASK_LEASE + "t0000", "me")
        assert runnable(1) == ["t0000"]

    def test_expired_tasks_go(self, registry: Registry) -> None:
        past, future = utcnow() - timedelta(hours=1), utcnow() + timedelta(hours=1)
        for number in range(3):
            registry.create_task(task(f"old{number}", status=TaskStatus.FAILURE, expires_at=past))
        registry.create_task(task("later", status=TaskStatus.SUCCESS, expires_at=future))
        registry.create_task(task("at work", status=TaskStatus.PROCESSING, expires_at=past))
        registry.create_task(task("for ever", status=TaskStatus.SUCCESS))
        assert registry.delete_expired_tasks(2) == 2
        assert registry.delete_expired_tasks() == 1
        assert registry.delete_expired_tasks() == 0
        assert sorted(task_ids(registry, TaskQuery())) == ["at work", "for ever", "later"]

    def test_processes_claim_tasks(self, registry: Registry, children: Sequence[Child]) -> None:
        registry.create_task(task("a"))
        results = together(children, registry, "progress", [("a", 1, n) for n in range(len(children))])
        assert sorted(map(str, results)) == ["StaleTask"] * (len(children) - 1) + ["done"], "clause 1"
        assert registry.get_task("a").progress == {"by": results.index("done")}
