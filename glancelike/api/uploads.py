"""``/v2/images/{image_id}/uploads``: uploads in pieces, as tus 1.0.0 has them.

https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import base64
import binascii
import re

import falcon

from glancelike.api.image_import import STORE_HEADER
from glancelike.api.resource import EMPTY, Resource
from glancelike.errors import InvalidInput
from glancelike.model import Upload, UploadKind, UploadState
from glancelike.service.resumable import CHECKSUMS, Checksum
from glancelike.web.body import RequestBody, declared_length, media_type, require_media_type
from glancelike.web.middleware import caller_of

OFFSET_OCTETS = "application/offset+octet-stream"
VERSION = "1.0.0"
EXTENSIONS = (
    "creation",
    "creation-defer-length",
    "creation-with-upload",
    "termination",
    "checksum",
    "expiration",
    "concatenation",
)
OVERRIDDEN = frozenset({"HEAD", "PATCH", "DELETE"})
# A name, and a value in Base64 unless it is empty; separated by commas.
METADATA = re.compile(r"[!-+\--~]+( [A-Za-z0-9+/]*={0,2})?( *, *[!-+\--~]+( [A-Za-z0-9+/]*={0,2})?)*")
LONGEST_METADATA = 4096


class MethodOverride:
    """Take the method that X-HTTP-Method-Override names for a POST to an upload.

    For clients whose surroundings know no PATCH or DELETE.
    """

    PATH = re.compile(r"/v2/images/[^/]+/uploads/[^/]+")

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        wanted = req.get_header("X-HTTP-Method-Override")
        if req.method == "POST" and wanted in OVERRIDDEN and self.PATH.fullmatch(req.path):
            req.method = wanted


class Uploads(Resource):
    def options(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        resp.status = 204
        resp.set_header("Tus-Resumable", VERSION)
        resp.set_header("Tus-Version", VERSION)
        resp.set_header("Tus-Extension", ",".join(EXTENSIONS))
        resp.set_header("Tus-Max-Size", str(self.service.settings.image_size_cap))
        resp.set_header("Tus-Checksum-Algorithm", ",".join(CHECKSUMS))

    def options_of_one(
        self, req: falcon.Request, resp: falcon.Response, image_id: str, upload_id: str
    ) -> None:
        self.options(req, resp, image_id)

    def create(self, req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        _speak(req, resp)
        length = _number(req, "Upload-Length")
        kind, joins = _concatenation(req)
        if kind is UploadKind.FINAL:
            if length is not None:
                raise InvalidInput("Upload-Length isn't for a final upload: it follows from its parts")
        elif (length is None) != (req.get_header("Upload-Defer-Length") == "1"):
            raise InvalidInput("either Upload-Length or Upload-Defer-Length: 1 is needed")
        with_data = media_type(req) == OFFSET_OCTETS
        if kind is UploadKind.FINAL and with_data:
            raise InvalidInput("a final upload takes no bytes")
        checksum = _checksum(req)
        caller = caller_of(req)
        upload = self.service.create_upload(
            caller,
            image_id,
            length=length,
            kind=kind,
            joins=joins,
            metadata=_metadata(req),
            store=req.get_header(STORE_HEADER),
        )
        resp.status, resp.content_type = 201, EMPTY
        resp.location = f"{self.web.public_endpoint or req.prefix}/v2/images/{image_id}/uploads/{upload.id}"
        if with_data and upload.state is not UploadState.DONE:
            upload = self.service.continue_upload(
                caller,
                image_id,
                upload.id,
                RequestBody(req),
                offset=0,
                size=declared_length(req),
                checksum=checksum,
            )
        _tell(resp, upload)

    def show(self, req: falcon.Request, resp: falcon.Response, image_id: str, upload_id: str) -> None:
        _speak(req, resp)
        upload = self.service.show_upload(caller_of(req), image_id, upload_id)
        resp.content_type = EMPTY
        resp.cache_control = ["no-store"]
        _tell(resp, upload)
        if upload.length is None:
            resp.set_header("Upload-Defer-Length", "1")
        else:
            resp.set_header("Upload-Length", str(upload.length))
        if upload.metadata:
            resp.set_header("Upload-Metadata", upload.metadata)
        if upload.kind is UploadKind.PARTIAL:
            resp.set_header("Upload-Concat", "partial")
        elif upload.kind is UploadKind.FINAL:
            paths = " ".join(f"/v2/images/{image_id}/uploads/{each}" for each in upload.joins)
            resp.set_header("Upload-Concat", f"final;{paths}")

    def take(self, req: falcon.Request, resp: falcon.Response, image_id: str, upload_id: str) -> None:
        _speak(req, resp)
        require_media_type(req, OFFSET_OCTETS)
        offset = _number(req, "Upload-Offset")
        if offset is None:
            raise InvalidInput("Upload-Offset is needed")
        upload = self.service.continue_upload(
            caller_of(req),
            image_id,
            upload_id,
            RequestBody(req),
            offset=offset,
            size=declared_length(req),
            length=_number(req, "Upload-Length"),
            checksum=_checksum(req),
        )
        resp.status = 204
        _tell(resp, upload)

    def terminate(self, req: falcon.Request, resp: falcon.Response, image_id: str, upload_id: str) -> None:
        _speak(req, resp)
        self.service.delete_upload(caller_of(req), image_id, upload_id)
        resp.status = 204


def _speak(req: falcon.Request, resp: falcon.Response) -> None:
    """Answer as tus, and refuse who doesn't speak it; raise 412."""
    resp.set_header("Tus-Resumable", VERSION)
    given = req.get_header("Tus-Resumable")
    if given != VERSION:
        resp.set_header("Tus-Version", VERSION)
        raise falcon.HTTPPreconditionFailed(
            description=f"Tus-Resumable must be {VERSION}, not {given or 'missing'}."
        )


def _tell(resp: falcon.Response, upload: Upload) -> None:
    resp.set_header("Upload-Offset", str(upload.offset))
    if upload.state is UploadState.OPEN:
        resp.set_header("Upload-Expires", falcon.dt_to_http(upload.expires_at))


def _number(req: falcon.Request, name: str) -> int | None:
    """Return the header's number of bytes, None where it isn't there."""
    given = req.get_header(name)
    if given is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", given.strip()):
        raise InvalidInput(f"{name} must be a number of bytes, not '{given}'")
    return int(given)


def _metadata(req: falcon.Request) -> str:
    given = (req.get_header("Upload-Metadata") or "").strip()
    if given and (len(given) > LONGEST_METADATA or not METADATA.fullmatch(given)):
        raise InvalidInput("Upload-Metadata must be names with values in Base64, separated by commas")
    return given


def _concatenation(req: falcon.Request) -> tuple[UploadKind, tuple[str, ...]]:
    """Return what Upload-Concat makes of the upload, and the ids that it names."""
    given = req.get_header("Upload-Concat")
    if given is None:
        return UploadKind.PLAIN, ()
    if given.strip() == "partial":
        return UploadKind.PARTIAL, ()
    kind, _, urls = given.strip().partition(";")
    if kind != "final":
        raise InvalidInput("Upload-Concat must be 'partial', or 'final;' with the URLs of the parts")
    return UploadKind.FINAL, tuple(url.rstrip("/").rpartition("/")[2] for url in urls.split())


def _checksum(req: falcon.Request) -> Checksum | None:
    given = req.get_header("Upload-Checksum")
    if given is None:
        return None
    algorithm, _, value = given.strip().partition(" ")
    if algorithm not in CHECKSUMS:
        raise InvalidInput(f"Upload-Checksum: '{algorithm}' isn't one of {', '.join(CHECKSUMS)}")
    try:
        return Checksum(algorithm, base64.b64decode(value, validate=True))
    except binascii.Error:
        raise InvalidInput("Upload-Checksum: the value isn't Base64") from None
