"""A small client of any Image API v2 server: ours, or a real Glance.

Only what a program needs to move images: records as the API's JSON, uploads
from a stream, downloads that are verified and go on where a broken
connection stopped. Thread-safe.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote, urlencode

import urllib3

from glancelike.errors import (
    Conflict,
    DataMismatch,
    Forbidden,
    GlancelikeError,
    ImageNotFound,
    InvalidInput,
    LimitExceeded,
    NoImageData,
    Unreachable,
    Unsupported,
)
from glancelike.model import Source
from glancelike.verifier import Verifier

LOG = logging.getLogger(__name__)

BLOCK = 1 << 20
LARGEST_RECORD = 4 << 20  # bytes of JSON
CONNECT_SECONDS = 10.0
# The longest silence of the server. It may have to hash or copy before it answers.
READ_SECONDS = 120.0
RETRIES = 4
POOL = 8

Progress = Callable[[int], None]  # called with the bytes moved since the last call


ERRORS: Mapping[int, type[GlancelikeError]] = {
    400: InvalidInput,
    401: Forbidden,
    403: Forbidden,
    404: ImageNotFound,
    409: Conflict,
    413: LimitExceeded,
    415: InvalidInput,
}
TOKEN = "X-Auth-Token"  # noqa: S105 - a header's name
NO_DATA = {204, 403, 404, 409, 410}
WITHHELD = {403, 409}  # of these, what may change again: an image that is deactivated, for example


class Tokens(Protocol):
    """Gives tokens to requests that don't bring one."""

    def token(self) -> str:
        """Return a token; raise Unreachable when there is none to be had."""

    def refused(self, token: str) -> None:
        """Take note that the server doesn't take a token any more; the next is another."""


class ImageClient:
    """Talks to one server.

    ``url`` is the endpoint, with or without ``/v2``. ``basic`` is a user
    name and a password. ``tokens`` are for requests whose ``headers`` have
    no token: a refused one is renewed once, and refused again it is
    Unreachable. ``cafile`` names the certificates to trust instead of the
    system's; ``verify=False`` takes any. What can be asked again without
    harm is, up to ``retries`` times in a row.
    """

    def __init__(
        self,
        url: str,
        *,
        basic: tuple[str, str] | None = None,
        tokens: Tokens | None = None,
        cafile: str | None = None,
        verify: bool = True,
        read_seconds: float = READ_SECONDS,
        retries: int = RETRIES,
    ) -> None:
        root = url.rstrip("/").removesuffix("/v2")
        if not root.startswith(("http://", "https://")):
            raise InvalidInput(f"{url!r} is no http or https URL")
        self.url = root
        self._retries = retries
        self._tokens = tokens
        headers = urllib3.make_headers(basic_auth=":".join(basic), user_agent="glancelike") if basic else {}
        self._pool = urllib3.PoolManager(
            maxsize=POOL,
            retries=False,
            headers=headers,
            timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, read_seconds), read=read_seconds),
            cert_reqs="CERT_REQUIRED" if verify else "CERT_NONE",
            ca_certs=cafile,
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def __enter__(self) -> ImageClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Records

    def create_image(
        self, values: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Create a queued image; return its record. ``headers`` are sent along."""
        headers = {**(headers or {}), "Content-Type": "application/json"}
        answer = self._call("POST", "/v2/images", headers, body=json.dumps(dict(values)).encode())
        return self._object(self._read(answer))

    def show_image(self, image_id: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return one record; raise ImageNotFound. ``headers`` are sent along."""
        return self._get(f"/v2/images/{_segment(image_id)}", headers)

    def show_member(
        self, image_id: str, project: str, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return one member; raise ImageNotFound when there is none."""
        return self._get(f"/v2/images/{_segment(image_id)}/members/{_segment(project)}", headers)

    def list_images(self, **params: str) -> Iterator[dict[str, Any]]:
        """Iterate over the records that match the API's query parameters."""
        query: dict[str, str] = dict(params)
        while True:
            page = self._get(f"/v2/images?{urlencode(query)}")
            yield from page["images"]
            if "next" not in page or not page["images"]:
                return
            query = {**params, "marker": page["images"][-1]["id"]}

    def update_image(self, image_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Set fields or properties of an image; return its record."""
        told = [
            {"op": "add", "path": "/" + name.replace("~", "~0").replace("/", "~1"), "value": value}
            for name, value in values.items()
        ]
        headers = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
        path = f"/v2/images/{_segment(image_id)}"
        return self._object(self._read(self._call("PATCH", path, headers, body=json.dumps(told).encode())))

    def delete_image(self, image_id: str) -> None:
        """Delete an image and its data."""
        self._read(self._call("DELETE", f"/v2/images/{_segment(image_id)}"))

    # Data

    def upload(
        self,
        image_id: str,
        source: Source,
        *,
        size: int | None = None,
        store: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Send the image's data; without a size in chunked encoding."""
        headers = {"Content-Type": "application/octet-stream"}
        if store:
            headers["X-Image-Meta-Store"] = store
        if size is not None:
            headers["Content-Length"] = str(size)
        blocks = _blocks(source, progress)
        self._read(self._call("PUT", f"/v2/images/{_segment(image_id)}/file", headers, body=blocks))

    def download(self, image_id: str, target: BinaryIO, *, progress: Progress | None = None) -> int:
        """Write the image's verified data to ``target``; return its size.

        Raises NoImageData, DataMismatch, Unreachable, and what ``target``
        raises.
        """
        record = self.show_image(image_id)
        verifier = Verifier(
            image_id,
            size=record.get("size"),
            algorithm=record.get("os_hash_algo"),
            expected=record.get("os_hash_value"),
        )
        self.fetch(image_id, target, verifier, progress=progress)
        return verifier.count

    def fetch(
        self, image_id: str, target: BinaryIO, verifier: Verifier, *, progress: Progress | None = None
    ) -> None:
        """Write what ``verifier`` accepts to ``target``, from its beginning.

        A broken connection is taken up again by Range, or from the start
        where the server has no ranges and the target can be sought.
        """
        told = progress or _nobody
        failures = 0
        while True:
            before = verifier.count
            error: Exception | None = None
            try:
                self._transfer(image_id, target, verifier, told)
                if verifier.complete:
                    return verifier.finish()
            except (urllib3.exceptions.HTTPError, Unreachable) as caught:
                error = caught
            # A connection that brought something was good: only vain ones count.
            failures = 0 if verifier.count > before else failures + 1
            why = error or f"the data ended after {verifier.count} bytes"
            if failures > self._retries:
                raise Unreachable(f"image {image_id} can't be read: {why}") from error
            LOG.warning("image %s: %s; going on from byte %d", image_id, why, verifier.count)
            _pause(failures, told)

    def _transfer(self, image_id: str, target: BinaryIO, verifier: Verifier, told: Progress) -> None:
        """Read on from where ``verifier`` stands, as far as the connection carries."""
        offset = verifier.count
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={offset}-"} if offset else {})}
        answer = self._send("GET", f"/v2/images/{_segment(image_id)}/file", headers)
        try:
            if answer.status == 200 and offset:
                verifier.restart()
                target.seek(0)
                target.truncate()
            elif answer.status == 206:
                start = answer.headers.get("Content-Range", "")
                if not re.match(rf"bytes {offset}-", start):
                    raise Unreachable(f"asked for bytes {offset}-, got Content-Range {start!r}")
            elif answer.status in NO_DATA:
                raise NoImageData(f"image {image_id} has no data to read ({answer.status})")
            elif answer.status != 200:
                raise Unreachable(self._told(answer))
            for block in answer.stream(BLOCK):
                told(0)  # a caller who wants to end the transfer says so before it costs anything
                target.write(block)
                verifier.add(block)
                told(len(block))
        except BaseException:
            answer.close()  # what is left of the body must not be drained
            raise
        finally:
            answer.release_conn()

    def read_range(self, image_id: str, offset: int, length: int, *, size: int | None = None) -> bytes:
        """Return ``length`` bytes from ``offset`` on, or as many as the connection carried, at least one.

        ``size`` is what the image should have. Nothing is tried again here. Raises
        Unsupported by a server without ranges, NoImageData where there is none any more, DataMismatch for
        another size, and Unreachable, also while the image isn't given out.
        """
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={offset}-{offset + length - 1}"}
        got = bytearray()
        try:
            answer = self._send("GET", f"/v2/images/{_segment(image_id)}/file", headers)
            try:
                self._check_range(image_id, answer, offset, size)
                for block in answer.stream(BLOCK):
                    got += block
                    if len(got) > length:
                        raise Unreachable(f"{self.url} sent more than the {length} bytes asked for")
            except BaseException:
                answer.close()
                raise
            finally:
                answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            if not got:
                raise Unreachable(f"image {image_id} can't be read: {error}") from error
        if not got:
            raise Unreachable(f"image {image_id}: no byte came from {offset} on")
        return bytes(got)

    def _check_range(
        self, image_id: str, answer: urllib3.BaseHTTPResponse, offset: int, size: int | None
    ) -> None:
        if answer.status in WITHHELD:
            raise Unreachable(f"{self.url} doesn't give image {image_id} now ({answer.status})")
        if answer.status in NO_DATA:
            raise NoImageData(f"image {image_id} has no data to read ({answer.status})")
        if answer.status == 200:
            raise Unsupported(f"{self.url} gives image {image_id} as a whole only")
        told = answer.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", told)
        if answer.status == 416 or (match and size is not None and match[2] not in ("*", str(size))):
            raise DataMismatch(f"image {image_id} hasn't {size} bytes: {self.url} tells {told!r}")
        if answer.status != 206:
            raise Unreachable(self._told(answer))
        if match is None or int(match[1]) != offset:
            raise Unreachable(f"asked for bytes from {offset} on, got Content-Range {told!r}")

    # Requests

    def _get(self, path: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        failures = 0
        while True:
            try:
                return self._object(self._read(self._call("GET", path, headers)))
            except Unreachable:
                failures += 1
                if failures > self._retries:
                    raise
                _pause(failures, _nobody)

    def _send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None
    ) -> urllib3.BaseHTTPResponse:
        own = self._own_token(headers)
        answer = self._ask(method, path, headers, body, own)
        if answer.status != 401 or self._tokens is None or own is None:
            return answer
        # It has run out sooner than it said, or was revoked.
        self._tokens.refused(own)
        if body is not None and not isinstance(body, bytes):
            return answer  # what was sent of it can't be sent again
        answer.drain_conn()
        answer.release_conn()
        return self._ask(method, path, headers, body, self._own_token(headers))

    def _own_token(self, headers: Mapping[str, str] | None) -> str | None:
        """Return a token for a request that brings none, where there are such."""
        return None if self._tokens is None or TOKEN in (headers or {}) else self._tokens.token()

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None, body: Any, token: str | None
    ) -> urllib3.BaseHTTPResponse:
        # The pool's own headers are replaced, not added to, by those of a call.
        sent = {**self._pool.headers, "Accept": "application/json", **(headers or {})}
        if token is not None:
            sent[TOKEN] = token
        return self._pool.request(
            method, self.url + path, body=body, headers=sent, preload_content=False, decode_content=False
        )

    def _call(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None
    ) -> urllib3.BaseHTTPResponse:
        """Send a request; raise what the status means, or Unreachable."""
        try:
            answer = self._send(method, path, headers, body)
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"image service {self.url}: {error}") from error
        if answer.status < 400:
            return answer
        kind = ERRORS.get(answer.status)
        if answer.status == 401 and self._tokens is not None and TOKEN not in (headers or {}):
            answer.close()
            raise Unreachable(f"image service {self.url} refuses this service's token")
        if kind is None:
            answer.close()
            raise (Unreachable if answer.status >= 500 else GlancelikeError)(self._told(answer))
        raise kind(f"{_message(self._read(answer)) or answer.reason} (HTTP {answer.status})")

    def _read(self, answer: urllib3.BaseHTTPResponse) -> bytes:
        try:
            return answer.read(LARGEST_RECORD)
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"image service {self.url}: {error}") from error
        finally:
            answer.release_conn()

    def _object(self, body: bytes) -> dict[str, Any]:
        try:
            found = json.loads(body)
        except ValueError as error:
            raise Unreachable(f"image service {self.url} answered no JSON: {error}") from error
        if not isinstance(found, dict):
            raise Unreachable(f"image service {self.url} answered JSON, but no object")
        return found

    def _told(self, answer: urllib3.BaseHTTPResponse) -> str:
        return f"image service {self.url} answered {answer.status} {answer.reason or ''}"


def _segment(text: str) -> str:
    return quote(text, safe="")


def _nobody(_moved: int) -> None:
    """Take a progress report that nobody asked for."""


def _pause(failures: int, told: Progress) -> None:
    until = time.monotonic() + min(5.0, 0.1 * 2**failures)
    while (left := until - time.monotonic()) > 0:
        told(0)
        time.sleep(min(left, 0.2))


def _blocks(source: Source, progress: Progress | None) -> Iterator[bytes]:
    while block := source.read(BLOCK):
        yield block
        if progress is not None:
            progress(len(block))


def _message(body: bytes) -> str:
    """Find the text of an error in the forms that image servers use."""
    try:
        found = json.loads(body)
        return str(found.get("message") or found["error"]["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body.decode(errors="replace"))).strip()[:500]
