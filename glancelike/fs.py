"""Images as an fsspec filesystem: ``glance://<name or id>``.

``fsspec.open("glance://ubuntu", service=images)`` reads an image's data
through the VFS, seekable; whatever speaks fsspec (pandas, dask, zip files)
can read from images. Read-only: images are immutable. Whoever opens one so has
fsspec installed; the extra of that name says which version will do.
https://filesystem-spec.readthedocs.io/en/latest/developer.html
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from fsspec.spec import AbstractFileSystem

from glancelike.errors import ConfigError, ImageNotFound, InvalidInput
from glancelike.model import Caller, Image, Query
from glancelike.service import ImageService
from glancelike.vfs import ImageFile


class GlanceFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The images that a caller sees, as one flat directory of names and ids.

    ``service`` is an opened ImageService, ``caller`` who asks (an
    administrator by default). Names that several images share are listed by
    id, and must be opened by it.
    """

    protocol = "glance"
    root_marker = ""
    cachable = False  # a service is no key of fsspec's instance cache

    def __init__(
        self, service: ImageService | None = None, caller: Caller | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if service is None:
            raise ConfigError("glance:// needs service=, an opened ImageService")
        self._service = service
        self._caller = caller or Caller.administrator()

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Describe an image; raise FileNotFoundError."""
        name = self._strip_protocol(path)
        if not name:
            return {"name": "", "size": 0, "type": "directory"}
        return self._entry(name, self._find(name))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """List the images; raise FileNotFoundError for a path that is none."""
        name = self._strip_protocol(path)
        if name:
            entries = [self.info(name)]
        else:
            images = self._all()
            names = Counter(image.name for image in images)
            entries = [
                self._entry(image.name if image.name and names[image.name] == 1 else image.id, image)
                for image in images
            ]
        return entries if detail else [entry["name"] for entry in entries]

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> ImageFile:
        if mode != "rb":
            raise OSError(f"images are read-only, so mode {mode!r} can't be")
        image = self._find(self._strip_protocol(path))
        return self._service.open_image(self._caller, image.id)

    def _find(self, name: str) -> Image:
        try:
            return self._service.find_image(self._caller, name)
        except (ImageNotFound, InvalidInput) as error:
            raise FileNotFoundError(str(error)) from error

    def _all(self) -> list[Image]:
        found: list[Image] = []
        marker: str | None = None
        while True:
            page = self._service.list_images(self._caller, Query(limit=1000, marker=marker))
            found.extend(page.images)
            marker = page.next_marker
            if marker is None:
                return found

    @staticmethod
    def _entry(name: str, image: Image) -> dict[str, Any]:
        return {
            "name": name,
            "size": image.size,
            "type": "file",
            "id": image.id,
            "created": image.created_at,
            "mtime": image.updated_at,
        }
