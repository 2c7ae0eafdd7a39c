"""The threads that work on tasks outlive whatever a task does to them."""

from __future__ import annotations

import io

from glancelike.model import Caller, TaskStatus, TaskType
from glancelike.policy import Policy
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService, ImportRequest, Settings
from glancelike.service.tasks import Handler, Job, Runner
from glancelike.stores.memory import MemoryStore
from glancelike.vfs import MountTable
from tests.waiting import wait_for

ALICE = Caller("alice", "p-alice", frozenset({"member", "reader"}))


def test_a_task_that_cannot_be_undone_does_not_end_the_work_on_others() -> None:
    mounts = MountTable({"memory": MemoryStore({})}, staging=MemoryStore({}))
    with ImageService(MemoryRegistry({}), mounts, Policy(), Settings()) as service:
        ids = []
        for _ in range(2):
            image = service.create_image(ALICE, {"disk_format": "raw", "container_format": "bare"})
            service.stage(ALICE, image.id, io.BytesIO(b"data"), size=4)
            service.import_image(ALICE, image.id, ImportRequest("glance-direct"))
            ids.append(image.id)
        tried: list[str] = []

        def statuses() -> set[TaskStatus]:
            return {service.image_tasks(ALICE, image_id)[0].status for image_id in ids}

        def run(job: Job) -> None:
            tried.append(str(job.task.image_id))
            if job.task.image_id == tried[0]:
                raise RuntimeError("a bug in the handler")

        def undo(job: Job) -> None:
            raise RuntimeError("and one in its undo")

        handler = Handler(run, undo)
        runner = Runner(service._context, {TaskType.IMAGE_IMPORT: handler}, threads=1, interval=0.05)
        runner.start()
        try:
            wait_for("the other task", lambda: TaskStatus.SUCCESS in statuses())
        finally:
            runner.stop()
