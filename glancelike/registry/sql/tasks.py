"""Tasks in SQL: the queue."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from glancelike.errors import InvalidMarker, StaleTask, TaskNotFound
from glancelike.model import Task, TaskPage, TaskQuery, TaskStatus, TaskType, utcnow
from glancelike.registry import values
from glancelike.registry.parts import TASK_LEASE, TaskRecords
from glancelike.registry.sql import paging
from glancelike.registry.sql.database import Database, now
from glancelike.registry.sql.records import batches
from glancelike.registry.sql.tables import leases, tasks

t, le = tasks.c, leases.c
PLAIN = (
    "owner", "user", "image_id", "request_id", "message", "secret", "created_at", "updated_at", "expires_at",
)  # fmt: skip
FINISHED = tuple(sorted(status.value for status in TaskStatus if status not in values.UNFINISHED))


class TaskSql(TaskRecords, Database):
    """Keep tasks, one row each."""

    def create_task(self, task: Task) -> Task:
        task = replace(values.checked_task(task), version=1)
        with self._writing() as connection:
            try:
                connection.execute(sa.insert(tasks), {"id": task.id, **_row(task)})
            except IntegrityError:
                raise values.task_exists(task.id) from None
        return task

    def get_task(self, task_id: str) -> Task:
        if values.storable(task_id):
            with self._looking() as connection:
                row = connection.execute(sa.select(tasks).where(t.id == task_id)).first()
                if row is not None:
                    return _to_task(row)
        raise TaskNotFound(f"task {task_id!r} not found")

    def list_tasks(self, query: TaskQuery) -> TaskPage:
        query = values.checked_task_query(query)
        wanted = [
            t[field] == str(value)
            for field in ("owner", "image_id", "type", "status")
            if (value := getattr(query, field)) is not None
        ]
        with self._reading() as connection:
            marker = _marker(connection, query)
            if marker:
                parts = paging.after(t, query.sort, [value is None for value in marker])
                wanted.append(sa.or_(*(part.condition() for part in parts)))
            explicit = connection.dialect.name == "postgresql"
            ordered = paging.order(t, query.sort, explicit=explicit)
            statement = sa.select(tasks).where(*wanted).order_by(*ordered).limit(query.limit + 1)
            rows = connection.execute(
                statement, {f"marker{number}": value for number, value in enumerate(marker)}
            ).all()
        found = tuple(_to_task(row) for row in rows[: query.limit])
        return TaskPage(found, found[-1].id if found and len(rows) > len(found) else None)

    def update_task(self, task: Task, *, expect: int) -> Task:
        task = replace(values.checked_task(task), version=expect + 1, updated_at=utcnow())
        row = _row(task)
        del row["created_at"]
        with self._writing() as connection:
            here = t.id == task.id
            done = connection.execute(sa.update(tasks).where(here, t.version == expect).values(row))
            found = connection.execute(sa.select(t.version, t.created_at).where(here)).first()
            if found is None:
                raise TaskNotFound(f"task {task.id!r} not found")
            if done.rowcount != 1:
                raise StaleTask(f"task {task.id} is at version {found.version}, not {expect}")
        return replace(task, created_at=found.created_at)

    def delete_task(self, task_id: str) -> None:
        found = 0
        if values.storable(task_id):
            with self._writing() as connection:
                found = connection.execute(sa.delete(tasks).where(t.id == task_id)).rowcount
        if not found:
            raise TaskNotFound(f"task {task_id!r} not found")

    def runnable_tasks(self, limit: int) -> tuple[Task, ...]:
        with self._reading() as connection:
            held = sa.exists().where(
                le.name == sa.literal(TASK_LEASE, t.id.type) + t.id, le.expires_at > now(connection)
            )
            # Each status in its index's order, so that a long queue costs no more than a short one.
            oldest = [
                sa.select(t.id)
                .where(t.status == status.value, ~held)
                .order_by(t.created_at, t.id)
                .limit(limit)
                .subquery()
                for status in sorted(values.UNFINISHED)
            ]
            either = sa.union_all(*(sa.select(each.c.id) for each in oldest)).subquery()
            statement = (
                sa.select(tasks).join(either, either.c.id == t.id).order_by(t.created_at, t.id).limit(limit)
            )
            return tuple(_to_task(row) for row in connection.execute(statement))

    def delete_expired_tasks(self, limit: int = 1000) -> int:
        with self._writing() as connection:
            return delete_expired(connection, limit)


def delete_expired(connection: Connection, limit: int) -> int:
    """Remove finished tasks that have expired; return how many."""
    expired = sa.select(t.id).where(t.expires_at <= now(connection), t.status.in_(FINISHED))
    found = connection.execute(expired.order_by(t.expires_at).limit(limit)).scalars().all()
    for batch in batches(found):
        connection.execute(sa.delete(tasks).where(t.id.in_(batch)))
    return len(found)


def _marker(connection: Connection, query: TaskQuery) -> tuple[Any, ...]:
    if query.marker is None:
        return ()
    if values.storable(query.marker):
        statement = sa.select(*(t[key.field] for key in query.sort)).where(t.id == query.marker)
        if query.owner is not None:
            statement = statement.where(t.owner == query.owner)
        row = connection.execute(statement).first()
        if row is not None:
            return tuple(row)
    raise InvalidMarker(f"marker {query.marker!r} not found")


def _row(task: Task) -> dict[str, Any]:
    return {
        **{name: getattr(task, name) for name in PLAIN},
        "version": task.version,
        "type": task.type.value,
        "status": task.status.value,
        "input": values.document("task input", task.input),
        "result": None if task.result is None else values.document("task result", task.result),
        "progress": values.document("task progress", task.progress),
    }


def _to_task(row: Any) -> Task:
    return Task(
        id=row.id,
        type=TaskType(row.type),
        status=TaskStatus(row.status),
        input=json.loads(row.input),
        result=None if row.result is None else json.loads(row.result),
        progress=json.loads(row.progress),
        version=row.version,
        **{name: getattr(row, name) for name in PLAIN},
    )
