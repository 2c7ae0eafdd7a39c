"""What has to be true of records and stores after the race, whoever was killed on the way."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from glancelike.errors import RegistryUnavailable
from glancelike.model import Amounts, Image, Status, TaskQuery, TaskStatus, utcnow
from glancelike.registry.base import Registry
from glancelike.registry.sql.tables import (
    DELETED,
    images,
    leases,
    locations,
    members,
    properties,
    reservations,
    tags,
    uploads,
)
from glancelike.service import ImageService
from glancelike.service.context import configured
from tests.soak.history import End, History, Step
from tests.soak.worker import ADMIN, EVERYTHING, LEASE_SECONDS, MARK, PROJECTS, data_of

PATIENCE = 60.0
DATA = frozenset({Status.ACTIVE, Status.DEACTIVATED})
MAYBE = (End.DONE, End.UNKNOWN)
Violation = str


class Watcher:
    """Looks all the time whether a project has more than it may."""

    def __init__(self, registry: Registry, limits: dict[str, int]) -> None:
        self.seen: list[Violation] = []
        self.samples = 0
        self._registry = registry
        self._limits = limits
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher")

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            for project in PROJECTS:
                try:
                    used = self._registry.usage(project)
                except RegistryUnavailable:
                    continue  # whoever is stopped may hold its lock for as long
                except Exception as error:
                    self.seen.append(f"usage of {project}: {error!r}")
                    return
                self.samples += 1
                self.seen += over(project, used, self._limits)


def over(project: str, used: Amounts, limits: dict[str, int]) -> Iterator[Violation]:
    """Say of what the project has too much."""
    for name, limit in limits.items():
        if getattr(used, name) > limit:
            yield f"{time.time():.4f}: {project} has {getattr(used, name)} of {name}, which may be {limit}"


def limits_of(service: ImageService) -> dict[str, int]:
    """Return the limits of each project, by fields of Amounts."""
    source = configured(service.settings)
    assert source is not None
    return dict(source.limits(PROJECTS[0]))


def settle(service: ImageService) -> Iterator[Violation]:
    """Finish what the processes left, as any server would; say what can't be finished."""
    deadline = time.monotonic() + PATIENCE
    while stuck := list(_under_way(service)):
        if time.monotonic() > deadline:
            yield from stuck
            return
        service.look_after()
        service.run_tasks()
        time.sleep(LEASE_SECONDS / 10)
    # Who was killed last still holds the lease of its upload, whose bytes gc leaves alone until it is over.
    time.sleep(1.2 * LEASE_SECONDS)
    for _orphan in service.gc(grace_seconds=0):
        pass


def _under_way(service: ImageService) -> Iterator[Violation]:
    for image in service.list_images(ADMIN, EVERYTHING).images:
        staged = image.status is Status.UPLOADING and image.staged is not None
        if image.status not in DATA | {Status.QUEUED} and not staged:
            yield f"image {image.id} stays {image.status}"
    for status in (TaskStatus.PENDING, TaskStatus.PROCESSING):
        for task in service.list_tasks(ADMIN, TaskQuery(status=status, limit=1000)).tasks:
            yield f"task {task.id} of image {task.image_id} stays {task.status}: {task.message}"


class Checks:
    """All checks, over the records as they are in the end."""

    def __init__(self, history: History, service: ImageService, engine: sa.Engine) -> None:
        self._history = history
        self._service = service
        self._registry = service._context.registry
        self._engine = engine
        self._images = {image.id: image for image in service.list_images(ADMIN, EVERYTHING).images}

    def all(self) -> Iterator[Violation]:
        """Say what isn't as it has to be."""
        yield from self._broken()
        for image_id in self._history.images():
            yield from self._existence(image_id)
            yield from self._winner(image_id)
        for image in self._images.values():
            yield from self._tokens(image)
            yield from self._name(image)
            yield from self._bytes(image)
        yield from self._stores()
        yield from self._quotas()
        yield from self._orphan_rows()
        yield from self._left_over()

    def _broken(self) -> Iterator[Violation]:
        for step in self._history.steps:
            if step.end is End.BROKEN:
                yield f"of image {step.image}: {step}"
            if step.what == "download" and "BlobNotFound" in step.error and not self._deleted_before(step):
                yield f"image {step.image} named data that wasn't there: {step}"

    def _deleted_before(self, step: Step) -> bool:
        deletes = self._history.select(str(step.image), "delete", end=MAYBE)
        return any(delete.began < (step.ended or 0) for delete in deletes)

    def _existence(self, image_id: str) -> Iterator[Violation]:
        created = self._history.select(image_id, "create", end=(End.DONE,))
        deleted = self._history.select(image_id, "delete", end=(End.DONE,))
        may_be_deleted = self._history.select(image_id, "delete", end=MAYBE)
        if len(created) > 1:
            yield f"image {image_id} was created {len(created)} times"
        if len(deleted) > 1:
            yield f"image {image_id} was deleted {len(deleted)} times"
        if deleted and image_id in self._images:
            yield f"image {image_id} is there, though it was deleted"
        if created and not may_be_deleted and image_id not in self._images:
            yield f"image {image_id} is gone, though nobody deleted it"

    def _winner(self, image_id: str) -> Iterator[Violation]:
        """Say whether two brought the data, or it is of none of those who may have."""
        won = self._history.select(image_id, "upload", end=(End.DONE,))
        if len(won) > 1:
            yield f"image {image_id} was uploaded {len(won)} times"
        image = self._images.get(image_id)
        if image is None:
            return
        if won and image.status not in DATA:
            yield f"image {image_id} is {image.status}, though it was uploaded"
        if image.status in DATA:
            brought = won or self._history.select(image_id, "upload", "stage", end=MAYBE)
            sizes = [(step.told["size"], _digest(step)) for step in brought]
            if (image.size, image.hash_value) not in sizes:
                yield f"image {image_id} has data that nobody brought: {image}"

    def _bytes(self, image: Image) -> Iterator[Violation]:
        if image.status not in DATA:
            if image.locations:
                yield f"image {image.id} is {image.status} and has data: {image}"
            return
        if len(image.locations) != 1:
            yield f"image {image.id} has {len(image.locations)} locations"
        data = b"".join(self._service.read(ADMIN, image.id).chunks())
        if (len(data), hashlib.sha256(data).hexdigest()) != (image.size, image.hash_value):
            yield f"image {image.id}: its record isn't true of its {len(data)} bytes: {image}"

    def _tokens(self, image: Image) -> Iterator[Violation]:
        found: dict[str, str | None] = {tag: tag for tag in image.tags}
        found |= {name: value for name, value in image.properties.items() if name.startswith("property-")}
        listed = self._registry.list_members(image.id)
        found |= {member.project: str(member.status) for member in listed}
        expected = {token: possible(steps) for token, steps in self._history.tokens(image.id).items()}
        for token, states in expected.items():
            if found.get(token) not in states:
                yield f"image {image.id}: {token} is {found.get(token)}, not {states}"
        for token in found.keys() - expected.keys():
            yield f"image {image.id}: nobody left {token}"

    def _name(self, image: Image) -> Iterator[Violation]:
        if image.name != image.properties.get(MARK):
            yield f"image {image.id} is half of one update: {image}"
        left = {name for name in image.properties if name.startswith("os_glance_import_task")}
        if left:
            yield f"image {image.id} is still a task's: {image}"

    def _stores(self) -> Iterator[Violation]:
        named = {(place.store, place.key): image for image in self._images.values() for place in image.blobs}
        stored = {
            (mount.id, blob.key)
            for mount in self._service._context.mounts.all()
            for blob in mount.store.list()
        }
        for place in stored - named.keys():
            yield f"{place} is named by no record"
        for place in named.keys() - stored:
            yield f"image {named[place].id}: {place} isn't there"

    def _quotas(self) -> Iterator[Violation]:
        for project in PROJECTS:
            own = [image for image in self._images.values() if image.owner == project]
            counted = Amounts(
                total=sum((image.size or 0) * len(image.locations) for image in own),
                staged=sum(image.size or 0 for image in own if image.staged is not None),
                images=len(own),
                uploading=sum(image.status is Status.UPLOADING for image in own),
            )
            used = self._registry.usage(project)
            if used != counted:
                yield f"{project} uses {counted}, the registry says {used}"
            yield from over(project, used, limits_of(self._service))

    def _orphan_rows(self) -> Iterator[Violation]:
        alive = sa.select(images.c.id).where(images.c.shelf != DELETED)
        with self._engine.connect() as connection:
            for table in (tags, properties, locations, members, uploads):
                column: Any = table.c.image_id
                rows = connection.scalars(sa.select(column).where(column.not_in(alive)).distinct())
                yield from (f"image {image_id} has no record but {table.name}" for image_id in rows)

    def _left_over(self) -> Iterator[Violation]:
        """Leases and reservations have run out by themselves; what a purge leaves is there for ever."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self._registry.purge(utcnow())
            with self._engine.connect() as connection:
                left = [
                    f"{table.name}: {row.name} until {row.expires_at}"
                    for table in (leases, reservations)
                    for row in connection.execute(sa.select(table))
                ]
            if not left or time.monotonic() > deadline:
                yield from left
                return
            time.sleep(LEASE_SECONDS / 10)


def possible(steps: list[Step]) -> set[str | None]:
    """Return what may have become of a token, None for nothing, by all that was done to it."""
    states: set[str | None] = {None}
    for step in steps:
        after = step.told.get("state")
        if step.end is End.DONE:
            states = {after}
        elif step.end is End.UNKNOWN:
            states.add(after)
    return states


def _digest(step: Step) -> str:
    return hashlib.sha256(data_of(step.told["data"], step.told["size"])).hexdigest()
