"""ImageService: one method per use case, no HTTP and no SQL.

Everything the server does is done through this class, so a program that
imports the library can do all that the API can. Values go in and come out;
who calls is always the first argument. The methods are thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from glancelike.model import (
    Caller,
    Change,
    Image,
    Member,
    MemberStatus,
    Page,
    Query,
    StoreInfo,
)
from glancelike.policy import Policy
from glancelike.registry.base import Registry
from glancelike.service import data, images, members, upkeep
from glancelike.service.context import Context, Settings
from glancelike.service.data import Download
from glancelike.service.upkeep import Orphan
from glancelike.stores.base import Source
from glancelike.vfs import ImageFile, MountTable

__all__ = ["Download", "ImageService", "Orphan", "Settings"]


class ImageService:
    """The image service over one registry and any number of mounted stores."""

    def __init__(self, registry: Registry, mounts: MountTable, policy: Policy, settings: Settings) -> None:
        self._context = Context(registry, mounts, policy, settings)

    @property
    def settings(self) -> Settings:
        """The limits and defaults the service was made with."""
        return self._context.settings

    def open(self) -> None:
        """Open registry and stores; raise what they raise, with all closed again."""
        self._context.open()

    def close(self) -> None:
        """Close everything; safe to call twice."""
        self._context.close()

    def __enter__(self) -> ImageService:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

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
        """Delete the record, then the bytes; raise ImageProtected, Forbidden."""
        images.delete(self._context, caller, image_id)

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

    def read(self, caller: Caller, image_id: str, *, offset: int = 0, length: int | None = None) -> Download:
        """Say how the data can be read best; see Download.

        Raises NoImageData, Forbidden, InvalidRange, StoreError.
        """
        return data.read(self._context, caller, image_id, offset=offset, length=length)

    def open_image(self, caller: Caller, image_id: str) -> ImageFile:
        """Open the data as a seekable binary file object with read-ahead."""
        return data.open_file(self._context, caller, image_id)

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
        """Return the mounted stores."""
        return data.stores(self._context, caller)

    def reap(self) -> list[str]:
        """Return images whose upload died to ``queued``; return their ids."""
        return data.reap(self._context)

    def gc(self, *, grace_seconds: float = 3600.0, dry_run: bool = False) -> Iterator[Orphan]:
        """Remove blobs of ours that no record names, older than the grace time."""
        return upkeep.gc(self._context, grace_seconds=grace_seconds, dry_run=dry_run)
