"""The other thing the image commands work on: the service, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from glancelike.api import wire
from glancelike.cli_backend import Advance, Record
from glancelike.model import Caller, Filter, Image, Op, Query
from glancelike.service import ImageService
from glancelike.verifier import Verifier


class _Counted:
    """A source that reports how far it has been read."""

    def __init__(self, source: BinaryIO, advance: Advance) -> None:
        self._source = source
        self._advance = advance

    def read(self, size: int, /) -> bytes:
        block = self._source.read(size)
        self._advance(len(block))
        return block


class Embedded:
    """The configured service, in this process, as an administrator."""

    def __init__(self, service: ImageService) -> None:
        self._service = service
        self._caller = Caller.administrator("admin")

    def __enter__(self) -> Embedded:
        self._service.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self._service.close()

    def _record(self, image: Image) -> Record:
        return wire.image(image, self._service.places(self._caller, image))

    def create(self, values: Mapping[str, Any]) -> Record:
        return self._record(self._service.create_image(self._caller, values))

    def show(self, image_id: str) -> Record:
        return self._record(self._service.show_image(self._caller, image_id))

    def find(self, name_or_id: str) -> Record:
        return self._record(self._service.find_image(self._caller, name_or_id))

    def list(self, name: str | None) -> Iterator[Record]:
        filters = (Filter("name", Op.EQ, name),) if name else ()
        marker: str | None = None
        while True:
            page = self._service.list_images(self._caller, Query(filters=filters, limit=1000, marker=marker))
            yield from map(self._record, page.images)
            marker = page.next_marker
            if marker is None:
                return

    def upload(
        self, image_id: str, source: BinaryIO, size: int | None, store: str | None, advance: Advance
    ) -> None:
        self._service.upload(self._caller, image_id, _Counted(source, advance), size=size, store=store)

    def save(self, image_id: str, target: BinaryIO, advance: Advance) -> None:
        data = self._service.read(self._caller, image_id)
        image = data.image
        verifier = Verifier(image_id, size=image.size, algorithm=image.hash_algo, expected=image.hash_value)
        for block in data.chunks():
            target.write(block)
            verifier.add(block)
            advance(len(block))
        verifier.finish()

    def delete(self, image_id: str) -> None:
        self._service.delete_image(self._caller, image_id)
