"""The two things the image commands work on: a service here, or a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Protocol

from glancelike.api.wire import image as record
from glancelike.client import DigestMismatch, ImageClient
from glancelike.errors import ImageNotFound, InvalidInput
from glancelike.model import Caller, Filter, Op, Query
from glancelike.service import ImageService
from glancelike.transfer import Transfer

Advance = Callable[[int], None]
Record = dict[str, Any]


class Backend(Protocol):
    """What the commands need; records are in the Image API's field names."""

    def __enter__(self) -> Backend: ...
    def __exit__(self, *exc: object) -> None: ...
    def create(self, values: Mapping[str, Any]) -> Record: ...
    def show(self, image_id: str) -> Record: ...
    def find(self, name_or_id: str) -> Record: ...
    def list(self, name: str | None) -> Iterator[Record]: ...
    def upload(
        self, image_id: str, source: BinaryIO, size: int | None, store: str | None, advance: Advance
    ) -> None: ...
    def save(self, image_id: str, target: BinaryIO, advance: Advance) -> None: ...
    def delete(self, image_id: str) -> None: ...


class Remote:
    """A server, over HTTP."""

    def __init__(self, url: str, basic: tuple[str, str] | None) -> None:
        self._client = ImageClient(url, basic=basic)

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    def create(self, values: Mapping[str, Any]) -> Record:
        return self._client.create_image(values)

    def show(self, image_id: str) -> Record:
        return self._client.show_image(image_id)

    def find(self, name_or_id: str) -> Record:
        try:
            return self._client.show_image(name_or_id)
        except ImageNotFound:
            found = list(self._client.list_images(name=name_or_id))
        if not found:
            raise ImageNotFound(f"No image has the name or id {name_or_id}")
        if len(found) > 1:
            raise InvalidInput(f"More than one image has the name {name_or_id}: use an id")
        return found[0]

    def list(self, name: str | None) -> Iterator[Record]:
        return self._client.list_images(**({"name": name} if name else {}))

    def upload(
        self, image_id: str, source: BinaryIO, size: int | None, store: str | None, advance: Advance
    ) -> None:
        self._client.upload(image_id, source, size=size, store=store, progress=advance)

    def save(self, image_id: str, target: BinaryIO, advance: Advance) -> None:
        self._client.download(image_id, target, progress=advance)

    def delete(self, image_id: str) -> None:
        self._client.delete_image(image_id)


class _Counted:
    """A source that reports how far it has been read."""

    def __init__(self, source: BinaryIO, advance: Advance) -> None:
        self._source = source
        self._advance = advance

    def read(self, size: int, /) -> bytes:
        block = self._source.read(size)
        self._advance(len(block))
        return block


class _Blocks:
    """An iterator of blocks, as a source."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks

    def read(self, size: int, /) -> bytes:
        return next(self._blocks, b"")


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

    def create(self, values: Mapping[str, Any]) -> Record:
        return record(self._service.create_image(self._caller, values))

    def show(self, image_id: str) -> Record:
        return record(self._service.show_image(self._caller, image_id))

    def find(self, name_or_id: str) -> Record:
        return record(self._service.find_image(self._caller, name_or_id))

    def list(self, name: str | None) -> Iterator[Record]:
        filters = (Filter("name", Op.EQ, name),) if name else ()
        marker: str | None = None
        while True:
            page = self._service.list_images(self._caller, Query(filters=filters, limit=1000, marker=marker))
            yield from map(record, page.images)
            marker = page.next_marker
            if marker is None:
                return

    def upload(
        self, image_id: str, source: BinaryIO, size: int | None, store: str | None, advance: Advance
    ) -> None:
        self._service.upload(self._caller, image_id, _Counted(source, advance), size=size, store=store)

    def save(self, image_id: str, target: BinaryIO, advance: Advance) -> None:
        data = self._service.read(self._caller, image_id)
        algorithm = data.image.hash_algo
        with Transfer(_Blocks(data.chunks()), algorithms=(algorithm,) if algorithm else ()) as transfer:
            while block := transfer.read(0):
                target.write(block)
                advance(len(block))
            digests = transfer.finish().digests
        if algorithm and digests[algorithm] != data.image.hash_value:
            raise DigestMismatch(f"image {image_id}: its data isn't what was uploaded ({algorithm} differs)")

    def delete(self, image_id: str) -> None:
        self._service.delete_image(self._caller, image_id)
