"""Downloads that go on from the byte they had reached when a connection breaks."""

from __future__ import annotations

import re
from typing import Self

from glancelike.errors import BlobNotFound, InvalidRange, StoreFault, StoreUnavailable
from glancelike_store_swift.client import Client, Stream, pause
from glancelike_store_swift.failures import failure, passing
from glancelike_store_swift.intake import BLOCK

_SPAN = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Download:
    """The iterator over a blob, or a span of it.

    Made by ``start``, which raises what can be known before the first byte.
    """

    def __init__(
        self, client: Client, path: str, etag: str, at: int, end: int, stream: Stream | None
    ) -> None:
        self._client = client
        self._path = path
        self._etag = etag
        self._at = at
        self._end = end
        self._stream = stream
        self._closed = False

    @classmethod
    def start(cls, client: Client, path: str, offset: int, length: int | None) -> Download:
        """Ask for the span; raise BlobNotFound, InvalidRange, StoreDenied, StoreUnavailable."""
        headers = {}
        if offset or length is not None:
            headers["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
        for attempt in range(client.retries + 1):
            try:
                stream = client.stream(path, headers=headers, expect={416})
                break
            except StoreUnavailable:
                if attempt == client.retries:
                    raise
            pause(attempt)
        if stream.status == 416:
            stream.close()
            if offset:
                raise InvalidRange(f"offset {offset} is at or behind the end")
            return cls(client, path, "", 0, 0, None)  # no byte of an empty blob can be asked for
        try:
            at, end = _span(stream, bool(headers))
        except BaseException:
            stream.close()
            raise
        return cls(client, path, stream.headers.get("Etag", ""), at, end, stream)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._closed or self._at >= self._end:
            self.close()
            raise StopIteration
        attempt = 0
        while not (block := self._read()):
            # Bounded: after so many attempts without a single byte it is over.
            if attempt >= self._client.retries:
                self.close()
                raise StoreUnavailable(f"the download broke off {self._end - self._at} bytes before its end")
            if attempt:
                pause(attempt - 1)
            attempt += 1
            self._resume()
        self._at += len(block)
        return block

    def close(self) -> None:
        """Release the connection; it is used again only when nothing is left in it."""
        self._closed = True
        if self._stream is not None:
            self._stream.close(whole=self._at >= self._end)
            self._stream = None

    def _read(self) -> bytes:
        """Return the next bytes, none when the connection broke or ended early."""
        if self._stream is None:
            return b""
        try:
            block = self._stream.read(min(BLOCK, self._end - self._at))
        except StoreUnavailable:
            block = b""
        if not block:
            self._stream.close()
            self._stream = None
        return block

    def _resume(self) -> None:
        """Ask for the rest, of the very same object."""
        headers = {"Range": f"bytes={self._at}-{self._end - 1}"}
        if self._etag:
            headers["If-Match"] = self._etag
        try:
            stream = self._client.stream(self._path, headers=headers, expect=range(400, 600))
        except StoreUnavailable:
            return
        if passing(stream.status):
            stream.close()
        elif stream.status != 206 or stream.headers.get("Etag", "") != self._etag:
            stream.close()
            self._closed = True
            if stream.status == 404:
                raise BlobNotFound("the blob was deleted while it was read")
            if stream.status in (206, 412):
                raise StoreFault("the blob was replaced while it was read")
            raise failure(stream.status, f"GET of {self._path}")
        else:
            self._stream = stream


def _span(stream: Stream, ranged: bool) -> tuple[int, int]:
    """Return where the answer's bytes begin and end in the object."""
    if not ranged:
        try:
            return 0, int(stream.headers["Content-Length"])
        except (KeyError, ValueError) as error:
            raise StoreFault("Swift doesn't tell the size of an object") from error
    found = _SPAN.fullmatch(stream.headers.get("Content-Range", ""))
    if stream.status != 206 or not found:
        raise StoreFault("Swift didn't answer with the range that was asked for")
    return int(found[1]), int(found[2]) + 1
