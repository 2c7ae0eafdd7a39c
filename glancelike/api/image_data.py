"""``/v2/images/{image_id}/file``: the bytes, up and down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import falcon

from glancelike.api.ranges import Span, parse_range
from glancelike.api.resource import Resource
from glancelike.errors import ImageNotFound, InvalidInput
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
            size=_announced_size(req),
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
        if download.path is not None and "wsgi.file_wrapper" in req.env:
            # The server sends the file from its position on by sendfile.
            try:
                file = download.path.open("rb")
            except FileNotFoundError as error:
                raise ImageNotFound(f"Image {image_id} was deleted just now") from error
            file.seek(download.offset)
            resp.set_stream(file, download.length)
        else:
            resp.set_stream(_Blocks(download.chunks()), download.length)

    def _prepare(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> Download | None:
        """Set status and headers; return what to send, None when there is nothing."""
        download = self.service.read(caller_of(req), image_id)
        image = download.image
        tag = _etag(image)
        resp.set_header("Accept-Ranges", "bytes")
        if tag:
            resp.set_header("ETag", tag)
            if _matches(req.get_header("If-None-Match"), tag):
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
    """An iterator of blocks that the server closes, also when the client is gone."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()


def _announced_size(req: falcon.Request) -> int | None:
    """Return the size in bytes that the client told, None when it told none."""
    length = declared_length(req)
    header = req.get_header("x-openstack-image-size")
    if header is None:
        return length
    if not header.strip().isascii() or not header.strip().isdigit():
        raise InvalidInput(f"x-openstack-image-size must be a number of bytes, not '{header}'")
    size = int(header)
    if length is not None and length != size:
        raise InvalidInput(f"x-openstack-image-size is {size}, but Content-Length is {length}")
    return size


def _etag(image: Image) -> str | None:
    """Name the data by its digest: a strong validator."""
    return f'"{image.hash_algo}:{image.hash_value}"' if image.hash_algo and image.hash_value else None


def _matches(header: str | None, tag: str) -> bool:
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
