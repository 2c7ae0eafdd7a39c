"""ImageService: one method per use case, no HTTP and no SQL.

Everything the server does is done through this class, so a program that
imports the library can do all that the API can. Values go in and come out;
who calls is always the first argument. The methods are thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from glancelike.cache import ImageCache
from glancelike.importing.base import ImportPlugin
from glancelike.model import (
    Caller,
    Change,
    Image,
    Member,
    MemberStatus,
    Page,
    Query,
    StoreInfo,
    Task,
    TaskPage,
    TaskQuery,
    TaskType,
    Upload,
    UploadKind,
)
from glancelike.notifications import Notifier
from glancelike.policy import Policy
from glancelike.registry.base import Registry
from glancelike.service import (
    copying,
    data,
    deletion,
    images,
    imports,
    location_import,
    locations,
    members,
    reaper,
    replication,
    resumable,
    staging,
    stores,
    tasks,
    upkeep,
    verification,
)
from glancelike.service.cache import CacheService, CacheState, Pruned
from glancelike.service.context import Context, Settings
from glancelike.service.data import Download
from glancelike.service.imports import ImportRequest
from glancelike.service.locations import Places
from glancelike.service.metadefs import MetadefService
from glancelike.service.quotas import LimitSource
from glancelike.service.resumable import Checksum
from glancelike.service.upkeep import Orphan
from glancelike.service.verification import Finding
from glancelike.signatures import Certificates
from glancelike.stores.base import Source
from glancelike.vfs import ImageFile, MountTable

__all__ = [
    "CacheState",
    "Checksum",
    "Download",
    "Finding",
    "ImageService",
    "ImportRequest",
    "Orphan",
    "Places",
    "Pruned",
    "Settings",
]

# What is done for each type of task.
HANDLERS: Mapping[TaskType, tasks.Handler] = {
    TaskType.IMAGE_IMPORT: tasks.Handler(imports.run, imports.undo),
    TaskType.IMPORT: tasks.Handler(imports.run, imports.undo),
    TaskType.LOCATION_IMPORT: tasks.Handler(location_import.run, location_import.undo),
    TaskType.REPLICATE: tasks.Handler(replication.run),
    TaskType.VERIFY: tasks.Handler(verification.run),
    TaskType.UPLOAD: resumable.HANDLER,
}


class ImageService:
    """The image service over one registry and any number of mounted stores."""

    def __init__(
        self,
        registry: Registry,
        mounts: MountTable,
        policy: Policy,
        settings: Settings,
        *,
        import_plugins: Sequence[ImportPlugin] = (),
        cache: ImageCache | None = None,
        limits: LimitSource | None = None,
        certificates: Certificates | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self._context = Context(
            registry,
            mounts,
            policy,
            settings,
            import_plugins=import_plugins,
            cache=cache,
            limits=limits,
            certificates=certificates,
            notifier=notifier,
        )
        replication.check(self._context)
        self.cache = CacheService(self._context)
        self.metadefs = MetadefService(self._context)
        self._runner: tasks.Runner | None = None

    @property
    def settings(self) -> Settings:
        """The limits and defaults the service was made with."""
        return self._context.settings

    def open(self) -> None:
        """Open registry and stores; raise what they raise, with all closed again."""
        self._context.open()

    def close(self) -> None:
        """Close everything; safe to call twice."""
        if self._runner is not None:
            self._runner.stop()
            self._runner = None
        self._context.close()

    def __enter__(self) -> ImageService:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def recognised(self, caller: Caller) -> Caller:
        """Return the caller, an administrator only if the policy says so."""
        return self._context.policy.recognised(caller)

    # Images

    def create_image(self, caller: Caller, values: Mapping[str, Any]) -> Image:
        """Create a queued image from the Image API's field names.

        ``values`` may hold ``id name visibility protected os_hidden owner
        disk_format container_format min_disk min_ram tags`` and custom
        properties. Raises InvalidInput (naming the field), ImageExists,
        Forbidden, ReadOnlyProperty, LimitExceeded.
        """
        return images.create(self._context, caller, values)

    def show_image(self, caller: Caller, image_id: str) -> Image:
        """Return an image the caller may see; raise ImageNotFound, Forbidden."""
        return images.show(self._context, caller, image_id)

    def find_image(self, caller: Caller, name_or_id: str) -> Image:
        """Return the image with this id, else the only visible one of this name.

        Raises ImageNotFound, or InvalidInput when several have the name.
        """
        return images.find(self._context, caller, name_or_id)

    def list_images(self, caller: Caller, query: Query | None = None) -> Page:
        """Return a page of images; raise InvalidMarker, InvalidInput, Forbidden."""
        return images.list_page(self._context, caller, query or Query())

    def update_image(self, caller: Caller, image_id: str, changes: Sequence[Change]) -> Image:
        """Apply all changes or none.

        Raises InvalidInput, Conflict (replace or remove of what isn't
        there), ReadOnlyProperty, Forbidden, LimitExceeded, ImageNotFound.
        """
        return images.update(self._context, caller, image_id, changes)

    def delete_image(self, caller: Caller, image_id: str) -> None:
        """Delete the record, then the bytes; raise ImageProtected, Forbidden.

        With the setting ``delayed_delete`` nobody sees the image from now
        on, but ``scrub`` does the deleting.
        """
        deletion.delete(self._context, caller, image_id)

    def deactivate_image(self, caller: Caller, image_id: str) -> Image:
        """Keep all but admins from downloading an active image; raise Forbidden.

        Nothing happens if it is deactivated already.
        """
        return images.deactivate(self._context, caller, image_id)

    def reactivate_image(self, caller: Caller, image_id: str) -> Image:
        """Undo ``deactivate_image``; raise Forbidden."""
        return images.reactivate(self._context, caller, image_id)

    def add_tag(self, caller: Caller, image_id: str, tag: str) -> None:
        """Add a tag; nothing happens if it is there."""
        images.add_tag(self._context, caller, image_id, tag)

    def remove_tag(self, caller: Caller, image_id: str, tag: str) -> None:
        """Remove a tag; raise TagNotFound."""
        images.remove_tag(self._context, caller, image_id, tag)

    # Data

    def upload(
        self,
        caller: Caller,
        image_id: str,
        source: Source,
        *,
        size: int | None = None,
        store: str | None = None,
    ) -> Image:
        """Store the image's data and make it active.

        ``size`` is exact where given; ``store`` a mounted store's id, else
        the default. On any error the image is ``queued`` again and nothing
        lies in the store. Raises InvalidTransition, ImageTooLarge,
        FormatMismatch, UnsafeImage, SizeMismatch, StoreError, and whatever
        ``source.read`` raises.
        """
        return data.upload(self._context, caller, image_id, source, size=size, store=store)

    def create_upload(
        self,
        caller: Caller,
        image_id: str,
        *,
        length: int | None,
        kind: UploadKind = UploadKind.PLAIN,
        joins: tuple[str, ...] = (),
        metadata: str = "",
        store: str | None = None,
    ) -> Upload:
        """Begin an upload in pieces, which goes on after whatever breaks it off.

        ``length`` may be None, and told later. Several partial uploads may
        be sent at once; a final one ``joins`` them, in this order, and makes
        the image active. The image stays ``queued`` until all bytes are
        there. Raises InvalidTransition, InvalidInput, ImageTooLarge,
        QuotaExceeded, Unsupported; for a final one also what ``upload``
        raises, and Conflict when a part isn't complete.
        """
        return resumable.create(
            self._context,
            caller,
            image_id,
            length=length,
            kind=kind,
            joins=joins,
            metadata=metadata,
            store=store,
        )

    def show_upload(self, caller: Caller, image_id: str, upload_id: str) -> Upload:
        """Return an upload in pieces, to go on at its ``offset``; raise UploadNotFound.

        That is binding: whoever still writes to the upload can't any more.
        """
        return resumable.show(self._context, caller, image_id, upload_id)

    def continue_upload(
        self,
        caller: Caller,
        image_id: str,
        upload_id: str,
        source: Source,
        *,
        offset: int,
        size: int | None = None,
        length: int | None = None,
        checksum: Checksum | None = None,
    ) -> Upload:
        """Take the next bytes of an upload, of any number; the last makes the image active.

        ``offset`` is where they go on, ``size`` exact where given. When the
        source breaks off, what came before is kept, but never what
        ``checksum`` couldn't be compared with. Of two at once the later
        goes on. Raises Conflict (wrong offset, taken over, complete),
        ChecksumMismatch, UploadNotFound; at the end also what ``upload``
        raises, and then the upload is gone, unless a store was away.
        """
        return resumable.take(
            self._context,
            caller,
            image_id,
            upload_id,
            source,
            offset=offset,
            size=size,
            length=length,
            checksum=checksum,
        )

    def delete_upload(self, caller: Caller, image_id: str, upload_id: str) -> None:
        """Give an upload up, with all its bytes; raise UploadNotFound, Conflict at its very end."""
        resumable.terminate(self._context, caller, image_id, upload_id)

    def create_presigned(
        self, caller: Caller, image_id: str, *, size: int, digest: str | None = None, store: str | None = None
    ) -> tuple[Upload, str, datetime]:
        """Return a URL by which the client itself writes the data to the store, and until when.

        ``digest``, as ``sha256:<hex>``, is what the data must have. Raises
        NotFound where that is off, Unsupported, and as ``create_upload``.
        """
        return resumable.presign(self._context, caller, image_id, size=size, digest=digest, store=store)

    def complete_presigned(self, caller: Caller, image_id: str, upload_id: str) -> Upload:
        """Make what was written the image's data.

        Raises Conflict when nothing was, SizeMismatch, and as
        ``continue_upload`` at its end.
        """
        return resumable.complete_presigned(self._context, caller, image_id, upload_id)

    def read(
        self,
        caller: Caller,
        image_id: str,
        *,
        offset: int = 0,
        length: int | None = None,
        prefer: Sequence[str] = (),
    ) -> Download:
        """Say how the data can be read best; see Download.

        ``prefer`` names stores to read from where they have the image.
        Raises NoImageData, Forbidden, InvalidRange, UnknownStore, StoreError.
        """
        return data.read(self._context, caller, image_id, offset=offset, length=length, prefer=prefer)

    def open_image(self, caller: Caller, image_id: str) -> ImageFile:
        """Open the data as a seekable binary file object with read-ahead."""
        return data.open_file(self._context, caller, image_id)

    # Import

    def stage(self, caller: Caller, image_id: str, source: Source, *, size: int | None = None) -> Image:
        """Keep data for a later import; the image becomes ``uploading``.

        Raises as ``upload``; the format is looked at when it is imported.
        """
        return staging.stage(self._context, caller, image_id, source, size=size)

    def import_image(self, caller: Caller, image_id: str, request: ImportRequest) -> Task | None:
        """Begin an import, which a runner of tasks does; None when nothing is to be done.

        Raises InvalidInput, ForbiddenUrl, Conflict, Forbidden, LimitExceeded.
        """
        return imports.start(self._context, caller, image_id, request)

    def image_tasks(self, caller: Caller, image_id: str) -> tuple[Task, ...]:
        """Return the tasks of an image, newest first."""
        return tasks.of_image(self._context, caller, image_id)

    # Tasks

    def create_task(self, caller: Caller, given: Mapping[str, Any]) -> Task:
        """Make an image from a URL: ``import_from``, ``import_from_format``, ``image_properties``."""
        return imports.start_legacy(self._context, caller, given)

    def show_task(self, caller: Caller, task_id: str) -> Task:
        """Return a task; raise TaskNotFound."""
        return tasks.show(self._context, caller, task_id)

    def list_tasks(self, caller: Caller, query: TaskQuery | None = None) -> TaskPage:
        """Return a page of tasks; raise InvalidMarker, InvalidInput, Forbidden."""
        return tasks.list_page(self._context, caller, query or TaskQuery())

    def run_tasks(self) -> int:
        """Work on tasks, here and now, until none is free; return how many were run."""
        return tasks.run_pending(self._context, HANDLERS)

    def start_tasks(self, threads: int, interval: float = 5.0) -> None:
        """Have threads work on tasks until the service is closed.

        They look every ``interval`` seconds for what other processes left,
        and at once for what this one puts into the queue.
        """
        self._runner = tasks.Runner(self._context, HANDLERS, threads=threads, interval=interval)
        self._runner.start()

    # Locations

    def places(self, caller: Caller, image: Image) -> Places:
        """Return where the image's data lies, as the caller may know it."""
        return locations.places(self._context, caller, image)

    def add_location(
        self, caller: Caller, image_id: str, url: str, validation: Mapping[str, str] | None = None
    ) -> Task:
        """Have a queued image's data be what lies at a URL.

        ``validation`` may hold ``os_hash_algo`` and ``os_hash_value``: then
        the image is active when the data turned out to have that digest,
        else at once. Raises InvalidInput, ForbiddenUrl, Conflict, Forbidden.
        """
        return location_import.add(self._context, caller, image_id, url, validation or {})

    def fetch_locations(self, caller: Caller, image_id: str) -> tuple[Mapping[str, Any], ...]:
        """Return the URLs and metadata of the locations, for services; raise Forbidden."""
        return location_import.fetch(self._context, caller, image_id)

    # Members

    def add_member(self, caller: Caller, image_id: str, project: str) -> Member:
        """Share an image whose visibility is ``shared``; raise MemberExists, Forbidden."""
        return members.add(self._context, caller, image_id, project)

    def show_member(self, caller: Caller, image_id: str, project: str) -> Member:
        """Return a member that the caller may see; raise MemberNotFound."""
        return members.show(self._context, caller, image_id, project)

    def list_members(self, caller: Caller, image_id: str) -> tuple[Member, ...]:
        """Return the members: all for the owner, the caller itself for a member."""
        return members.list_all(self._context, caller, image_id)

    def set_member_status(self, caller: Caller, image_id: str, project: str, status: MemberStatus) -> Member:
        """Accept or reject: only the member itself (or an admin) may."""
        return members.set_status(self._context, caller, image_id, project, status)

    def remove_member(self, caller: Caller, image_id: str, project: str) -> None:
        """Stop sharing; raise MemberNotFound, Forbidden."""
        members.remove(self._context, caller, image_id, project)

    # Stores and upkeep

    def stores(self, caller: Caller) -> tuple[StoreInfo, ...]:
        """Return the mounted stores, as anybody may know them."""
        return stores.listing(self._context, caller)

    def store_details(self, caller: Caller) -> tuple[StoreInfo, ...]:
        """Return the mounted stores with their types and properties; raise Forbidden."""
        return stores.details(self._context, caller)

    def remove_copy(self, caller: Caller, store: str, image_id: str) -> None:
        """Take an active image out of a store that isn't its only one.

        Raises Conflict (unknown store, image not active), NotFound (not in
        this store), Forbidden (its only one), BlobInUse.
        """
        stores.remove_copy(self._context, caller, store, image_id)

    def move_image(self, image_id: str, *, source: str, target: str) -> Image:
        """Move an image's data from one store to another, in one pass.

        For operators, who ask no policy. Raises ImageNotFound, Conflict,
        NotFound (not in this store), UnknownStore, Unsupported, BlobInUse.
        """
        return copying.move(self._context, image_id, source, target)

    def verify(
        self,
        *,
        image_id: str | None = None,
        store: str | None = None,
        repair: bool = False,
        rate: float = 0.0,
    ) -> Iterator[Finding]:
        """Read the copies of one image or of all in use, and say of each what it is.

        ``store`` limits it to the copies there, ``rate`` to bytes a second.
        With ``repair`` a bad or missing copy is made again from a good one.
        For operators, who ask no policy. Raises ImageNotFound, UnknownStore.
        """
        return verification.verify(self._context, image_id=image_id, store=store, repair=repair, rate=rate)

    def usage(self, caller: Caller) -> dict[str, dict[str, int]]:
        """Return ``usage`` and ``limit`` of what limits the caller's project, by resource.

        The resources are those of Keystone's unified limits, with sizes in
        MiB and -1 for no limit. Empty where nothing is limited.
        """
        return self._context.quotas.usage(caller.project)

    def reap(self) -> list[str]:
        """Return images whose data won't come to ``queued``; return their ids."""
        return reaper.reap(self._context)

    def look_after(self) -> None:
        """Do what has to be done now and then by some process: reap, drop what is old, begin rounds."""
        self.reap()
        self.scrub()
        resumable.look_after(self._context)
        self._context.registry.delete_expired_tasks()
        replication.look_after(self._context)
        verification.look_after(self._context)

    def scrub(self) -> list[str]:
        """Delete images whose delete has been pending for ``scrub_time``; return their ids."""
        return deletion.scrub(self._context)

    def restore_image(self, image_id: str) -> Image:
        """Bring back an image whose delete is pending.

        For operators, who ask no policy. Raises ImageNotFound, InvalidTransition.
        """
        return deletion.restore(self._context, image_id)

    def gc(self, *, grace_seconds: float = 3600.0, dry_run: bool = False) -> Iterator[Orphan]:
        """Remove blobs of ours that no record names, older than the grace time."""
        return upkeep.gc(self._context, grace_seconds=grace_seconds, dry_run=dry_run)
