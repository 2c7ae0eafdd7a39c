"""A small client of any Image API v2 server: ours, or a real Glance.

Only what a program needs to move images: records as the API's JSON, uploads
from a stream, downloads that are verified and go on where a broken
connection stopped.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote

import requests
from requests import RequestException

from glancelike.errors import (
    Conflict,
    Forbidden,
    GlancelikeError,
    ImageNotFound,
    InvalidInput,
    LimitExceeded,
    NoImageData,
    RegistryUnavailable,
    SizeMismatch,
)

BLOCK = 1 << 20
CONNECT_SECONDS = 10.0
# The longest silence of the server. It may have to hash or copy before it answers.
READ_SECONDS = 120.0
# A download starts over, from where it stopped, this many times in a row
# without a byte of progress.
ATTEMPTS = 5

Progress = Callable[[int], None]  # called with the bytes moved since the last call


class Unreachable(GlancelikeError):
    """The server can't be reached or doesn't answer."""

    code = "unreachable"
    retryable = True


class DigestMismatch(GlancelikeError):
    """The data that arrived isn't what the server's record says."""

    code = "digest-mismatch"


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


ERRORS: Mapping[int, type[GlancelikeError]] = {
    400: InvalidInput,
    401: Forbidden,
    403: Forbidden,
    404: ImageNotFound,
    409: Conflict,
    413: LimitExceeded,
    415: InvalidInput,
    503: RegistryUnavailable,
}


class ImageClient:
    """Talks to one server; a session a thread is the caller's business.

    ``url`` is the endpoint, with or without ``/v2``. ``basic`` is a user
    name and a password, ``token`` a Keystone token.
    """

    def __init__(
        self,
        url: str,
        *,
        basic: tuple[str, str] | None = None,
        token: str | None = None,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        root = url.rstrip("/").removesuffix("/v2")
        if not root.startswith(("http://", "https://")):
            raise InvalidInput(f"{url!r} is no http or https URL")
        self._root = f"{root}/v2"
        self._timeout = (CONNECT_SECONDS, read_seconds)
        self._session = requests.Session()
        # Proxies, netrc and the like are the caller's to choose, not the environment's.
        self._session.trust_env = False
        self._session.auth = basic
        self._session.headers["Accept"] = "application/json"
        if token:
            self._session.headers["X-Auth-Token"] = token

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def __enter__(self) -> ImageClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send a request; raise what the status means, or Unreachable."""
        try:
            answer = self._session.request(method, self._root + path, timeout=self._timeout, **kwargs)
        except RequestException as error:
            raise Unreachable(f"{method} {self._root}{path}: {error}") from error
        if answer.status_code < 400:
            return answer
        message = _message(answer)
        answer.close()
        kind = ERRORS.get(answer.status_code)
        if kind is None:
            kind = Unreachable if answer.status_code >= 500 else GlancelikeError
        raise kind(message)

    def create_image(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Create a queued image; return its record."""
        return dict(self._call("POST", "/images", json=dict(values)).json())

    def show_image(self, image_id: str) -> dict[str, Any]:
        """Return one record; raise ImageNotFound."""
        return dict(self._call("GET", f"/images/{_segment(image_id)}").json())

    def list_images(self, **params: str) -> Iterator[dict[str, Any]]:
        """Iterate over the records that match the API's query parameters."""
        query: dict[str, str] = dict(params)
        while True:
            page = self._call("GET", "/images", params=query).json()
            yield from page["images"]
            if "next" not in page or not page["images"]:
                return
            query = {**params, "marker": page["images"][-1]["id"]}

    def delete_image(self, image_id: str) -> None:
        """Delete an image and its data."""
        self._call("DELETE", f"/images/{_segment(image_id)}")

    def upload(
        self,
        image_id: str,
        source: Readable,
        *,
        size: int | None = None,
        store: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Send the image's data; without a size in chunked encoding."""
        headers = {"Content-Type": "application/octet-stream"}
        if store:
            headers["X-Image-Meta-Store"] = store
        body = _blocks(source, progress)
        request = requests.Request("PUT", f"{self._root}/images/{_segment(image_id)}/file", headers=headers)
        prepared = self._session.prepare_request(request)
        prepared.body = body  # type: ignore[assignment] # any iterable of bytes goes
        # requests takes a body it can't measure for an empty one.
        del prepared.headers["Content-Length"]
        if size is None:
            prepared.headers["Transfer-Encoding"] = "chunked"
        else:
            prepared.headers["Content-Length"] = str(size)
        try:
            answer = self._session.send(prepared, timeout=self._timeout)
        except RequestException as error:
            raise Unreachable(f"upload of image {image_id}: {error}") from error
        if answer.status_code >= 400:
            raise ERRORS.get(answer.status_code, Unreachable)(_message(answer))

    def download(self, image_id: str, target: BinaryIO, *, progress: Progress | None = None) -> int:
        """Write the image's data to ``target``; return its size in bytes.

        A broken connection is taken up again by Range. The digest of the
        record is verified; raises DigestMismatch, NoImageData, Unreachable.
        """
        record = self.show_image(image_id)
        size = record.get("size")
        if record.get("status") != "active" or size is None:
            raise NoImageData(f"Image {image_id} is {record.get('status')} and has no data")
        algorithm, expected = record.get("os_hash_algo"), record.get("os_hash_value")
        digest = hashlib.new(algorithm, usedforsecurity=False) if algorithm and expected else None
        done, stuck = 0, 0
        while done < size:
            before = done
            try:
                for block in self._data(image_id, done, size):
                    target.write(block)
                    done += len(block)
                    if digest is not None:
                        digest.update(block)
                    if progress is not None:
                        progress(len(block))
            except Unreachable:
                stuck = 0 if done > before else stuck + 1
                if stuck >= ATTEMPTS:
                    raise
                time.sleep(min(0.2 * 2**stuck, 5))
        if done != size:
            raise SizeMismatch(f"image {image_id} has {size} bytes, {done} arrived")
        if digest is not None and digest.hexdigest() != expected:
            raise DigestMismatch(
                f"image {image_id}: the {algorithm} of the data is {digest.hexdigest()}, "
                f"the record says {expected}"
            )
        return done

    def _data(self, image_id: str, offset: int, size: int) -> Iterator[bytes]:
        headers = {"Accept": "application/octet-stream", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-{size - 1}"
        answer = self._call("GET", f"/images/{_segment(image_id)}/file", headers=headers, stream=True)
        with answer:
            if offset and answer.status_code != 206:
                raise GlancelikeError(f"image {image_id}: the server can't continue at byte {offset}")
            try:
                yield from answer.iter_content(BLOCK)
            except RequestException as error:
                raise Unreachable(f"download of image {image_id}: {error}") from error


def _segment(text: str) -> str:
    return quote(text, safe="")


def _blocks(source: Readable, progress: Progress | None) -> Iterator[bytes]:
    while block := source.read(BLOCK):
        yield block
        if progress is not None:
            progress(len(block))


def _message(answer: requests.Response) -> str:
    """Find the text of an error in the forms that image servers use."""
    try:
        body = answer.json()
        text = body.get("message") or body["error"]["message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        text = answer.text.strip()[:500] or answer.reason
    return f"{text} (HTTP {answer.status_code})"
