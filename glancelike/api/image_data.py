"""``/v2/images/{image_id}/file``: the bytes, up and down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import falcon

from glancelike.api.query import parse_pairs
from glancelike.api.ranges import Span, parse_range
from glancelike.api.resource import Resource
from glancelike.errors import InvalidInput
from glancelike.model import Image
from glancelike.service import Download
from glancelike.web.body import RequestBody, declared_length, require_media_type
from glancelike.web.middleware import caller_of

OCTETS = "application/octet-stream"


class ImageData(Resource):
    def upload(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        require_media_type(req, OCTETS)
        self.service.upload(
            caller_of(req),
            image_id,
            RequestBody(req),
            size=announced_size(req),
            store=req.get_header("X-Image-Meta-Store"),
        )
        resp.status = 204

    def describe(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        """Answer HEAD: what GET would, without touching the data."""
        download = self._prepare(req, resp, image_id)
        if download is not None:
            resp.content_length = download.length

    def download(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        download = self._prepare(req, resp, image_id)
        if download is None:
            return
        url = download.presigned() if _redirects(req) else None
        if url is not None:
            _send_to(resp, url, download)
            return
        file = download.open_local() if "wsgi.file_wrapper" in req.env else None
        if file is not None:
            # The server sends the file from its position on by sendfile.
            resp.set_stream(_File(file, download), download.length)
        else:
            resp.set_stream(_Blocks(download), download.length)

    def _prepare(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> Download | None:
        """Set status and headers; return what to send, None when there is nothing."""
        download = self.service.read(caller_of(req), image_id, prefer=_preferred(req))
        image = download.image
        tag = _etag(image)
        resp.set_header("Accept-Ranges", "bytes")
        if tag:
            resp.set_header("ETag", tag)
            if matches(req.get_header("If-None-Match"), tag):
                resp.status = 304
                return None
        resp.content_type = OCTETS
        span = _wanted(req, tag, download.size)
        if span is None:
            if image.checksum:
                resp.set_header("Content-MD5", image.checksum)
            return download
        if not span.length:
            raise falcon.HTTPRangeNotSatisfiable(download.size)
        resp.status = 206
        resp.set_header("Content-Range", f"bytes {span.offset}-{span.last}/{download.size}")
        return replace(download, offset=span.offset, length=span.length)


class _Blocks:
    """Blocks that are counted; the server closes them, also when the client is gone."""

    def __init__(self, download: Download) -> None:
        self._download = download
        self._chunks = download.chunks()
        self._sent = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = next(self._chunks)
        self._sent += len(block)
        return block

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()
        self._download.report(self._sent)


class _File:
    """A local file that the server sends, by sendfile or not, and then closes.

    ``socket.sendfile`` tells what it has sent by seeking to the end of it.
    """

    def __init__(self, file: BinaryIO, download: Download) -> None:
        self._file = file
        self._download = download
        self._start = file.tell()
        self._sent = 0

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, size: int | None = None, /) -> bytes:
        block = self._file.read(-1 if size is None else size)
        self._sent += len(block)
        return block

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        position = self._file.seek(offset, whence)
        self._sent = position - self._start
        return position

    def close(self) -> None:
        self._file.close()
        self._download.report(self._sent)


def announced_size(req: falcon.Request) -> int | None:
    """Return the size in bytes that the client told, None when it told none."""
    length = declared_length(req)
    header = req.get_header("x-openstack-image-size")
    if header is None:
        return length
    # 18 digits are more than any size has, and what every database takes.
    if not re.fullmatch(r"[0-9]{1,18}", header.strip()):
        raise InvalidInput(f"x-openstack-image-size must be a number of bytes, not '{header}'")
    size = int(header)
    if length is not None and length != size:
        raise InvalidInput(f"x-openstack-image-size is {size}, but Content-Length is {length}")
    return size


def _preferred(req: falcon.Request) -> tuple[str, ...]:
    """Return the stores that ``?prefer=a,b`` names."""
    named = [value for name, value in parse_pairs(req.query_string) if name == "prefer"]
    return tuple(store.strip() for value in named for store in value.split(",") if store.strip())


def _redirects(req: falcon.Request) -> bool:
    """Tell whether the caller may be sent to the store itself: ``?redirect=true``."""
    named = {value for name, value in parse_pairs(req.query_string) if name == "redirect"}
    if named - {"true", "false"}:
        raise InvalidInput("redirect must be true or false")
    return "true" in named


def _send_to(resp: falcon.Response, url: str, download: Download) -> None:
    """Answer with a URL of the whole data; a caller repeats its Range there."""
    image = download.image
    resp.status = 307
    resp.location = url
    # The URL is a key to the data: it's for this caller, and for now.
    resp.cache_control = ["no-store"]
    resp.set_header("Content-Length", "0")
    if image.hash_algo and image.hash_value:
        resp.set_header("OpenStack-image-hash", f"{image.hash_algo}:{image.hash_value}")
    for name in ("Content-Range", "Content-Type", "Content-MD5", "Accept-Ranges"):
        resp.delete_header(name)


def _etag(image: Image) -> str | None:
    """Name the data by its digest: a strong validator."""
    return f'"{image.hash_algo}:{image.hash_value}"' if image.hash_algo and image.hash_value else None


def matches(header: str | None, tag: str) -> bool:
    """Compare weakly, as If-None-Match does (RFC 9110, 13.1.2)."""
    if header is None:
        return False
    return any(each.strip().removeprefix("W/") in (tag, "*") for each in header.split(","))


def _wanted(req: falcon.Request, tag: str | None, size: int) -> Span | None:
    """Return the range to send, None for the whole.

    If-Range with anything but our tag means the client's part is outdated.
    """
    condition = req.get_header("If-Range")
    if condition is not None and condition.strip() != tag:
        return None
    return parse_range(req.get_header("Range"), size)
