"""Calls of the registry contract over HTTP: ``POST /v1/<method>``."""

from __future__ import annotations

import logging
import select
from typing import Any

import falcon
import msgspec

from glancelike import errors
from glancelike.errors import GlancelikeError, InvalidInput
from glancelike.registry import wire
from glancelike.registry.base import Registry
from glancelike.registry.calls import CALLS, Call
from glancelike.web import app as web
from glancelike.web.auth import Auth
from glancelike.web.body import BrokenBody, read_whole, require_media_type
from glancelike.web.errors import ErrorTable, request_id
from glancelike.web.healthcheck import Healthcheck
from glancelike.web.routes import Route

log = logging.getLogger(__name__)

# For logs and proxies: callers go by the error's code.
TABLE = ErrorTable(
    errors.GlancelikeError,
    {
        errors.GlancelikeError: 500,
        errors.InvalidInput: 400,
        errors.NotFound: 404,
        errors.Conflict: 409,
        errors.Forbidden: 403,
        errors.LimitExceeded: 413,
        errors.RegistryUnavailable: 503,
    },
)


class Calls:
    """Answers calls from one open registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def hello(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Say which protocol this server speaks."""
        resp.content_type, resp.data = wire.encode(wire.Hello(wire.PROTOCOL, tuple(CALLS)))

    def answer(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Carry out a call; what it raises is an answer, too."""
        call = _known(req, name)
        media_type = require_media_type(req, wire.MSGPACK, wire.JSON)
        raw = read_whole(req, wire.LARGEST_REQUEST)
        try:
            result = self._carry_out(req, call, media_type, raw)
            resp.content_type, resp.data = wire.encode(result)
        except GlancelikeError as error:
            status = TABLE.status_of(type(error))
            if status >= 500:
                log.error("%s (%s): %r", name, request_id(req), error)  # noqa: TRY400 - it says what it is
            resp.status = status
            resp.set_header(wire.FAILED, error.code)
            resp.content_type, resp.data = wire.encode(wire.failure_of(error))

    def _carry_out(self, req: falcon.Request, call: Call, media_type: str, raw: bytes) -> Any:
        try:
            arguments = wire.decode(media_type, raw, call.arguments)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"{call.name}: {error}") from None
        except ValueError as error:
            raise BrokenBody(f"the body is no {media_type}: {error}") from None
        if _hung_up(req):
            raise BrokenBody("the caller has hung up")
        return call.carry_out(self._registry, arguments)


class Health(Healthcheck):
    """The kit's answer to load balancers."""

    def __init__(self, _registry: Registry) -> None:
        pass


ROUTES = (
    Route("POST", wire.ROOT, Calls, "hello"),
    Route("POST", f"{wire.ROOT}/{{name}}", Calls, "answer"),
    Route("GET", "/healthcheck", Health, "show", public=True),
)


def create_app(registry: Registry, auth: Auth) -> web.App:
    """Make the WSGI application over an open registry and an open auth plugin."""
    return web.build(ROUTES, lambda resource: resource(registry), auth, TABLE, _render, trailing_slash=True)


def _known(req: falcon.Request, name: str) -> Call:
    """Return the call; raise 404, 426 or 400 where it is of another release."""
    try:
        theirs = int(req.get_header(wire.PROTOCOL_HEADER) or "")
    except ValueError:
        raise falcon.HTTPBadRequest(
            description=f"the header {wire.PROTOCOL_HEADER} must hold a number"
        ) from None
    if abs(theirs - wire.PROTOCOL) > 1:
        raise falcon.HTTPError(
            falcon.HTTP_426,
            description=f"this registry server speaks protocol {wire.PROTOCOL}, the caller {theirs}",
        )
    if name not in CALLS:
        raise falcon.HTTPNotFound(description=f"this registry server is older: it has no {name!r}")
    return CALLS[name]


def _hung_up(req: falcon.Request) -> bool:
    """Tell whether the caller has closed its end: its time is over, and it was told so.

    Whoever was frozen, or had much to do, mustn't carry out such calls.
    """
    connection = req.env.get("gunicorn.socket")
    if connection is None:
        return False
    watched = select.poll()
    watched.register(connection, select.POLLRDHUP)
    return bool(watched.poll(0))


def _render(req: falcon.Request, resp: falcon.Response, status: int, message: str) -> None:
    resp.content_type = falcon.MEDIA_TEXT
    resp.text = message
