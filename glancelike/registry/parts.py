"""What a registry keeps besides images: tasks, uploads, quotas, cached images, metadata definitions.

Part of the contract of ``registry.base``, whose clauses hold here too: one
method is one transaction, values in and out, compare-and-set on
``version``, text equal only to itself, thread-safe.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from glancelike.errors import RegistryError
from glancelike.model import (
    Amounts,
    CachedImage,
    Image,
    Member,
    Namespace,
    NamespacePage,
    NamespaceQuery,
    Task,
    TaskPage,
    TaskQuery,
    Upload,
    UploadState,
    Viewer,
)

TASK_LEASE = "task:"  # before a task's id: the lease of whoever works on it
F = TypeVar("F", bound=Callable[..., Any])


def reads(method: F) -> F:
    """Mark a method of the contract that changes nothing: it may be asked again."""
    method.reads = True  # type: ignore[attr-defined]
    return method


class TaskRecords(ABC):
    """Tasks: a queue in the database that any process may work on.

    Whoever works on a task holds the lease ``TASK_LEASE + id``; a task that
    isn't finished and whose lease is free is to be taken up by anybody.
    """

    @abstractmethod
    def create_task(self, task: Task) -> Task:
        """Add a task; ``version`` becomes 1. Raises InvalidInput."""

    @reads
    @abstractmethod
    def get_task(self, task_id: str) -> Task:
        """Return one task; raise TaskNotFound."""

    @reads
    @abstractmethod
    def list_tasks(self, query: TaskQuery) -> TaskPage:
        """Return one page; raise InvalidMarker, InvalidInput.

        Sorting and paging are as stable as those of images.
        """

    @abstractmethod
    def update_task(self, task: Task, *, expect: int) -> Task:
        """Replace the task if its version is ``expect``; raise StaleTask, TaskNotFound.

        Everything but ``id``, ``created_at``, ``updated_at`` and ``version``
        is taken from ``task``.
        """

    @abstractmethod
    def delete_task(self, task_id: str) -> None:
        """Remove a task; raise TaskNotFound."""

    @reads
    @abstractmethod
    def runnable_tasks(self, limit: int) -> tuple[Task, ...]:
        """Return unfinished tasks that nobody holds the lease of, oldest first."""

    @abstractmethod
    def delete_expired_tasks(self, limit: int = 1000) -> int:
        """Remove finished tasks whose ``expires_at`` is past; return how many."""


class UploadRecords(ABC):
    """Uploads in pieces. Those of an image go with it, in the transaction of its delete."""

    @abstractmethod
    def create_upload(self, upload: Upload) -> Upload:
        """Add an upload; ``version`` becomes 1. Raises ImageNotFound, InvalidInput."""

    @reads
    @abstractmethod
    def get_upload(self, upload_id: str) -> Upload:
        """Return one upload; raise UploadNotFound."""

    @abstractmethod
    def update_upload(self, upload: Upload, *, expect: int) -> Upload:
        """Replace the upload if its version is ``expect``; raise StaleUpload, UploadNotFound.

        Everything but ``id``, ``image_id``, ``created_at`` and ``version``
        is taken from ``upload``.
        """

    @abstractmethod
    def delete_upload(self, upload_id: str, *, expect: int) -> None:
        """Remove an upload; raise StaleUpload, UploadNotFound."""

    @reads
    @abstractmethod
    def uploads_of(self, image_ids: Iterable[str]) -> tuple[Upload, ...]:
        """Return the uploads of the images, oldest first."""

    @reads
    @abstractmethod
    def expired_uploads(self, limit: int) -> tuple[Upload, ...]:
        """Return uploads whose ``expires_at`` is past, oldest first, but those that are finishing."""

    @reads
    @abstractmethod
    def uploads_in(self, state: UploadState, limit: int) -> tuple[Upload, ...]:
        """Return uploads in a state, oldest first."""


class QuotaRecords(ABC):
    """What a project uses, and what it has reserved for work under way.

    A reservation keeps the sum exact under concurrency: it is made in one
    transaction with the look at what is used, under a lock per project, and
    given back once the image's own record counts what came of it. One whose
    time has run out (its maker died) counts no more.
    """

    @reads
    @abstractmethod
    def usage(self, project: str) -> Amounts:
        """Return what the project's images use, without reservations.

        Images that are deleted, or whose delete is pending, don't count.
        """

    @abstractmethod
    def reserve(
        self, name: str, project: str, amounts: Amounts, limits: Mapping[str, int], seconds: float
    ) -> None:
        """Reserve amounts, or raise QuotaExceeded and reserve nothing.

        ``limits`` maps fields of Amounts to the most that the project may
        have; a field that is missing, or below 0, has no limit. Other
        projects' and other names' reservations count; one of the same name
        is replaced, so a reservation can grow. A field of which nothing is
        asked for is not checked.
        """

    @abstractmethod
    def extend_reservations(self, names: Iterable[str], seconds: float) -> None:
        """Keep reservations for that much longer; unknown names are ignored."""

    @abstractmethod
    def release_reservation(self, name: str) -> None:
        """Give a reservation back; no error when it isn't there."""


class CacheRecords(ABC):
    """Which node has which image in its local cache."""

    @abstractmethod
    def put_cached(self, cached: CachedImage) -> None:
        """Add or replace what one node says of one image."""

    @abstractmethod
    def delete_cached(self, node: str, image_ids: Iterable[str]) -> None:
        """Forget images of a node; unknown ones are ignored."""

    @reads
    @abstractmethod
    def cached_nodes(self, image_id: str) -> tuple[str, ...]:
        """Return the nodes that have the image, sorted."""


class MetadefRecords(ABC):
    """Namespaces of metadata definitions, each one document.

    A viewer sees public namespaces and its own project's; an admin all.
    What isn't visible raises NamespaceNotFound, as if it weren't there.
    """

    @abstractmethod
    def create_namespace(self, namespace: Namespace) -> Namespace:
        """Add a namespace; raise NamespaceExists when the name is taken by anybody."""

    @reads
    @abstractmethod
    def get_namespace(self, name: str, viewer: Viewer) -> Namespace:
        """Return a namespace; raise NamespaceNotFound."""

    @reads
    @abstractmethod
    def list_namespaces(self, query: NamespaceQuery, viewer: Viewer) -> NamespacePage:
        """Return one page; the marker is a namespace's name. Raises InvalidMarker.

        Of what is in a namespace only ``resource_types`` is filled in, so
        that a page takes no more than its rows. Sorting and paging are as
        stable as those of images.
        """

    @abstractmethod
    def update_namespace(self, name: str, namespace: Namespace, *, expect: int) -> Namespace:
        """Replace the namespace called ``name`` if its version is ``expect``.

        The new value may carry another name. Everything but ``created_at``,
        ``updated_at`` and ``version`` is taken from it. Raises
        StaleNamespace, NamespaceNotFound, NamespaceExists.
        """

    @abstractmethod
    def delete_namespace(self, name: str, *, expect: int) -> None:
        """Remove a namespace with all that is in it; raise as update does."""

    @reads
    @abstractmethod
    def resource_types(self) -> tuple[tuple[str, datetime, datetime], ...]:
        """Return each resource type that a namespace was ever associated with.

        As (name, created, updated), sorted by name. They stay when the last
        association goes.
        """


@dataclass(frozen=True, slots=True)
class Adopted:
    """An image of another registry with all that belongs to it.

    ``deleted_at`` is set for one of which only the id is to be kept.
    """

    image: Image
    members: tuple[Member, ...] = ()
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Purged:
    """How many records a purge removed."""

    images: int = 0
    tasks: int = 0
    leases: int = 0
    reservations: int = 0


class Upkeep(ABC):
    """What operators do to a registry."""

    def adopt(self, records: Sequence[Adopted]) -> frozenset[str]:
        """Add records of another registry as they are; return the ids that were added.

        All in one transaction; images whose id is or was in use are left
        out. Raises InvalidInput; RegistryError where a backend has no such
        thing.
        """
        raise RegistryError("this registry can't take over records: run it where the database is")

    @abstractmethod
    def purge(self, before: datetime, *, limit: int = 1000) -> Purged:
        """Remove what of deleted images is older than ``before``, and what has run out.

        An image's id stays taken for ever: only what the tombstone says
        besides is dropped. Call again until nothing is left.
        """
