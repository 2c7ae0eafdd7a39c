"""Read an object, and go on where the connection broke off."""

from __future__ import annotations

import time
from typing import Any, Self

from glancelike.errors import BlobExists, InvalidRange, StoreFault, StoreUnavailable
from glancelike_store_s3.bucket import Bucket
from glancelike_store_s3.errors import translated

BLOCK = 1 << 20
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0


class Blocks:
    """The iterator over an object's bytes; the first answer is there once it is made.

    A body that ends early is asked for again from the byte reached, as the
    same object (If-Match). ``attempts`` is how often in a row that may
    bring no byte.
    """

    def __init__(self, bucket: Bucket, key: str, offset: int, length: int | None, attempts: int) -> None:
        self._bucket = bucket
        self._key = key
        self._attempts = attempts
        self._failures = 0
        self._at = self._end = offset
        self._body: Any = None
        self._etag: str | None = None
        if offset or length is not None:
            try:
                self._begin(f"bytes={offset}-{'' if length is None else offset + length - 1}")
            except InvalidRange:
                # The first bytes of none can't be asked for, yet reading them is no error.
                if offset:
                    raise
        else:
            self._begin(None)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        while self._body is not None and self._at < self._end:
            block = self._read()
            if block:
                self._at += len(block)
                self._failures = 0
                if self._at == self._end:
                    self._release()
                return block
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Release the connection: to the pool after the last byte, else for good."""
        self._end = self._at
        self._release()

    def _release(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def _begin(self, span: str | None) -> None:
        answer = self._get(span)
        self._body = answer["Body"]
        self._etag = answer.get("ETag")
        self._end = self._at + answer["ContentLength"]
        if span is not None:
            self._check_start(answer)

    def _get(self, span: str | None, **more: str) -> Any:
        if span is not None:
            more["Range"] = span
        with translated():
            return self._bucket.client.get_object(**self._bucket.at(self._key), **more)

    def _check_start(self, answer: Any) -> None:
        told = str(answer.get("ContentRange", ""))
        if not told.startswith(f"bytes {self._at}-"):
            self._release()
            raise StoreFault(f"the endpoint answered a range from byte {self._at} with {told or 'none'!r}")

    def _read(self) -> bytes:
        """Return some bytes, or none after asking anew for the rest."""
        from botocore.exceptions import BotoCoreError, FlexibleChecksumError
        from urllib3.exceptions import HTTPError

        try:
            block: bytes = self._body.read(min(BLOCK, self._end - self._at))
            if block:
                return block
            self._resume("the answer ended early")
        except FlexibleChecksumError as error:
            raise StoreFault(f"the data isn't what its checksum says: {error}") from error
        except (BotoCoreError, HTTPError, OSError) as error:
            self._resume(f"{type(error).__name__}: {error}")
        return b""

    def _resume(self, why: str) -> None:
        self._body.close()
        while True:
            self._failures += 1
            if self._failures >= self._attempts:
                raise StoreUnavailable(f"byte {self._at} didn't come in {self._failures} attempts: {why}")
            time.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self._failures - 1)))
            try:
                answer = self._get_rest()
            except StoreUnavailable as error:
                why = str(error)
                continue
            self._body = answer["Body"]
            self._check_start(answer)
            return

    def _get_rest(self) -> Any:
        same = {"IfMatch": self._etag} if self._etag else {}
        try:
            answer = self._get(f"bytes={self._at}-{self._end - 1}", **same)
        except (BlobExists, InvalidRange) as error:
            raise StoreFault("the blob was replaced while it was read") from error
        if self._etag and answer.get("ETag") != self._etag:
            answer["Body"].close()
            raise StoreFault("the blob was replaced while it was read")
        return answer
