"""Error class to HTTP status, and the bodies that compute clients parse."""

from __future__ import annotations

import json

import falcon

from glancelike.web.errors import RETRY_AFTER, ErrorTable
from novalite import errors

TABLE = ErrorTable(
    errors.NovaliteError,
    {
        errors.NovaliteError: 500,
        errors.InvalidInput: 400,
        errors.NotFound: 404,
        errors.Conflict: 409,
        errors.Forbidden: 403,
        errors.QuotaExceeded: 403,
        errors.NoValidHost: 500,
        errors.MigrationTimedOut: 500,
        errors.Unsupported: 501,
        errors.ConfigError: 500,
        errors.DatabaseFault: 500,
        errors.Unavailable: 503,
        errors.DatabaseSchema: 500,
    },
)

NAMES = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}


def render(req: falcon.Request, resp: falcon.Response, status: int, message: str) -> None:
    """Write the error as Nova does: one member named after the fault."""
    fault: dict[str, object] = {"code": status, "message": message}
    if status in (413, 429, 503):
        fault["retryAfter"] = RETRY_AFTER
    resp.content_type = "application/json"
    resp.text = json.dumps({NAMES.get(status, "computeFault"): fault})
