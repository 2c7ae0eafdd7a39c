"""Resumable uploads: ids that outlive the process, and parts of any size.

An id holds what the object's metadata will hold too, so that after a race
each can tell whether it was its own upload that won.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from typing import Any

from glancelike.errors import BlobNotFound, SizeMismatch, StoreUnavailable
from glancelike.stores.base import BlobInfo, PartInfo, Source
from glancelike_store_s3.bucket import Bucket
from glancelike_store_s3.errors import translated
from glancelike_store_s3.publishing import Publisher, new_token
from glancelike_store_s3.upload import BLOCK, Body, fill

_ID = re.compile(r"([0-9a-f]{32})\.([!-~]{1,1024})")


class Uploads:
    """The resumable uploads of a bucket."""

    def __init__(self, bucket: Bucket, publisher: Publisher, buffer: int) -> None:
        self._bucket = bucket
        self._publisher = publisher
        self._buffer = buffer

    def begin(self, key: str) -> str:
        """Start an upload and return its id."""
        self._bucket.check_absent(key)
        token = new_token()
        return f"{token}.{self._bucket.begin(key, token)}"

    def put(self, key: str, upload: str, number: int, source: Source, size: int) -> PartInfo:
        """Store a part: from memory if it's small, else as it comes, and then only once."""
        token, s3_id = _split(upload)
        self._check_going_on(key, token)
        at = {**self._bucket.at(key), "UploadId": s3_id, "PartNumber": number}
        if size <= self._buffer:
            buffer = fill(source, size)
            with translated():
                answer = self._bucket.client.upload_part(**at, Body=Body(buffer))
            return PartInfo(number, len(buffer), answer["ETag"])
        # Looked for first: a large body that nobody wants would be sent to its end.
        self._listed(key, s3_id)
        body = Streamed(source, size)
        try:
            with translated():
                answer = self._bucket.unsigned.upload_part(**at, Body=body, ContentLength=size)
        except Exception:
            # boto takes an error of the body for one of the network.
            if body.error is not None:
                raise body.error from None
            raise
        return PartInfo(number, size, answer["ETag"])

    def parts(self, key: str, upload: str) -> tuple[PartInfo, ...]:
        """List the parts that are there, by number."""
        token, s3_id = _split(upload)
        self._check_going_on(key, token)
        return self._listed(key, s3_id)

    def _check_going_on(self, key: str, token: str) -> None:
        """Raise BlobNotFound for an upload that is complete.

        Not every endpoint forgets one at once. Swift still takes parts
        then, and they replace the bytes of the blob.
        """
        try:
            found = self._bucket.look(key)
        except BlobNotFound:
            return
        if found.token == token:
            raise BlobNotFound("the upload is complete")

    def _listed(self, key: str, s3_id: str) -> tuple[PartInfo, ...]:
        found: list[PartInfo] = []
        marker = 0
        # Not a paginator: some endpoints tell the next marker as text, some not at all.
        while True:
            with translated():
                page = self._bucket.client.list_parts(
                    **self._bucket.at(key), UploadId=s3_id, PartNumberMarker=marker
                )
            items = page.get("Parts", [])
            found += [PartInfo(int(item["PartNumber"]), int(item["Size"]), item["ETag"]) for item in items]
            if not page.get("IsTruncated") or not items:
                return tuple(sorted(found, key=lambda part: part.number))
            marker = found[-1].number

    def complete(self, key: str, upload: str) -> BlobInfo:
        """Join the parts into the blob; raise SizeMismatch for a gap."""
        token, s3_id = _split(upload)
        self._bucket.check_absent(key)
        found = self._listed(key, s3_id)
        numbers = [part.number for part in found]
        if not found or numbers != list(range(1, len(numbers) + 1)):
            said = ", ".join(map(str, numbers[:100])) or "none"
            raise SizeMismatch(f"parts {said}: not numbered from 1 without a gap")
        etags = {part.number: part.etag or "" for part in found}

        def send(condition: dict[str, str]) -> Any:
            return self._bucket.complete(key, s3_id, etags, **condition)

        answer = self._publisher.publish(key, token, "complete", send)
        return BlobInfo(key, sum(part.size for part in found), etag=(answer or {}).get("ETag"))

    def abort(self, key: str, upload: str) -> None:
        """Drop an upload; no error when it's gone, or never was."""
        with suppress(BlobNotFound):
            token, s3_id = _split(upload)
            self._check_going_on(key, token)
            self._bucket.abort(key, s3_id)

    def drop(self, key: str, s3_id: str) -> bool:
        """Drop an upload of which only S3's id is known, unless it is complete; tell whether.

        A proxy of Swift that dies at the wrong moment leaves a complete
        upload in the list, and to abort that would take the blob's bytes.
        """
        with suppress(BlobNotFound):
            found = self._bucket.look(key)
            if (found.etag or "").strip('"') == _joined_etag(self._listed(key, s3_id)):
                return False
        self._bucket.abort(key, s3_id)
        return True


class Streamed:
    """A source as boto sends it: forward, once. ``error`` keeps what it raised."""

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._left = size
        self.error: BaseException | None = None

    def read(self, _size: int = -1, /) -> bytes:
        """Return the next block, larger than asked for: it is sent as it is."""
        if self.error is not None:
            raise self.error
        if not self._left:
            return b""
        try:
            block = bytes(self._source.read(min(BLOCK, self._left)))
            if not block:
                raise StoreUnavailable(f"the source ended {self._left} bytes early")
        except BaseException as error:
            self.error = error
            raise
        self._left -= len(block)
        return block


def _split(upload: str) -> tuple[str, str]:
    """Return the token and S3's own id; an id comes from outside."""
    match = _ID.fullmatch(upload)
    if match is None:
        raise BlobNotFound("no such upload")
    return match[1], match[2]


def _joined_etag(parts: tuple[PartInfo, ...]) -> str:
    """Return the ETag that S3 gives the object made of parts; empty if they have no such ETags."""
    digests = [(part.etag or "").strip('"') for part in parts]
    if not digests or not all(re.fullmatch(r"[0-9a-f]{32}", digest) for digest in digests):
        return ""
    joined = hashlib.md5(b"".join(map(bytes.fromhex, digests)), usedforsecurity=False)
    return f"{joined.hexdigest()}-{len(parts)}"
