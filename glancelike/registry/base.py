"""The registry backend contract: records of images, by values.

Values in, values out: no session or lazy attribute escapes. One method is
one transaction: it happens wholly or not at all, also after kill -9, and a
read sees no half of it. What every backend owes, and
``glancelike.testing.RegistryConformance`` checks:

1. ``update`` and ``delete`` are compare-and-set on ``Image.version``: of n
   racing writers with the same ``expect`` exactly one wins, the others get
   StaleImage and change nothing.
2. Visibility is decided in the query, never by filtering afterwards: an
   image the viewer may not see raises ImageNotFound, exactly as if it
   weren't there.
3. Paging by marker is stable under insertion and deletion: no image that
   existed all the while is skipped or shown twice. Ties of sort keys are
   broken by id, in the direction of the last key; ``None`` sorts first when
   ascending, text by code point. The marker must be visible to the viewer
   but need not match the filters.
4. An id is never used again, not even after ``delete``.
5. Text is stored as given and is equal only to itself (case, accents,
   blanks, Unicode forms), times are kept to the microsecond. What can't be
   stored raises InvalidInput naming the field; ``registry.values`` draws
   the line, the same for all.
6. A lease has one holder at a time and may be taken over once it has run
   out.
7. ``upgrade`` may run twice, and by two processes at once.
8. A backend is thread-safe after ``open()`` and never falsy.
9. A backend that is away raises RegistryUnavailable within its time limit.
"""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Iterable

from glancelike.model import Image, Member, Page, Query, Viewer
from glancelike.plugins import Plugin
from glancelike.registry.parts import (
    CacheRecords,
    MetadefRecords,
    QuotaRecords,
    TaskRecords,
    Upkeep,
    UploadRecords,
)

ADMIN = Viewer(admin=True)


class Step(enum.StrEnum):
    """What an upgrade beside running servers consists of, in this order."""

    EXPAND = "expand"  # add what newer code needs; older code goes on working
    MIGRATE = "migrate"  # bring rows into their new form
    CONTRACT = "contract"  # take away what only older code needs


class Registry(TaskRecords, UploadRecords, QuotaRecords, CacheRecords, MetadefRecords, Upkeep, Plugin):
    """Base class of registry backends, entry points ``glancelike.registries``.

    ``open`` connects and checks the schema; it raises RegistryUnavailable,
    SchemaOutdated or SchemaNewer. A newer schema is none to refuse as long as
    this code goes on working with it (``Step``).

    Who sees what (Image API reference): an admin everything; a project its
    own images of any visibility, public and community images of anybody,
    and ``shared`` images it is a member of (any member status, by id). What
    a listing shows by default is narrower: see ``model.Query``. An image
    whose delete is pending is seen only by a viewer that is told to.

    What is kept besides images is in ``registry.parts``.
    """

    def upgrade(self) -> None:
        """Bring the schema to what this code needs; may be called before ``open``."""

    def schema_version(self) -> tuple[str | None, str | None]:
        """Return the revision that the schema is at and the one this code needs.

        Both are None for a backend without a schema, the first also when
        there are no tables yet. May be called before ``open``.
        """
        return None, None

    def next_step(self) -> Step | None:
        """Return what an upgrade would have to do next, None when nothing is left.

        As long as it isn't EXPAND, this code works with the schema. May be
        called before ``open``.
        """
        return None

    def upgrade_by(self, step: Step) -> int:
        """Do one step of an upgrade; return how many revisions it ran or rows it moved.

        May be called before ``open``, beside running servers, and again after
        it was cut short. Raises SchemaOutdated when another step comes before
        it, SchemaNewer.
        """
        return 0

    @abstractmethod
    def create(self, image: Image, *, settles: str | None = None) -> Image:
        """Add a record; raise ImageExists when the id is or was in use.

        Times are taken from ``image``; ``version`` becomes 1. ``settles``
        names a reservation that the record counts for from now on: it is
        given back in the same transaction, and only if that succeeds.
        Raises LeaseLost when it has run out.
        """

    @abstractmethod
    def get(self, image_id: str, viewer: Viewer) -> Image:
        """Return the image; raise ImageNotFound when the viewer can't see it."""

    @abstractmethod
    def list(self, query: Query, viewer: Viewer) -> Page:
        """Return one page; raise InvalidMarker when the marker isn't visible.

        A field or property that an image lacks matches no filter, whatever
        the operator. Raises InvalidInput for a field, an operator or a
        value that filters and sorts don't know (``registry.values``).
        """

    @abstractmethod
    def update(self, image: Image, *, expect: int, settles: str | None = None) -> Image:
        """Replace the record if its version is ``expect``.

        Everything but ``id``, ``created_at``, ``updated_at`` and ``version``
        is taken from ``image``; the backend sets ``updated_at`` to now and
        ``version`` to ``expect + 1``. ``settles`` is as in ``create``.
        Raises StaleImage, ImageNotFound or LeaseLost.
        """

    @abstractmethod
    def delete(self, image_id: str, *, expect: int) -> None:
        """Remove the image, its members and uploads if its version is ``expect``.

        The id stays taken. Raises StaleImage or ImageNotFound.
        """

    @abstractmethod
    def locations_of(self, image_ids: Iterable[str]) -> dict[str, tuple[tuple[str, str], ...]]:
        """Map each of the given ids that is alive to its ``(store, key)`` pairs.

        The staged data is among them, and images whose delete is pending
        are alive. For garbage collection: one call for a batch of up to 1000 ids.
        """

    @abstractmethod
    def add_member(self, member: Member, *, limit: int = -1) -> Member:
        """Share an image; raise MemberExists or ImageNotFound.

        With ``limit`` >= 0, LimitExceeded rather than more members than that.
        """

    @abstractmethod
    def get_member(self, image_id: str, project: str) -> Member:
        """Return one member; raise MemberNotFound."""

    @abstractmethod
    def list_members(self, image_id: str) -> tuple[Member, ...]:
        """Return all members of an image, oldest first."""

    @abstractmethod
    def update_member(self, member: Member) -> Member:
        """Set the member's status and ``updated_at``; raise MemberNotFound."""

    @abstractmethod
    def delete_member(self, image_id: str, project: str) -> None:
        """Stop sharing; raise MemberNotFound."""

    # Leases: who works on what. Names are free, such as "upload:<image id>".

    @abstractmethod
    def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take the lease if it is free, run out, or the holder's own already."""

    @abstractmethod
    def renew_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Extend the lease; False when it isn't the holder's any more."""

    @abstractmethod
    def release_lease(self, name: str, holder: str) -> None:
        """Give the lease back; no error when it isn't the holder's."""

    @abstractmethod
    def leased(self, names: Iterable[str]) -> frozenset[str]:
        """Return those of the names whose lease is held and has not run out."""
