"""Every operation of the metadata service."""

from __future__ import annotations

from glancelike.web.healthcheck import Healthcheck
from glancelike.web.routes import Route
from novalite.api.metadata.documents import Documents

ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthcheck", Healthcheck, "show", public=True),
    Route("GET", "/", Documents, "show"),
    Route("GET", "/{path:path}", Documents, "show"),
    Route("PUT", "/{path:path}", Documents, "make_token"),
)
