"""The only door to the image service.

``HttpImages`` speaks the Image API v2, so a real Glance does as well;
``LibraryImages`` uses an opened glancelike service in the same process.
Both give values and verified files, and translate every foreign error:
ImageMissing, ImageUnusable, or ImageServiceDown (retryable).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from glancelike import errors
from glancelike.client import ImageClient
from glancelike.model import Caller as ImageCaller
from glancelike.verifier import Verifier
from novalite.errors import (
    ConfigError,
    Forbidden,
    ImageMissing,
    ImageServiceDown,
    ImageUnusable,
    Unsupported,
)
from novalite.model import Caller, ImageInfo

if TYPE_CHECKING:
    from glancelike.service import ImageService
    from novalite.config import GlanceSettings

_IMAGE_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")
_OPEN_TO_ALL = ("public", "community")


class Images(Protocol):
    """What the service and the compute worker need of images."""

    def open(self) -> None:
        """Get ready; no error when the image service is away just now."""

    def close(self) -> None:
        """Release everything."""

    def show(self, image_id: str, caller: Caller) -> ImageInfo:
        """Return an image the caller may see."""

    def fetch(self, image: ImageInfo, target: Path, check: Callable[[], None] = lambda: None) -> None:
        """Write the image's verified bytes to a file.

        ``check`` is called between blocks; what it raises ends the transfer.
        An OSError of the target passes.
        """


@runtime_checkable
class LocalImages(Protocol):
    """Images whose data may lie in a file of this host."""

    def files_of(self, image: ImageInfo) -> list[tuple[str, str]]:
        """Return where the data lies: a file store's id and the path in it, or "" and a whole path."""


def verifier_of(image: ImageInfo) -> Verifier:
    """Make what checks the image's bytes while they arrive."""
    algorithm, expected = image.hash_algo, image.hash_value
    if not (algorithm and expected):
        algorithm, expected = "md5", image.checksum
    return Verifier(image.id, size=image.size, algorithm=algorithm, expected=expected)


@contextmanager
def translated(image_id: str) -> Iterator[None]:
    """Turn the image service's errors into this package's."""
    try:
        yield
    except errors.Unsupported as error:
        raise Unsupported(str(error)) from error
    except (errors.NoImageData, errors.InvalidTransition) as error:
        raise ImageUnusable(str(error)) from error
    except errors.DataMismatch as error:
        raise ImageUnusable(str(error)) from error
    except (errors.NotFound, errors.Forbidden, errors.InvalidInput) as error:
        raise ImageMissing(f"image {image_id} not found") from error
    except errors.GlancelikeError as error:
        raise ImageServiceDown(f"image {image_id}: {error}") from error


class HttpImages:
    """An Image API v2 over HTTP.

    With a user name, HTTP Basic credentials are sent and the service sees
    them as its caller, so what a novalite caller may see is decided here, by
    the image's visibility, owner and members. A caller's token, where there
    is one and no user name, is passed on instead and the service decides.
    """

    def __init__(self, settings: GlanceSettings) -> None:
        self._settings = settings
        self._client: ImageClient | None = None

    def open(self) -> None:
        """Make the client; connections come when they're needed."""
        told = self._settings
        if told.cafile and not Path(told.cafile).is_file():
            raise ConfigError(f"[glance] cafile {told.cafile} isn't there")
        self._client = ImageClient(
            told.endpoint,
            basic=(told.username, told.password or "") if told.username else None,
            cafile=told.cafile,
            verify=not told.insecure,
            read_seconds=told.timeout,
            retries=told.num_retries,
        )

    def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def show(self, image_id: str, caller: Caller) -> ImageInfo:
        """Return an image the caller may see."""
        if not _IMAGE_ID.fullmatch(image_id):
            raise ImageMissing(f"image {image_id} not found")
        with translated(image_id):
            image = _image_of_json(self._opened().show_image(image_id, self._headers(caller)))
            if not self._may_see(image, caller):
                raise ImageMissing(f"image {image_id} not found")
        return image

    def fetch(self, image: ImageInfo, target: Path, check: Callable[[], None] = lambda: None) -> None:
        """Write the image's verified bytes to a file, resuming where it breaks."""
        with translated(image.id), target.open("wb") as file:
            self._opened().fetch(image.id, file, verifier_of(image), progress=lambda _moved: check())

    def read_range(self, image: ImageInfo, offset: int, length: int) -> bytes:
        """Return some of the image's bytes, unverified: ``length`` of them, or fewer, at least one.

        Raises Unsupported when the service gives images as a whole only.
        """
        with translated(image.id):
            return self._opened().read_range(image.id, offset, length, size=image.size)

    def tell_property(self, image: ImageInfo, name: str, value: str) -> None:
        """Set a property of the image; raise Forbidden when that isn't ours to do."""
        with translated(image.id):
            try:
                self._opened().change_property(image.id, name, value)
            except errors.Forbidden as error:
                raise Forbidden(str(error)) from error

    def files_of(self, image: ImageInfo) -> list[tuple[str, str]]:
        """Return the image's file locations, where the service shows locations: ours or Glance's."""
        with translated(image.id):
            told = self._opened().show_image(image.id)
        urls = [told.get("direct_url"), *(each.get("url") for each in told.get("locations") or ())]
        found = []
        for url in urls:
            parts = urlsplit(str(url or ""))
            if parts.scheme == "file":
                path = unquote(parts.path)
                found.append((parts.netloc, path.lstrip("/") if parts.netloc else path))
        return found

    def _opened(self) -> ImageClient:
        if self._client is None:
            raise ImageServiceDown("the image client isn't open")
        return self._client

    def _may_see(self, image: ImageInfo, caller: Caller) -> bool:
        by_token = caller.token and not self._settings.username
        if by_token or caller.admin or image.visibility in _OPEN_TO_ALL:
            return True
        if caller.project is None:
            return False
        if image.owner == caller.project:
            return True
        if image.visibility != "shared" or not _IMAGE_ID.fullmatch(caller.project):
            return False
        try:
            self._opened().show_member(image.id, caller.project, self._headers(caller))
        except errors.NotFound:
            return False
        return True

    def _headers(self, caller: Caller) -> dict[str, str]:
        headers = {}
        if caller.token and not self._settings.username:
            headers["X-Auth-Token"] = caller.token
        if caller.request_id:
            headers["X-Openstack-Request-Id"] = caller.request_id
        return headers


def _image_of_json(found: Mapping[str, Any]) -> ImageInfo:
    """Take what compute needs out of an Image API v2 record."""
    base = {
        "name": "name",
        "owner": "owner",
        "disk_format": "disk_format",
        "container_format": "container_format",
        "size": "size",
        "virtual_size": "virtual_size",
        "hash_algo": "os_hash_algo",
        "hash_value": "os_hash_value",
        "checksum": "checksum",
    }
    no_properties = {
        *base.values(),
        *("id", "status", "visibility", "min_disk", "min_ram", "tags", "self", "file", "schema"),
        *("created_at", "updated_at", "protected", "os_hidden", "stores", "locations", "direct_url"),
    }
    try:
        return ImageInfo(
            id=str(found["id"]),
            status=str(found["status"]),
            visibility=str(found.get("visibility") or "private"),
            min_disk=int(found.get("min_disk") or 0),
            min_ram=int(found.get("min_ram") or 0),
            properties={k: str(v) for k, v in found.items() if k not in no_properties and v is not None},
            **{ours: found.get(theirs) for ours, theirs in base.items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ImageServiceDown(f"the image service's answer lacks or garbles {error}") from error


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

    def files_of(self, image: ImageInfo) -> list[tuple[str, str]]:
        """Return the file in which a store of this process keeps the data."""
        with translated(image.id):
            path = self._service.read(self._caller(Caller.administrator()), image.id).path
        return [] if path is None else [("", str(path))]

    @staticmethod
    def _caller(caller: Caller) -> ImageCaller:
        return ImageCaller(caller.user, caller.project, caller.roles, caller.admin, caller.request_id)
