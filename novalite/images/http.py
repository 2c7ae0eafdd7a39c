"""Images of an Image API v2: ours or Glance's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from glancelike import errors
from glancelike.client import TOKEN, ImageClient, Tokens
from novalite.errors import ConfigError, Forbidden, ImageMissing, ImageServiceDown
from novalite.images import Check, CheckedFile, changing, translated, verifier_of
from novalite.model import Caller, ImageInfo

if TYPE_CHECKING:
    from novalite.config import GlanceSettings

_IMAGE_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")
_OPEN_TO_ALL = ("public", "community")


class HttpImages:
    """An Image API v2 over HTTP.

    With HTTP Basic credentials the service sees us as its caller, so what
    a novalite caller may see is decided here, by the image's visibility,
    owner and members. Otherwise a caller's token, where there is one, is
    passed on and the service decides. The workers, and callers without a
    token, use one of our own, from Keystone, where ``auth_type`` says how.
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
            basic=told.basic,
            tokens=_tokens(told) if told.auth_type else None,
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

    def create(self, values: Mapping[str, Any], caller: Caller) -> str:
        """Make an image without data for the caller."""
        owner = {} if self._passes_on(caller) else {"owner": caller.project}
        with changing("a new image"):
            made = self._opened().create_image({**values, **owner}, self._headers(caller))
        return str(made["id"])

    def upload(self, image_id: str, source: Path, values: Mapping[str, Any], check: Check) -> None:
        """Set ``values`` and make a file the image's data."""
        client = self._opened()
        with changing(f"image {image_id}"):
            if client.show_image(image_id)["status"] == "active":
                return
            client.update_image(image_id, values)
            with source.open("rb") as file:
                client.upload(image_id, CheckedFile(file, check), size=source.stat().st_size)

    def delete(self, image_id: str, *, unless_filled: bool = False) -> None:
        """Remove an image, or leave it if it has data and shouldn't; no error when it's gone."""
        client = self._opened()
        with suppress(ImageMissing), changing(f"image {image_id}"):
            if not (unless_filled and client.show_image(image_id)["status"] == "active"):
                client.delete_image(image_id)

    def with_properties(self, **properties: str) -> tuple[str, ...]:
        """Return the ids of the images with all of the properties, newest first."""
        with changing("a list of images"):
            found = list(self._opened().list_images(sort_key="created_at", sort_dir="desc", **properties))
        return tuple(str(image["id"]) for image in found)

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
                self._opened().update_image(image.id, {name: value})
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
        if self._passes_on(caller) or caller.admin or image.visibility in _OPEN_TO_ALL:
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

    def _passes_on(self, caller: Caller) -> bool:
        """Tell whether the service sees whose request it is, by a token of its own."""
        return bool(caller.token) and self._settings.basic is None

    def _headers(self, caller: Caller) -> dict[str, str]:
        headers = {}
        if caller.token and self._passes_on(caller):
            headers[TOKEN] = caller.token
        if caller.request_id:
            headers["X-Openstack-Request-Id"] = caller.request_id
        return headers


def _tokens(told: GlanceSettings) -> Tokens:
    """Make what gives us tokens of our own; raise ConfigError."""
    from glancelike.keystone_tokens import KeystoneTokens

    verify = False if told.insecure else told.cafile or True
    try:
        return KeystoneTokens(str(told.auth_type), told.auth, section="glance", verify=verify)
    except (errors.ConfigError, errors.PluginError) as error:
        raise ConfigError(str(error)) from error


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
