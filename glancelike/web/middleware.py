"""What happens to every request: id, hygiene, identity.

The WSGI environment carries ``app.request_id`` and ``app.project`` for the
access log, which the server writes when the last byte is out.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Set
from typing import Any

import falcon

from glancelike.model import Caller
from glancelike.web.auth import Auth

REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# Headers that an identity middleware would set. Nothing that comes from
# outside may look as if one had. WSGI knows no other spelling of them:
# case is gone, and hyphens are underscores.
IDENTITY = re.compile(
    r"HTTP_X_(SERVICE_)?(USER|PROJECT|TENANT|DOMAIN|ROLES?|SYSTEM_SCOPE|IDENTITY_STATUS|"
    r"IS_ADMIN_PROJECT|TRUST_ID|SERVICE_CATALOG|TOKEN_INFO|AUTH_USER)(_.*)?"
    r"|HTTP_OPENSTACK_SYSTEM_SCOPE"
)


class RequestIds:
    """Give each request an id and answer with it.

    A well-formed inbound id (from the service that called us) is kept as
    ``app.global_request_id`` for the log; it never replaces our own.
    """

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        request_id = f"req-{uuid.uuid4()}"
        req.env["app.request_id"] = request_id
        inbound = req.get_header("X-Openstack-Request-Id")
        if inbound and REQUEST_ID.fullmatch(inbound):
            req.env["app.global_request_id"] = inbound
        resp.set_header("x-openstack-request-id", request_id)


class Hygiene:
    """Drop identity headers from outside; refuse NUL."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        for name in [name for name in req.env if IDENTITY.fullmatch(name)]:
            del req.env[name]
        if "\0" in req.path or "%00" in req.query_string:
            raise falcon.HTTPBadRequest(description="The URL holds a NUL character.")

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, params: dict[str, Any]
    ) -> None:
        if "" in params.values():
            raise falcon.HTTPNotFound  # nothing is named by nothing


class Authentication:
    """Find out who calls, but for public paths."""

    def __init__(self, auth: Auth, public: Set[str]) -> None:
        self._auth = auth
        self._public = public

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        if req.path in self._public:
            return
        caller = self._auth.authenticate(req)
        req.env["app.caller"] = caller
        req.env["app.project"] = caller.project


def caller_of(req: falcon.Request) -> Caller:
    """Return the authenticated caller of the request."""
    caller: Caller = req.env["app.caller"]
    return caller
