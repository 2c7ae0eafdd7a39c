"""Data that waits for its import: staged in a store, never served.

The staging area is a mount like any other, so with a shared one any
process of any host can go on with an import. The record names the blob
(``Image.staged``), like all data: bytes first, then the row.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from glancelike import lifecycle
from glancelike.errors import InvalidTransition, LeaseLost, NoImageData, NotFound, StoreFull
from glancelike.importing.base import Subject
from glancelike.model import Amounts, Caller, Image, Location, Source, Status
from glancelike.registry.base import ADMIN
from glancelike.service import fields
from glancelike.service.context import Context, upload_lease
from glancelike.service.ingest import ChunkSource, Stored, check_size_known, discard, ingested
from glancelike.service.tasks import Job, Progress
from glancelike.stores.base import Cap
from glancelike.transfer import Watcher

IMPORT_TASK = "os_glance_import_task"


def stage(context: Context, caller: Caller, image_id: str, source: Source, *, size: int | None) -> Image:
    """Take a queued image to uploading, with its data in the staging store."""
    if "glance-direct" not in context.settings.enabled_import_methods:
        raise NotFound("'glance-direct' method is not available at this site.")
    image = context.get(caller, image_id)
    context.policy.check(caller, "modify_image", image)
    check_size_known(context.mounts.staging, size)
    if image.status is not Status.UPLOADING or image.staged is not None:
        lifecycle.check(image, Status.UPLOADING)
    lease = upload_lease(image_id)
    holder = context.leases.acquire(lease)
    if holder is None:
        raise InvalidTransition(f"Image {image_id} is being uploaded by somebody else")

    def named(stored: Stored) -> Callable[[Image], Image]:
        def change(fresh: Image) -> Image:
            context.leases.confirm(lease, holder)
            if fresh.status is not Status.UPLOADING:
                raise LeaseLost(f"Image {image_id} is {fresh.status} by now")
            room.confirm(Amounts(staged=stored.outcome.size))
            return replace(fresh, staged=stored.location, size=stored.outcome.size)

        return change

    admitted = context.quotas.admitted
    try:
        # Looked at again: what is there to take over is known with the lease in hand.
        image = context.get(caller, image_id)
        with admitted(image.owner, Amounts(staged=size or 0), name=f"stage:{image_id}") as room:
            counts = Amounts(uploading=1 if image.status is Status.QUEUED else 0)
            with admitted(image.owner, counts, name=f"staging:{image_id}") as begun:
                context.amend(image_id, _begin, settles=begun.settles)
            watchers = room.watchers("staged", size)
            with (
                given_up(context, image_id, lease, holder),
                ingested(
                    context,
                    image,
                    context.mounts.staging,
                    source,
                    size=size,
                    algorithms=(),
                    watchers=watchers,
                ) as stored,
            ):
                return context.amend(image_id, named(stored), settles=room.settles)
    finally:
        context.leases.release(lease, holder)


def _begin(image: Image) -> Image:
    # With the lease in hand, "uploading" without data is what a dead one left.
    if image.status is Status.UPLOADING and image.staged is None:
        return image
    return lifecycle.move(image, Status.UPLOADING)


@contextmanager
def given_up(context: Context, image_id: str, lease: str, holder: str) -> Iterator[None]:
    """Return the image to queued when the block raises, unless somebody else has it by now."""
    try:
        yield
    except BaseException:
        context.give_up(image_id, lease, holder)
        raise


class StagedSubject(Subject):
    """The staged data of an import, for its plugins."""

    def __init__(self, job: Job) -> None:
        self.caller = job.caller
        self._job = job
        self._context = job.context

    @property
    def image(self) -> Image:
        return current(self._job)

    @property
    def size_cap(self) -> int:
        return self._context.settings.image_size_cap

    @contextmanager
    def source(self) -> Iterator[Source]:
        source = staged_source(self._context, self.image)
        try:
            yield source
        finally:
            source.close()

    @contextmanager
    def local(self) -> Iterator[Path]:
        image = self.image
        staged = staged_of(image)
        mount = self._context.mounts[staged.store]
        if Cap.LOCAL in mount.store.capabilities:
            yield mount.store.local_path(staged.key)
            return
        with self.workspace() as directory:
            path = directory / "image"
            try:
                with path.open("wb") as file:
                    for block in mount.store.read(staged.key):
                        file.write(block)
            except OSError as error:
                raise StoreFull(f"no local copy of the staged data: {error.strerror}") from error
            yield path

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        directory = tempfile.mkdtemp(
            prefix="glancelike-import-", dir=self._context.settings.import_work_directory
        )
        try:
            yield Path(directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def replace_data(
        self,
        source: Source,
        *,
        size: int | None,
        disk_format: str | None = None,
        container_format: str | None = None,
    ) -> None:
        def change(image: Image) -> Image:
            return replace(
                image,
                disk_format=disk_format or image.disk_format,
                container_format=container_format or image.container_format,
            )

        put(self._job, source, size=size, change=change)

    def set_properties(self, properties: Mapping[str, str]) -> None:
        settings = self._context.settings

        def change(image: Image) -> Image | None:
            changed = image
            for name, value in properties.items():
                changed = fields.assign(changed, name, value, settings)
            fields.check_limits(image, changed, settings)
            return None if changed == image else changed

        amend(self._job, change)

    def confirm(self) -> None:
        self._job.confirm()
        current(self._job)  # an image that was deleted needs no more work


def staged_of(image: Image) -> Location:
    """Return where the staged data is; raise NoImageData."""
    if image.staged is None:
        raise NoImageData(f"Image {image.id} has no staged data")
    return image.staged


def staged_source(context: Context, image: Image) -> ChunkSource:
    """Return the staged data as a source."""
    staged = staged_of(image)
    return ChunkSource(lambda: context.mounts[staged.store].store.read(staged.key))


def put(
    job: Job,
    source: Source,
    *,
    size: int | None,
    watchers: tuple[Watcher, ...] = (),
    algorithms: tuple[str, ...] = (),
    check: Callable[[Stored], None] = lambda stored: None,
    change: Callable[[Image], Image] = lambda image: image,
) -> Image:
    """Make the source the staged data of the job's image, in the place of what was there."""
    context = job.context
    image = current(job)
    before = image.staged
    with (
        context.quotas.admitted(
            image.owner, Amounts(staged=size or 0), name=f"stage:{image.id}:{job.task.id}"
        ) as room,
        ingested(
            context,
            image,
            context.mounts.staging,
            source,
            size=size,
            algorithms=algorithms,
            watchers=(*watchers, *room.watchers("staged", size), Progress(job, "staging", size)),
        ) as stored,
    ):
        check(stored)

        def named(fresh: Image) -> Image:
            room.confirm(Amounts(staged=stored.outcome.size))
            return replace(change(fresh), staged=stored.location, size=stored.outcome.size)

        new = amend(job, named, settles=room.settles)
    if before is not None:
        discard(context, before)
    return new


def current(job: Job) -> Image:
    """Return the job's image; raise LeaseLost when it is another task's by now."""
    return _ours(job, job.context.registry.get(str(job.task.image_id), ADMIN))


def amend(job: Job, change: Callable[[Image], Image | None], *, settles: str | None = None) -> Image:
    """Change the job's image by compare-and-set, under the task's lease."""

    def checked(fresh: Image) -> Image | None:
        _ours(job, fresh)
        job.confirm()
        return change(fresh)

    return job.context.amend(str(job.task.image_id), checked, settles=settles)


def _ours(job: Job, image: Image) -> Image:
    if image.properties.get(IMPORT_TASK) != job.task.id:
        raise InvalidTransition(f"Image {image.id} isn't this task's any more")
    return image
