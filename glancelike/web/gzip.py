"""Compress JSON for the clients that ask for it.

Image data never: it is large, mostly incompressible and sent by the kernel.
BREACH needs a secret in a body beside text that an attacker chose, and a
browser that sends the attacker's requests with the victim's rights. No body
here holds a token or a password, and requests from pages of other sites are
refused; so there is nothing to guess.
"""

from __future__ import annotations

import gzip

import falcon

SMALLEST = 1024  # bytes; less fits into a packet anyway
LEVEL = 1  # of a list of images it leaves a fifth; 6 a sixth, at twice the cost
TYPES = ("application/json", "application/schema+json")


class Gzip:
    """Compress bodies of TYPES from SMALLEST bytes on, where Accept-Encoding has gzip."""

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool
    ) -> None:
        if resp.stream is not None or resp.get_header("Content-Encoding"):
            return
        if not (resp.content_type or "application/json").startswith(TYPES):
            return
        body = resp.render_body()
        if body is None or len(body) < SMALLEST:
            return
        resp.append_header("Vary", "Accept-Encoding")
        if accepts_gzip(req.get_header("Accept-Encoding")):
            resp.data = gzip.compress(body, LEVEL, mtime=0)
            resp.text = None
            resp.set_header("Content-Encoding", "gzip")


def accepts_gzip(header: str | None) -> bool:
    """Tell whether gzip is wanted at least as much as no coding (RFC 9110, 12.5.3)."""
    weights = dict(_weighed(each) for each in (header or "").split(",") if each.strip())
    gzipped = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzipped > 0 and gzipped >= weights.get("identity", 0.0)


def _weighed(part: str) -> tuple[str, float]:
    coding, *parameters = (each.strip().lower() for each in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
            return coding, weight if 0.0 <= weight <= 1.0 else 0.0
    return coding, 1.0
