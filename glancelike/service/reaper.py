"""Images whose data was on its way when its process died: queued again.

Uploads and staging hold the lease ``upload:<image id>``; one that has run
out tells that nobody brings the data any more. Imports are tasks: they are
taken up by another process, and only one without its task is reaped.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from glancelike import lifecycle
from glancelike.errors import ImageNotFound, LeaseLost, TaskNotFound
from glancelike.model import Filter, Image, Op, Query, SortKey, Status
from glancelike.registry.base import ADMIN
from glancelike.service.context import Context, upload_lease
from glancelike.service.imports import abandoned
from glancelike.service.staging import IMPORT_TASK

LOG = logging.getLogger(__name__)


def reap(context: Context) -> list[str]:
    """Return images whose data won't come to queued; return their ids."""
    reaped = []
    for page in _pages(context, (Status.SAVING, Status.UPLOADING)):
        waiting = [image for image in page if lifecycle.queued_again(image) is not None]
        busy = context.registry.leased([upload_lease(image.id) for image in waiting])
        reaped += [
            image.id
            for image in waiting
            if upload_lease(image.id) not in busy and _reap_upload(context, image.id)
        ]
    for page in _pages(context, (Status.IMPORTING,)):
        reaped += [image.id for image in page if _reap_import(context, image)]
    return reaped


def _pages(context: Context, statuses: tuple[Status, ...]) -> Iterator[tuple[Image, ...]]:
    query = Query(
        filters=(Filter("status", Op.IN, statuses),),
        visibility="all",
        member_status="all",
        hidden=None,
        sort=(SortKey("id", descending=False),),
        limit=1000,
    )
    while True:
        page = context.registry.list(query, ADMIN)
        yield page.images
        if page.next_marker is None:
            return
        query = replace(query, marker=page.next_marker)


def _reap_upload(context: Context, image_id: str) -> bool:
    lease = upload_lease(image_id)
    holder = context.leases.acquire(lease)
    if holder is None:
        return False
    try:
        context.queue_again(image_id, lease, holder)
    except (ImageNotFound, LeaseLost):
        return False
    finally:
        context.leases.release(lease, holder)
    LOG.warning("image %s: its upload died, it is queued again", image_id)
    return True


def _reap_import(context: Context, image: Image) -> bool:
    """Queue an importing image again whose task isn't there any more."""
    task_id = image.properties.get(IMPORT_TASK)
    if task_id is not None:
        try:
            context.registry.get_task(task_id)
        except TaskNotFound:
            pass
        else:
            return False
    try:
        abandoned(context, image.id, task_id)
    except ImageNotFound:
        return False
    LOG.warning("image %s: its import has no task, it is queued again", image.id)
    return True
