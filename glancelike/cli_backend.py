"""What the image commands work on, and one such: a server, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Protocol

from glancelike.errors import ImageNotFound, InvalidInput

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
        from glancelike.client import ImageClient  # and so urllib3

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
