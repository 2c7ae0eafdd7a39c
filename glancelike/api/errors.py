"""Error class to HTTP status, and the bodies that image clients parse."""

from __future__ import annotations

import html
import json

import falcon

from glancelike import errors
from glancelike.web.errors import ErrorTable, phrase

TABLE = ErrorTable(
    errors.GlancelikeError,
    {
        errors.GlancelikeError: 500,
        errors.InvalidInput: 400,
        errors.FormatMismatch: 415,
        errors.UnsafeImage: 415,
        errors.ChecksumMismatch: 460,  # as tus has it
        errors.NotFound: 404,
        errors.NoImageData: 204,
        errors.Conflict: 409,
        errors.Forbidden: 403,
        errors.LimitExceeded: 413,
        errors.ConfigError: 500,
        errors.DataMismatch: 500,
        errors.Unreachable: 503,
        errors.RegistryError: 500,
        errors.RegistryUnavailable: 503,
        errors.StoreError: 500,
        errors.BlobExists: 409,
        errors.BlobInUse: 409,
        errors.InvalidRange: 416,
        errors.SizeMismatch: 400,
        errors.UnknownStore: 400,
        errors.Unsupported: 400,
        errors.StoreFull: 413,
        errors.StoreDenied: 503,
        errors.StoreUnavailable: 503,
    },
)

# Clients strip the tags and join the lines with colons.
PAGE = """<html>
 <head>
  <title>{status}</title>
 </head>
 <body>
  <h1>{status}</h1>
  {message}<br /><br />
 </body>
</html>
"""


def render(req: falcon.Request, resp: falcon.Response, status: int, message: str) -> None:
    """Write the error as JSON where the client prefers that, else as HTML.

    A client without a preference gets HTML, as from Glance: glanceclient
    reads only that.
    """
    title = phrase(status)
    if req.client_prefers(["text/html", "application/json"]) == "application/json":
        resp.content_type = "application/json"
        resp.text = json.dumps({"code": f"{status} {title}", "title": title, "message": message})
        return
    resp.content_type = "text/html; charset=UTF-8"
    resp.text = PAGE.format(status=f"{status} {title}", message=html.escape(message, quote=False))
