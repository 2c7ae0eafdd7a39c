"""Tasks in memory."""

from __future__ import annotations

from dataclasses import replace

from glancelike.errors import InvalidMarker, StaleTask, TaskNotFound
from glancelike.model import Task, TaskPage, TaskQuery, utcnow
from glancelike.registry import values
from glancelike.registry.memory.order import in_order
from glancelike.registry.memory.state import State
from glancelike.registry.parts import TASK_LEASE, TaskRecords


class TaskMemory(TaskRecords, State):
    """Keep tasks."""

    def create_task(self, task: Task) -> Task:
        task = replace(values.checked_task(task), version=1)
        with self._lock:
            if task.id in self._tasks:
                raise values.task_exists(task.id)
            self._tasks[task.id] = task
        return values.checked_task(task)

    def get_task(self, task_id: str) -> Task:
        with self._lock:
            task = self._tasks.get(task_id)
        if task is None:
            raise TaskNotFound(f"task {task_id!r} not found")
        return values.checked_task(task)

    def list_tasks(self, query: TaskQuery) -> TaskPage:
        query = values.checked_task_query(query)
        with self._lock:
            tasks = [task for task in self._tasks.values() if _listed(task, query)]
            marker = None if query.marker is None else self._tasks.get(query.marker)
            if query.marker is not None and (marker is None or query.owner not in (None, marker.owner)):
                raise InvalidMarker(f"marker {query.marker!r} not found")
        found = in_order(tasks, query.sort, marker)
        page = tuple(values.checked_task(task) for task in found[: query.limit])
        return TaskPage(page, page[-1].id if page and len(found) > len(page) else None)

    def update_task(self, task: Task, *, expect: int) -> Task:
        task = values.checked_task(task)
        with self._lock:
            found = self.get_task(task.id)
            if found.version != expect:
                raise StaleTask(f"task {task.id} is at version {found.version}, not {expect}")
            task = replace(task, created_at=found.created_at, updated_at=utcnow(), version=expect + 1)
            self._tasks[task.id] = task
        return values.checked_task(task)

    def delete_task(self, task_id: str) -> None:
        with self._lock:
            self.get_task(task_id)
            del self._tasks[task_id]

    def runnable_tasks(self, limit: int) -> tuple[Task, ...]:
        with self._lock:
            open_ = [task for task in self._tasks.values() if task.status in values.UNFINISHED]
            free = [task for task in open_ if not self._held(TASK_LEASE + task.id)]
        free.sort(key=lambda task: (task.created_at, task.id))
        return tuple(values.checked_task(task) for task in free[:limit])

    def delete_expired_tasks(self, limit: int = 1000) -> int:
        with self._lock:
            return delete_expired(self._tasks, limit)


def delete_expired(tasks: dict[str, Task], limit: int) -> int:
    """Remove finished tasks that have expired; return how many."""
    now = utcnow()
    expired = [
        task.id
        for task in tasks.values()
        if task.status not in values.UNFINISHED and task.expires_at is not None and task.expires_at <= now
    ][:limit]
    for task_id in expired:
        del tasks[task_id]
    return len(expired)


def _listed(task: Task, query: TaskQuery) -> bool:
    return (
        query.owner in (None, task.owner)
        and query.image_id in (None, task.image_id)
        and query.type in (None, task.type)
        and query.status in (None, task.status)
    )
