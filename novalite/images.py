"""The only door to the image service.

``HttpImages`` speaks the Image API v2, so a real Glance does as well;
``LibraryImages`` uses an opened glancelike service in the same process.
Both give values and verified files, and translate every foreign error:
ImageMissing, ImageUnusable, or ImageServiceDown (retryable).
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import urllib3

from novalite.errors import ConfigError, ImageMissing, ImageServiceDown, ImageUnusable
from novalite.model import MIB, Caller, ImageInfo

if TYPE_CHECKING:
    from glancelike.service import ImageService
    from novalite.config import GlanceSettings

LOG = logging.getLogger(__name__)
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


class _Verifier:
    """Counts and hashes what passes, and judges it at the end."""

    def __init__(self, image: ImageInfo) -> None:
        self._image = image
        algorithm, self._expected = image.hash_algo, image.hash_value
        if not (algorithm and self._expected):
            algorithm, self._expected = "md5", image.checksum
        self._algorithm = algorithm
        self.restart()

    def restart(self) -> None:
        """Forget what has passed."""
        self.size = 0
        try:
            self._hash: Any = hashlib.new(self._algorithm, usedforsecurity=False) if self._expected else None
        except ValueError as error:
            raise ImageUnusable(
                f"image {self._image.id}: its digest algorithm {self._algorithm} isn't known here"
            ) from error

    def add(self, block: bytes) -> None:
        self.size += len(block)
        if self._image.size is not None and self.size > self._image.size:
            raise ImageUnusable(f"image {self._image.id} is longer than its {self._image.size} bytes")
        if self._hash is not None:
            self._hash.update(block)

    def finish(self) -> None:
        image = self._image
        if image.size is not None and self.size != image.size:
            raise ImageUnusable(f"image {image.id} has {self.size} bytes, not {image.size}")
        if self._hash is not None and self._hash.hexdigest() != str(self._expected).lower():
            raise ImageUnusable(f"image {image.id}: its {self._algorithm} digest isn't {self._expected}")


class HttpImages:
    """An Image API v2 over HTTP.

    With a user name, HTTP Basic credentials are sent and the service sees
    them as its caller, so what a novalite caller may see is decided here, by
    the image's visibility, owner and members. A caller's token, where there
    is one and no user name, is passed on instead and the service decides.
    """

    def __init__(self, settings: GlanceSettings) -> None:
        self._settings = settings
        self._pool: urllib3.PoolManager | None = None

    def open(self) -> None:
        """Make the pool; connections come when they're needed."""
        told = self._settings
        if told.cafile and not Path(told.cafile).is_file():
            raise ConfigError(f"[glance] cafile {told.cafile} isn't there")
        self._pool = urllib3.PoolManager(
            maxsize=8,
            retries=False,
            timeout=urllib3.Timeout(connect=min(10.0, told.timeout), read=told.timeout),
            cert_reqs="CERT_NONE" if told.insecure else "CERT_REQUIRED",
            ca_certs=told.cafile,
        )

    def close(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            self._pool.clear()
            self._pool = None

    def show(self, image_id: str, caller: Caller) -> ImageInfo:
        """Return an image the caller may see."""
        if not _IMAGE_ID.fullmatch(image_id):
            raise ImageMissing(f"image {image_id} not found")
        image = _image_of_json(self._json(f"/v2/images/{image_id}", image_id, caller))
        if not self._may_see(image, caller):
            raise ImageMissing(f"image {image_id} not found")
        return image

    def fetch(self, image: ImageInfo, target: Path, check: Callable[[], None] = lambda: None) -> None:
        """Write the image's verified bytes to a file, resuming where it breaks."""
        verifier = _Verifier(image)
        failures = 0
        with target.open("wb") as file:
            while True:
                before = verifier.size
                try:
                    self._transfer(image, file, verifier, check)
                    if image.size is None or verifier.size >= image.size:
                        break
                    error: Exception | None = None
                except (urllib3.exceptions.HTTPError, ImageServiceDown) as caught:
                    error = caught
                # A connection that brought something was good: only vain ones count.
                failures = 0 if verifier.size > before else failures + 1
                why = error or f"the data ended at {verifier.size} of {image.size} bytes"
                if failures > self._settings.num_retries:
                    raise ImageServiceDown(f"image {image.id} can't be read: {why}") from error
                LOG.warning("image %s: %s; going on from byte %d", image.id, why, verifier.size)
                self._pause(failures, check)
            verifier.finish()

    def _transfer(
        self, image: ImageInfo, file: IO[bytes], verifier: _Verifier, check: Callable[[], None]
    ) -> None:
        """Read on from where ``verifier`` stands, as far as the connection carries."""
        offset = verifier.size
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = self._request(f"/v2/images/{image.id}/file", None, headers)
        try:
            if response.status == 200 and offset:  # no ranges here: all over again
                verifier.restart()
            elif response.status == 206:
                start = response.headers.get("Content-Range", "")
                if not re.match(rf"bytes {offset}-", start):
                    raise ImageServiceDown(f"asked for bytes {offset}-, got Content-Range {start!r}")
            elif response.status in (204, 403, 404, 409, 410):
                raise ImageUnusable(f"image {image.id} has no data to read ({response.status})")
            elif response.status != 200:
                raise ImageServiceDown(self._told(response))
            if file.tell() != verifier.size:
                file.seek(verifier.size)
                file.truncate()
            for block in response.stream(MIB):
                check()
                file.write(block)
                verifier.add(block)
        except BaseException:
            response.close()  # what is left of the body must not be drained
            raise
        finally:
            response.release_conn()

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
            self._json(f"/v2/images/{image.id}/members/{caller.project}", image.id, caller)
        except ImageMissing:
            return False
        return True

    def _json(self, path: str, image_id: str, caller: Caller) -> dict[str, Any]:
        failures = 0
        while True:
            try:
                response = self._request(path, caller, {"Accept": "application/json"})
                body = response.read(4 * MIB)
                response.release_conn()
                if response.status in (400, 403, 404):
                    raise ImageMissing(f"image {image_id} not found")
                if response.status != 200:
                    raise ImageServiceDown(self._told(response))
                found = json.loads(body)
                if not isinstance(found, dict):
                    raise ImageServiceDown(f"{self._settings.endpoint}: expected a JSON object")
                return found
            except (urllib3.exceptions.HTTPError, ImageServiceDown, ValueError) as error:
                failures += 1
                if failures > self._settings.num_retries:
                    raise ImageServiceDown(f"image service {self._settings.endpoint}: {error}") from error
                self._pause(failures)

    def _request(
        self, path: str, caller: Caller | None, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        if self._pool is None:
            raise ImageServiceDown("the image client isn't open")
        told = self._settings
        sent = {"User-Agent": "novalite", **headers}
        if told.username:
            sent.update(urllib3.make_headers(basic_auth=f"{told.username}:{told.password or ''}"))
        elif caller is not None and caller.token:
            sent["X-Auth-Token"] = caller.token
        if caller is not None and caller.request_id:
            sent["X-Openstack-Request-Id"] = caller.request_id
        return self._pool.request(
            "GET", told.endpoint + path, headers=sent, preload_content=False, decode_content=False
        )

    def _told(self, response: urllib3.BaseHTTPResponse) -> str:
        return f"image service {self._settings.endpoint} answered {response.status} {response.reason or ''}"

    @staticmethod
    def _pause(failures: int, check: Callable[[], None] = lambda: None) -> None:
        until = time.monotonic() + min(5.0, 0.1 * 2**failures)
        while (left := until - time.monotonic()) > 0:
            check()
            time.sleep(min(left, 0.2))


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
        with self._translated(image_id):
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
        verifier = _Verifier(image)
        with target.open("wb") as file, self._translated(image.id):
            download = self._service.read(self._caller(Caller.administrator()), image.id)
            for block in download.chunks():
                check()
                file.write(block)
                verifier.add(block)
        verifier.finish()

    @staticmethod
    def _caller(caller: Caller) -> Any:
        from glancelike.model import Caller as ImageCaller

        return ImageCaller(caller.user, caller.project, caller.roles, caller.admin, caller.request_id)

    @contextmanager
    def _translated(self, image_id: str) -> Iterator[None]:
        from glancelike import errors

        try:
            yield
        except (errors.NoImageData, errors.InvalidTransition) as error:
            raise ImageUnusable(f"image {image_id} has no data to read: {error}") from error
        except (errors.NotFound, errors.Forbidden, errors.InvalidInput) as error:
            raise ImageMissing(f"image {image_id} not found") from error
        except errors.GlancelikeError as error:
            raise ImageServiceDown(f"image {image_id}: {error}") from error
