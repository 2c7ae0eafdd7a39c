"""From the last byte to an active image: a task, done in the request that brought the byte.

The image is ``importing`` and names the task, as with any import, so that
all else is shut out and another process goes on where this one dies. The
data is looked at once: read where it lies, or on its way to where it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from glancelike import lifecycle
from glancelike.errors import (
    DataMismatch,
    ImageNotFound,
    InvalidTransition,
    StaleUpload,
    StoreUnavailable,
    UploadNotFound,
)
from glancelike.model import (
    Amounts,
    Caller,
    Image,
    Location,
    Status,
    Task,
    TaskType,
    Upload,
    UploadKind,
    UploadState,
)
from glancelike.notifications import image_payload, transfer_payload
from glancelike.registry.base import ADMIN
from glancelike.service.adoption import read_through
from glancelike.service.context import Context
from glancelike.service.ingest import ingested, inspection_of, told_by, writable
from glancelike.service.resumable import presigned
from glancelike.service.resumable.deposit import content, delete_quietly, joined
from glancelike.service.resumable.sources import Joined
from glancelike.service.resumable.upkeep import drop, hold_room, let_go_of_room
from glancelike.service.staging import IMPORT_TASK, amend, current
from glancelike.service.tasks import Handler, Job, Progress, perform, submit
from glancelike.transfer import Outcome

# Data on its way by another road: that may fail, so the upload is kept.
UNDER_WAY = frozenset({Status.SAVING, Status.UPLOADING, Status.IMPORTING})
AGAIN = "again"


# In the request


def finish(context: Context, caller: Caller, image: Image, upload: Upload) -> Upload:
    """Make the image active with the bytes of a full upload; raise as ``ImageService.upload``."""
    with suppress(StaleUpload):  # another process was faster, and is at it
        perform(
            context,
            caller,
            TaskType.UPLOAD,
            HANDLER,
            image_id=image.id,
            given=_given(upload),
            hidden=_given(upload),
            credentials=context.needs_token(image),
            attach=lambda task: _attach(context, upload, task),
        )
    return context.registry.get_upload(upload.id)


def begin(context: Context, caller: Caller, image: Image, upload: Upload) -> None:
    """Put the end of a full upload into the queue; raise StaleUpload when it is there."""
    submit(
        context,
        caller,
        TaskType.UPLOAD,
        image_id=image.id,
        given=_given(upload),
        hidden=_given(upload),
        credentials=context.needs_token(image),
        attach=lambda task: _attach(context, upload, task),
    )


def _given(upload: Upload) -> dict[str, Any]:
    return {"image_id": upload.image_id, "upload_id": upload.id}


def _attach(context: Context, upload: Upload, task: Task) -> None:
    finishing = replace(upload, state=UploadState.FINISHING, task_id=task.id)
    context.registry.update_upload(finishing, expect=upload.version)


# In the task


def run(job: Job) -> Mapping[str, Any]:
    """Make the upload's bytes the image's data; the handler of its task."""
    try:
        upload = _upload(job)
        image = _taken(job)
        if image.status is Status.IMPORTING:
            _bring(job, image, upload)
        # What follows is done again after a crash: the image is active, and still names the task.
        _clean(job, upload)
        _free(job)
    except (ImageNotFound, UploadNotFound):
        raise ImageNotFound(f"Image {job.task.image_id} was deleted during its upload") from None
    except StoreUnavailable:
        job.save({AGAIN: True})
        raise
    return {"image_id": job.task.image_id}


def _upload(job: Job) -> Upload:
    upload = job.context.registry.get_upload(job.hidden["upload_id"])
    if upload.task_id != job.task.id:
        raise InvalidTransition(f"Upload {upload.id} isn't this task's any more")
    return upload


def _taken(job: Job) -> Image:
    """Return the image as the task's own; raise InvalidTransition when it's another's."""
    context = job.context
    image = context.registry.get(str(job.task.image_id), ADMIN)
    if image.properties.get(IMPORT_TASK) == job.task.id:
        return image

    def take(fresh: Image) -> Image:
        job.confirm()
        if fresh.status is not Status.QUEUED or IMPORT_TASK in fresh.properties:
            if fresh.status in UNDER_WAY or IMPORT_TASK in fresh.properties:
                job.save({AGAIN: True})
            raise InvalidTransition(f"Image {fresh.id} is {fresh.status}: other data was faster")
        marked = {**fresh.properties, IMPORT_TASK: job.task.id}
        return lifecycle.move(fresh, Status.IMPORTING, properties=marked)

    with context.quotas.admitted(image.owner, Amounts(uploading=1), name=f"finishing:{job.task.id}") as begun:
        return context.amend(image.id, take, settles=begun.settles)


def _bring(job: Job, image: Image, upload: Upload) -> None:
    """See to it that the data lies in its store and is what it should be, then name it."""
    context = job.context
    mount = writable(context, upload.store)
    context.notify("image.prepare", transfer_payload(image, mount.id))

    def watchers() -> tuple[Any, ...]:
        return (
            *context.watchers_of(image, job.caller),
            Progress(job, f"verifying in store {mount.id}", upload.length),
        )

    def verify(location: Location, *algorithms: str) -> Outcome:
        return read_through(
            context,
            image,
            location,
            algorithms=(*context.settings.algorithms, *algorithms),
            inspection=lambda: inspection_of(context, image),
            watchers=watchers,
            look=lambda: current(job),
        )

    if upload.kind is UploadKind.PRESIGNED:
        with presigned.copied(context, upload) as location:
            algorithm, value = presigned.digest_of(upload)
            outcome = verify(location, *algorithm)
            presigned.check(upload, outcome, algorithm, value)
            _activate(job, upload, location, outcome)
        return
    if upload.kind is UploadKind.PLAIN and upload.session is not None and upload.home == mount.id:
        location = joined(context, upload)
        _activate(job, upload, location, verify(location))
        return
    source = Joined([each for part in _parts(context, upload) for each in content(context, part)])
    try:
        with ingested(
            context,
            image,
            mount,
            source,
            size=upload.length,
            inspection=inspection_of(context, image),
            watchers=watchers(),
        ) as stored:
            _activate(job, upload, stored.location, stored.outcome)
    finally:
        source.close()


def _parts(context: Context, upload: Upload) -> list[Upload]:
    """Return the uploads whose bytes make the upload's: itself, or those that it joins."""
    if upload.kind is not UploadKind.FINAL:
        return [upload]
    return [context.registry.get_upload(each) for each in upload.joins]


def _activate(job: Job, upload: Upload, location: Location, outcome: Outcome) -> None:
    if outcome.size != upload.length:
        raise DataMismatch(f"Upload {upload.id}: {outcome.size} bytes instead of {upload.length}")
    owner = current(job).owner
    room = hold_room(job.context, upload, owner, outcome.size)

    def change(fresh: Image) -> Image:
        told = told_by(job.context, outcome)
        return lifecycle.move(fresh, Status.ACTIVE, locations=(location,), **told)

    active = amend(job, change, settles=room)
    job.context.notify("image.upload", transfer_payload(active))
    job.context.notify("image.activate", image_payload(active))


def _clean(job: Job, upload: Upload) -> None:
    """Remove the image's other uploads, and what isn't its data of this one; note that it is done."""
    context = job.context
    named = context.registry.locations_of([upload.image_id]).get(upload.image_id, ())
    for other in context.registry.uploads_of([upload.image_id]):
        if other.id != upload.id and other.state is not UploadState.FINISHING:
            try:
                drop(context, other)
            except StaleUpload:
                continue  # its sender is told with the next piece
    for blob in upload.blobs:
        if (blob.store, blob.key) not in named:
            delete_quietly(context, blob)
    let_go_of_room(context, upload)
    if upload.state is not UploadState.DONE:
        done = replace(upload, state=UploadState.DONE, session=None, tail=())
        context.registry.update_upload(done, expect=upload.version)


def _free(job: Job) -> None:
    amend(job, _unmarked)


def _unmarked(image: Image) -> Image:
    kept = {name: value for name, value in image.properties.items() if name != IMPORT_TASK}
    return replace(image, properties=kept)


def undo(job: Job) -> None:
    """Queue the image again, and drop the upload unless it may be tried again."""
    context = job.context
    try:
        image = amend(
            job,
            lambda fresh: (
                lifecycle.move(_unmarked(fresh), Status.QUEUED, size=None)
                if fresh.status is Status.IMPORTING
                else _unmarked(fresh)
            ),
        )
        named = bool(image.locations)
    except (ImageNotFound, InvalidTransition):
        named = False
    try:
        upload = _upload(job)
        if named:
            return  # it is active: only what is left of the upload wasn't cleared away
        if job.notes.get(AGAIN):
            full = replace(upload, state=UploadState.FULL, task_id=None)
            context.registry.update_upload(full, expect=upload.version)
        else:
            drop(context, upload)
    except (UploadNotFound, InvalidTransition, StaleUpload):
        return


HANDLER = Handler(run, undo)
