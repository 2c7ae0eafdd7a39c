"""Images of a glancelike service in the same process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glancelike.model import Caller as ImageCaller
from glancelike.model import Change, ChangeOp, Filter, Op, Query
from novalite.errors import ImageMissing
from novalite.images import Check, CheckedFile, changing, translated, verifier_of
from novalite.model import Caller, ImageInfo

if TYPE_CHECKING:
    from glancelike.service import ImageService


class LibraryImages:
    """An opened glancelike service in this process; its owner closes it."""

    def __init__(self, service: ImageService) -> None:
        self._service = service

    def open(self) -> None:
        """Do nothing: the service is open."""

    def close(self) -> None:
        """Do nothing: the service is its owner's to close."""

    def show(self, image_id: str, caller: Caller) -> ImageInfo:
        """Return an image the caller may see."""
        with translated(image_id):
            image = self._service.show_image(self._caller(caller), image_id)
        return ImageInfo(
            id=image.id,
            name=image.name,
            status=str(image.status),
            owner=image.owner,
            visibility=str(image.visibility),
            disk_format=image.disk_format,
            container_format=image.container_format,
            size=image.size,
            virtual_size=image.virtual_size,
            min_disk=image.min_disk,
            min_ram=image.min_ram,
            hash_algo=image.hash_algo,
            hash_value=image.hash_value,
            checksum=image.checksum,
            properties=dict(image.properties),
        )

    def fetch(self, image: ImageInfo, target: Path, check: Callable[[], None] = lambda: None) -> None:
        """Write the image's verified bytes to a file."""
        verifier = verifier_of(image)
        with translated(image.id), target.open("wb") as file:
            download = self._service.read(self._caller(Caller.administrator()), image.id)
            for block in download.chunks():
                check()
                file.write(block)
                verifier.add(block)
            verifier.finish()

    def create(self, values: Mapping[str, Any], caller: Caller) -> str:
        """Make an image without data for the caller."""
        with changing("a new image"):
            return self._service.create_image(self._caller(caller), values).id

    def upload(self, image_id: str, source: Path, values: Mapping[str, Any], check: Check) -> None:
        """Set ``values`` and make a file the image's data."""
        worker = self._caller(Caller.administrator())
        with changing(f"image {image_id}"):
            if self._service.show_image(worker, image_id).status == "active":
                return
            changes = [Change(ChangeOp.ADD, (name,), value) for name, value in values.items()]
            self._service.update_image(worker, image_id, changes)
            with source.open("rb") as file:
                size = source.stat().st_size
                self._service.upload(worker, image_id, CheckedFile(file, check), size=size)

    def delete(self, image_id: str, *, unless_filled: bool = False) -> None:
        """Remove an image, or leave it if it has data and shouldn't; no error when it's gone."""
        worker = self._caller(Caller.administrator())
        with suppress(ImageMissing), changing(f"image {image_id}"):
            if not (unless_filled and self._service.show_image(worker, image_id).status == "active"):
                self._service.delete_image(worker, image_id)

    def with_properties(self, **properties: str) -> tuple[str, ...]:
        """Return the ids of the images with all of the properties, newest first."""
        filters = tuple(Filter(name, Op.EQ, value, is_property=True) for name, value in properties.items())
        query = Query(filters=filters, visibility="all", limit=1000)
        with changing("a list of images"):
            page = self._service.list_images(self._caller(Caller.administrator()), query)
        return tuple(image.id for image in page.images)

    def files_of(self, image: ImageInfo) -> list[tuple[str, str]]:
        """Return the file in which a store of this process keeps the data."""
        with translated(image.id):
            path = self._service.read(self._caller(Caller.administrator()), image.id).path
        return [] if path is None else [("", str(path))]

    @staticmethod
    def _caller(caller: Caller) -> ImageCaller:
        return ImageCaller(caller.user, caller.project, caller.roles, caller.admin, caller.request_id)
