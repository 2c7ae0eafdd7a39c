"""Work that outlives its request: a queue in the registry, and its runner.

The task's row is the truth: any process may take a task up whose lease is
free, finished or not by somebody before. A handler therefore is idempotent:
it looks at the image's record for what is done, and goes on from there.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from glancelike.errors import (
    GlancelikeError,
    InvalidInput,
    LeaseLost,
    RegistryUnavailable,
    StaleTask,
    TaskNotFound,
)
from glancelike.model import (
    TASK_SORT_FIELDS,
    Caller,
    Credentials,
    Task,
    TaskPage,
    TaskQuery,
    TaskStatus,
    TaskType,
    utcnow,
)
from glancelike.registry.parts import TASK_LEASE
from glancelike.service.context import Context

LOG = logging.getLogger(__name__)

FINISHED = frozenset({TaskStatus.SUCCESS, TaskStatus.FAILURE})
# A task whose worker died this often is more likely the cause than the victim.
MOST_STARTS = 5
BATCH = 10
# Keys of Task.progress
STARTS, HIDDEN, NOTES = "starts", "hidden", "notes"


def _nothing(job: Job) -> None:
    """Undo nothing."""


@dataclass(frozen=True, slots=True)
class Handler:
    """What is done for one type of task.

    ``run`` returns the result. When it raises a GlancelikeError the task
    has failed: ``undo`` then takes back its effects on the image. Both may
    be called again after the process died in the middle of them.
    """

    run: Callable[[Job], Mapping[str, Any] | None]
    undo: Callable[[Job], None] = _nothing


@dataclass(slots=True)
class Job:
    """A task in the hands of the one process that holds its lease."""

    context: Context
    task: Task
    caller: Caller
    _holder: str = field(repr=False)

    def confirm(self) -> None:
        """Raise LeaseLost if another process has taken the task over."""
        self.context.leases.confirm(TASK_LEASE + self.task.id, self._holder)

    @property
    def hidden(self) -> Mapping[str, Any]:
        """What the request left for the handler alone."""
        hidden: Mapping[str, Any] = self.task.progress[HIDDEN]
        return hidden

    @property
    def notes(self) -> Mapping[str, Any]:
        """What was saved last."""
        notes: Mapping[str, Any] = self.task.progress.get(NOTES, {})
        return notes

    def save(self, notes: Mapping[str, Any], *, ahead: bool = False) -> None:
        """Leave a note for whoever goes on if this process dies; raise LeaseLost.

        ``ahead`` of where a process before this one died: its death counts no more.
        """
        starts = {STARTS: 1} if ahead else {}
        self._update(progress={**self.task.progress, NOTES: dict(notes), **starts})

    def report(self, message: str) -> None:
        """Tell the task's owner how far it is; raise LeaseLost."""
        self._update(message=message)

    def _update(self, **changes: Any) -> None:
        self.confirm()
        try:
            self.task = self.context.registry.update_task(
                replace(self.task, **changes), expect=self.task.version
            )
        except (StaleTask, TaskNotFound) as error:
            raise LeaseLost(f"task {self.task.id}: {error}") from error

    def _finish(self, status: TaskStatus, message: str, result: Mapping[str, Any] | None) -> None:
        keep = timedelta(hours=self.context.settings.task_time_to_live)
        self._update(status=status, message=message, result=result, secret=None, expires_at=utcnow() + keep)


def submit(
    context: Context,
    caller: Caller,
    kind: TaskType,
    *,
    image_id: str | None,
    given: Mapping[str, Any],
    hidden: Mapping[str, Any] | None = None,
    credentials: bool = False,
    attach: Callable[[Task], None] | None = None,
) -> Task:
    """Put a task into the queue and wake a runner of this process.

    ``given`` is shown to its owner as the task's input; ``hidden`` is for
    the handler alone. ``attach`` is called
    before anybody may take the task up, for example to name it in the
    image's record; if it raises, there is no task. With ``credentials`` the
    task keeps the caller's token until it ends.
    """
    task = _new(caller, kind, image_id, given, hidden, credentials=credentials)
    with _added(context, task, attach) as (task, _holder):
        pass
    context.notify("task.create", _payload(task))
    context.wake_runner()
    return task


def perform(
    context: Context,
    caller: Caller,
    kind: TaskType,
    handler: Handler,
    *,
    image_id: str,
    given: Mapping[str, Any],
    hidden: Mapping[str, Any],
    credentials: bool,
    attach: Callable[[Task], None],
) -> None:
    """Do a task here and now; if this process dies at it, another one takes it up.

    The arguments are those of ``submit``. Raises what the handler raises,
    after it was undone.
    """
    task = _new(caller, kind, image_id, given, hidden, credentials=credentials)
    with _added(context, task, attach) as (task, holder):
        context.notify("task.create", _payload(task))
        job = Job(context, task, caller, holder)
        _start(job)
        error = _work(job, handler)
    if error is not None:
        raise error


def _new(
    caller: Caller,
    kind: TaskType,
    image_id: str | None,
    given: Mapping[str, Any],
    hidden: Mapping[str, Any] | None,
    *,
    credentials: bool,
) -> Task:
    return Task(
        id=str(uuid.uuid4()),
        type=kind,
        owner=caller.project,
        user=caller.user,
        image_id=image_id,
        request_id=caller.request_id,
        input=given,
        progress={HIDDEN: dict(hidden or {})},
        secret=_secret(caller, credentials=credentials),
    )


@contextmanager
def _added(context: Context, task: Task, attach: Callable[[Task], None] | None) -> Iterator[tuple[Task, str]]:
    """Add the task to the queue, kept from all others while the block runs; yield its lease's holder."""
    lease = TASK_LEASE + task.id
    holder = context.leases.acquire(lease)
    if holder is None:  # can't be: the id is new
        raise LeaseLost(f"{lease} is taken")
    try:
        task = context.registry.create_task(task)
        if attach is not None:
            try:
                attach(task)
            except BaseException:
                context.registry.delete_task(task.id)
                raise
        yield task, holder
    finally:
        context.leases.release(lease, holder)


def _secret(caller: Caller, *, credentials: bool) -> str:
    kept: dict[str, Any] = {"roles": sorted(caller.roles), "admin": caller.admin}
    if credentials and caller.credentials is not None:
        kept["token"] = caller.credentials.token
        kept["catalog"] = [dict(entry) for entry in caller.credentials.catalog]
    return json.dumps(kept)


def _caller_of(task: Task) -> Caller:
    kept = json.loads(task.secret or "{}")
    credentials = Credentials(kept["token"], tuple(kept["catalog"])) if "token" in kept else None
    return Caller(
        task.user,
        task.owner,
        frozenset(kept.get("roles", ())),
        admin=bool(kept.get("admin")),
        request_id=task.request_id,
        credentials=credentials,
    )


def _payload(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "type": str(task.type),
        "status": str(task.status),
        "owner": task.owner,
        "image_id": task.image_id,
        "message": task.message,
        "created_at": task.created_at.isoformat(),
        "updated_at": task.updated_at.isoformat(),
    }


def run_pending(context: Context, handlers: Mapping[TaskType, Handler]) -> int:
    """Work on tasks until none is left that is free; return how many were run."""
    done = 0
    while True:
        runnable = context.registry.runnable_tasks(BATCH)
        ran = sum(_run_one(context, handlers, task.id) for task in runnable)
        done += ran
        if not ran:
            return done


def _run_one(context: Context, handlers: Mapping[TaskType, Handler], task_id: str) -> bool:
    lease = TASK_LEASE + task_id
    holder = context.leases.acquire(lease)
    if holder is None:
        return False
    try:
        task = context.registry.get_task(task_id)
        if task.status in FINISHED:
            return False
        job = Job(context, task, _caller_of(task), holder)
        _start(job)
        _work(job, handlers[task.type])
    except (LeaseLost, TaskNotFound, RegistryUnavailable) as error:
        # Whoever has it now goes on; when the database is back, anybody.
        LOG.warning("task %s is left as it is: %s", task_id, error)
        return False
    except Exception:
        # A task that can't even be undone must not be in the way of those behind it.
        LOG.exception("task %s is left as it is", task_id)
        return False
    finally:
        context.leases.release(lease, holder)
    return True


def _start(job: Job) -> None:
    starts = int(job.task.progress.get(STARTS, 0)) + 1
    job._update(status=TaskStatus.PROCESSING, progress={**job.task.progress, STARTS: starts})
    job.context.notify("task.processing", _payload(job.task))


def _work(job: Job, handler: Handler) -> Exception | None:
    """Run the handler to its end; return the error that it failed with."""
    try:
        if int(job.task.progress[STARTS]) > MOST_STARTS:
            raise GlancelikeError(f"given up: its worker died {MOST_STARTS} times")
        result = handler.run(job)
    except (LeaseLost, RegistryUnavailable):
        raise
    except Exception as error:
        if not isinstance(error, GlancelikeError):
            LOG.exception("task %s of %s failed", job.task.id, job.task.image_id)
        message = str(error) if isinstance(error, GlancelikeError) else "internal error; see the server's log"
        handler.undo(job)
        job._finish(TaskStatus.FAILURE, message, None)
        LOG.warning("task %s of image %s failed: %s", job.task.id, job.task.image_id, message)
        job.context.notify("task.failure", _payload(job.task), error=True)
        return error
    job._finish(TaskStatus.SUCCESS, "", result)
    job.context.notify("task.success", _payload(job.task))
    return None


class Progress:
    """A Watcher that reports how many bytes have passed."""

    SECONDS = 5.0

    def __init__(self, job: Job, doing: str, size: int | None) -> None:
        self._job = job
        self._doing = doing
        self._of = "" if size is None else f" of {size}"
        self._count = 0
        self._next = time.monotonic() + self.SECONDS

    def feed(self, block: bytes, /) -> None:
        """Count the block, and report now and then; raise LeaseLost."""
        self._count += len(block)
        if time.monotonic() >= self._next:
            self._job.report(f"{self._doing}: {self._count}{self._of} bytes")
            self._next = time.monotonic() + self.SECONDS

    def finish(self, count: int, /) -> None:
        """Nothing is left to say."""


class Runner:
    """Threads of this process that work on tasks.

    They look when a task is put into the queue here, and at intervals for
    what other processes left behind.
    """

    def __init__(
        self, context: Context, handlers: Mapping[TaskType, Handler], *, threads: int, interval: float
    ) -> None:
        self._context = context
        self._handlers = handlers
        self._interval = interval
        self._wake = threading.Condition()
        self._pokes = 0
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"task-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        self._context.wake_runner = self.wake
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Have a thread look at the queue now."""
        with self._wake:
            self._pokes += 1
            self._wake.notify()

    def stop(self, patience: float = 10.0) -> None:
        """Have the threads end after their task; what runs longer is left to its lease."""
        self._context.wake_runner = _no_runner
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(patience)

    def _run(self) -> None:
        while True:
            try:
                run_pending(self._context, self._handlers)
            except GlancelikeError as error:
                LOG.warning("looking for tasks: %s", error)
            except Exception:
                # A thread that ended here would be missed by nobody.
                LOG.exception("looking for tasks")
            with self._wake:
                if not self._pokes and not self._stopping:
                    self._wake.wait(self._interval)
                self._pokes = max(0, self._pokes - 1)
                if self._stopping:
                    return


def _no_runner() -> None:
    """Nobody runs tasks in this process."""


# What the API offers to administrators


def list_page(context: Context, caller: Caller, query: TaskQuery) -> TaskPage:
    """Return a page of tasks, of all projects for an admin."""
    context.policy.check(caller, "tasks_api_access")
    for key in query.sort:
        if key.field not in TASK_SORT_FIELDS:
            raise InvalidInput(
                f"Invalid sort key {key.field}: expected one of {', '.join(sorted(TASK_SORT_FIELDS))}"
            )
    if query.limit < 0:
        raise InvalidInput("limit param must be positive")
    return context.registry.list_tasks(replace(query, limit=min(query.limit, context.settings.api_limit_max)))


def show(context: Context, caller: Caller, task_id: str) -> Task:
    """Return one task; raise TaskNotFound."""
    context.policy.check(caller, "tasks_api_access")
    return context.registry.get_task(task_id)


def of_image(context: Context, caller: Caller, image_id: str) -> tuple[Task, ...]:
    """Return the tasks of an image that the caller may see, newest first."""
    image = context.get(caller, image_id)
    context.policy.check(caller, "get_image", image)
    # What others asked for, such as the URL they import from, is theirs.
    owner = None if caller.admin else caller.project or ""
    query = TaskQuery(image_id=image_id, owner=owner, limit=context.settings.api_limit_max)
    return context.registry.list_tasks(query).tasks
