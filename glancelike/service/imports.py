"""Interoperable import: begin it in a request, do it as a task.

https://docs.openstack.org/api-ref/image/v2/#interoperable-image-import

The record shows how far it is: ``os_glance_import_task`` names the task
that the image belongs to, ``os_glance_importing_to_stores`` the stores to
come, ``os_glance_failed_import`` those that failed. What is done can be
read off it, so the task can be taken up anywhere after its worker died.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from glancelike import lifecycle
from glancelike.errors import (
    Conflict,
    GlancelikeError,
    ImageNotFound,
    InvalidInput,
    InvalidTransition,
    UnknownStore,
)
from glancelike.model import Amounts, Caller, Image, Location, Status, Task, TaskType
from glancelike.notifications import image_payload
from glancelike.service import downloads, replication
from glancelike.service.context import Context
from glancelike.service.delivery import FAILED, IMPORTING_TO, deliver, names
from glancelike.service.ingest import (
    discard,
    writable,
)
from glancelike.service.staging import IMPORT_TASK, StagedSubject, amend, current, staged_source
from glancelike.service.tasks import Job, submit

LOG = logging.getLogger(__name__)

METHODS = ("glance-direct", "web-download", "copy-image", "glance-download")


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What a caller asks an import to do.

    ``stores`` None means the default one, or all with ``all_stores``.
    ``parameters`` are the method's own.
    """

    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    stores: tuple[str, ...] | None = None
    all_stores: bool = False
    all_stores_must_succeed: bool = True

    def body(self) -> dict[str, Any]:
        """Return the request as the Image API writes it."""
        body: dict[str, Any] = {
            "method": {"name": self.method, **self.parameters},
            "all_stores_must_succeed": self.all_stores_must_succeed,
        }
        if self.all_stores:
            body["all_stores"] = True
        if self.stores is not None:
            body["stores"] = list(self.stores)
        return body


# In the request


def start(
    context: Context,
    caller: Caller,
    image_id: str,
    request: ImportRequest,
    *,
    kind: TaskType = TaskType.IMAGE_IMPORT,
    given: Mapping[str, Any] | None = None,
) -> Task | None:
    """Check the request, take the image and put the work into the queue.

    Returns None when there is nothing to do. ``given`` is shown as the
    task's input. Raises InvalidInput, Conflict, Forbidden, ForbiddenUrl.
    """
    if request.method not in context.settings.enabled_import_methods:
        raise InvalidInput(f"Unknown import method name '{request.method}'.")
    image = context.get(caller, image_id)
    copying = request.method == "copy-image"
    context.policy.check(caller, "copy_image" if copying else "modify_image", image)
    _check_state(image, request.method)
    downloads.check(context, request.method, request.parameters)
    targets = _targets(context, image, request)
    if not targets:
        return None
    shown = given or {"image_id": image_id, "import_req": request.body(), "backend": list(targets)}

    context.quotas.check(
        image.owner, Amounts(total=(image.size or 0) * len(targets)), name=f"import:{image_id}"
    )
    counts = Amounts(uploading=1 if image.status is Status.QUEUED else 0)

    def attach(task: Task) -> None:
        with context.quotas.admitted(image.owner, counts, name=f"importing:{image_id}") as begun:
            context.amend(
                image_id, lambda fresh: _taken(fresh, request, task, targets), settles=begun.settles
            )

    return submit(
        context,
        caller,
        kind,
        image_id=image_id,
        given=shown,
        hidden={"import_req": request.body(), "backend": list(targets)},
        credentials=request.method == "glance-download" or context.needs_token(image),
        attach=attach,
    )


def _check_state(image: Image, method: str) -> None:
    if method == "copy-image":
        if image.status is not Status.ACTIVE:
            raise Conflict("Only images with status active can be targeted for copying")
    elif image.status is Status.ACTIVE:
        raise Conflict("Image with status active cannot be target for import")
    elif method == "glance-direct":
        if image.status is not Status.UPLOADING or image.staged is None:
            raise Conflict("Image needs to be staged before 'glance-direct' method can be used")
    elif image.status is not Status.QUEUED:
        raise Conflict(f"Image needs to be in 'queued' state to use '{method}' method")
    for name in ("container_format", "disk_format"):
        if not getattr(image, name):
            raise Conflict(f"'{name}' needs to be set before import")


def _targets(context: Context, image: Image, request: ImportRequest) -> tuple[str, ...]:
    """Return the stores to write to; for a copy those that don't have the image yet."""
    if request.all_stores:
        stores = tuple(mount.id for mount in context.mounts if not mount.read_only)
    else:
        stores = tuple(dict.fromkeys(request.stores or (context.mounts.default,)))
    for store in stores:
        try:
            writable(context, store)
        except UnknownStore as error:
            raise Conflict(f"Store {store!r} isn't available for import") from error
    if request.method != "copy-image":
        return stores
    present = {location.store for location in image.locations}
    if not request.all_stores and present & set(stores):
        raise InvalidInput(f"Image is already present at store '{sorted(present & set(stores))[0]}'")
    return tuple(store for store in stores if store not in present)


def _taken(image: Image, request: ImportRequest, task: Task, targets: Iterable[str]) -> Image:
    """Return the image as the task's own; raise Conflict when it is another's."""
    if IMPORT_TASK in image.properties:
        raise Conflict(
            f"New operation on image '{image.id}' is not permitted as prior operation is still in progress"
        )
    _check_state(image, request.method)
    marks = {IMPORT_TASK: task.id, IMPORTING_TO: ",".join(sorted(targets)), FAILED: ""}
    taken = replace(image, properties={**image.properties, **marks})
    return taken if request.method == "copy-image" else lifecycle.move(taken, Status.IMPORTING)


def start_legacy(context: Context, caller: Caller, given: Mapping[str, Any]) -> Task:
    """Create an image and import it from a URL: POST /v2/tasks of type ``import``.

    It goes through the very checks of web-download: there is no second way
    around them. Raises as ``start`` and the creation of images do.
    """
    from glancelike.service import deletion, images

    context.policy.check(caller, "tasks_api_access")
    for name in ("import_from", "import_from_format", "image_properties"):
        if name not in given:
            raise InvalidInput(f"Input does not contain '{name}' field")
    values = given["image_properties"]
    if not isinstance(values, Mapping):
        raise InvalidInput("image_properties must be an object")
    parameters = {"uri": given["import_from"]}
    downloads.check(context, "web-download", parameters)
    formats = {"disk_format": given["import_from_format"], "container_format": "bare"}
    image = images.create(context, caller, {**formats, **values})
    try:
        task = start(
            context,
            caller,
            image.id,
            ImportRequest("web-download", parameters),
            kind=TaskType.IMPORT,
            given=given,
        )
    except BaseException:
        deletion.delete(context, caller, image.id)
        raise
    assert task is not None  # noqa: S101 - an import into a new image has a target
    return task


# In the task


def run(job: Job) -> Mapping[str, Any]:
    """Bring the image's data into its stores; the handler of import tasks."""
    request = job.hidden["import_req"]
    method = dict(request["method"])
    name = method.pop("name")
    targets = tuple(job.hidden["backend"])
    must_succeed = bool(request["all_stores_must_succeed"])
    try:
        if name == "copy-image":
            deliver(job, targets, None, must_succeed=must_succeed)
        else:
            if current(job).staged is None and not current(job).locations:
                downloads.fetch(job, name, method)
            _process(job)
            deliver(job, targets, staged_source, must_succeed=must_succeed)
        _conclude(job)
    except ImageNotFound:
        raise GlancelikeError(f"Image {job.task.image_id} was deleted during its import") from None
    return {"image_id": job.task.image_id}


def _process(job: Job) -> None:
    """Let the import plugins work on the staged data, before any store has it."""
    if not current(job).locations:
        for plugin in job.context.import_plugins:
            job.confirm()
            plugin.process(StagedSubject(job))


def _conclude(job: Job) -> None:
    """Make the image active and its own again; drop the staged data."""
    staged: Location | None = None

    def change(image: Image) -> Image:
        nonlocal staged
        staged = image.staged
        properties = {key: value for key, value in image.properties.items() if key != IMPORT_TASK}
        done = replace(image, staged=None, properties=properties)
        return lifecycle.move(done, Status.ACTIVE) if image.status is Status.IMPORTING else done

    was = current(job).status
    done = amend(job, change)
    if was is Status.IMPORTING:
        job.context.notify("image.activate", image_payload(done))
    if staged is not None:
        discard(job.context, staged)
    replication.wanted(job.context, done)


def undo(job: Job) -> None:
    """Take back what a failed import did to its image.

    Of a copy that had to reach all stores nothing is kept; else what did
    arrive is good.
    """
    request = job.hidden["import_req"]
    copying = request["method"]["name"] == "copy-image"
    copied = tuple(job.hidden["backend"]) if copying and request["all_stores_must_succeed"] else ()
    try:
        abandoned(
            job.context,
            str(job.task.image_id),
            job.task.id,
            copied,
            lambda image: downloads.restored(image, job.notes),
        )
    except (ImageNotFound, InvalidTransition):
        LOG.info("image %s is gone, or another task's: nothing to undo", job.task.image_id)


def abandoned(
    context: Context,
    image_id: str,
    task_id: str | None,
    copied: tuple[str, ...] = (),
    restored: Callable[[Image], Image] = lambda image: image,
) -> None:
    """Free the image from its task.

    An image that was importing is queued again and without any data; one
    that is active loses its copies in the stores ``copied``.
    """
    dropped: list[Location] = []

    def change(image: Image) -> Image:
        if image.properties.get(IMPORT_TASK) != task_id:
            raise InvalidTransition(f"Image {image_id} isn't this task's any more")
        properties = {key: value for key, value in image.properties.items() if key != IMPORT_TASK}
        pending = {*names(properties.get(IMPORTING_TO, "")), *copied}
        properties[IMPORTING_TO] = ""
        properties[FAILED] = ",".join(sorted({*names(properties.get(FAILED, "")), *pending}))
        dropped.clear()
        if image.staged is not None:
            dropped.append(image.staged)
        freed = restored(replace(image, properties=properties, staged=None))
        if image.status is not Status.IMPORTING:
            gone = [location for location in image.locations if location.store in copied]
            dropped.extend(gone)
            return replace(freed, locations=tuple(each for each in image.locations if each not in gone))
        dropped.extend(image.locations)
        return lifecycle.move(
            freed,
            Status.QUEUED,
            locations=(),
            size=None,
            virtual_size=None,
            hash_algo=None,
            hash_value=None,
            checksum=None,
        )

    context.amend(image_id, change)
    for location in dropped:
        discard(context, location)
