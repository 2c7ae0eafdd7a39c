"""Cross-origin requests: what pages of other sites may do here.

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from urllib.parse import urlsplit

import falcon

from glancelike.web.settings import CorsSettings

# Any page may send these without asking.
SIMPLE_HEADERS = {"accept", "accept-language", "content-language", "content-type", "cache-control", "pragma"}


class Cors:
    """Answer preflights, let allowed origins in, refuse the others.

    A page of another site can make its reader's browser send requests here,
    with the password the browser remembers, or to a loopback port that
    trusts everybody. Browsers tell by ``Origin``, other clients don't.
    A preflight is answered before anybody is asked who he is: browsers send
    no credentials with it.
    """

    def __init__(self, settings: CorsSettings) -> None:
        self._settings = settings
        self._headers = SIMPLE_HEADERS | {name.lower() for name in settings.allow_headers}

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        origin = req.get_header("Origin")
        if origin is None:
            return
        if not self._allows(origin):
            if urlsplit(origin).netloc != req.get_header("Host"):
                raise falcon.HTTPForbidden(description=f"Requests from pages of {origin} aren't taken.")
            return
        self._grant(origin, resp)
        wanted = req.get_header("Access-Control-Request-Method")
        if req.method == "OPTIONS" and wanted is not None:
            self._answer_preflight(req, resp, wanted)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool
    ) -> None:
        if self._settings.allowed_origin:
            # Without it, a cache could give one site's answer to another.
            resp.append_header("Vary", "Origin")

    def _allows(self, origin: str) -> bool:
        return origin in self._settings.allowed_origin or "*" in self._settings.allowed_origin

    def _grant(self, origin: str, resp: falcon.Response) -> None:
        named = origin in self._settings.allowed_origin
        resp.set_header("Access-Control-Allow-Origin", origin if named else "*")
        if named and self._settings.allow_credentials:
            resp.set_header("Access-Control-Allow-Credentials", "true")
        if self._settings.expose_headers:
            resp.set_header("Access-Control-Expose-Headers", ", ".join(self._settings.expose_headers))

    def _answer_preflight(self, req: falcon.Request, resp: falcon.Response, method: str) -> None:
        resp.complete = True
        resp.status = 200
        asked = req.get_header("Access-Control-Request-Headers") or ""
        headers = [name.strip() for name in asked.split(",") if name.strip()]
        # What isn't allowed isn't named: the browser then doesn't send the request.
        if method in self._settings.allow_methods:
            resp.set_header("Access-Control-Allow-Methods", ", ".join(self._settings.allow_methods))
        allowed = [name for name in headers if name.lower() in self._headers]
        if allowed:
            resp.set_header("Access-Control-Allow-Headers", ", ".join(allowed))
        resp.set_header("Access-Control-Max-Age", str(self._settings.max_age))
