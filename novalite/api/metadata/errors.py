"""What guests are answered that can't be served: the Compute API's statuses, as plain text."""

from __future__ import annotations

import falcon

from novalite.api.compute.errors import TABLE

__all__ = ["TABLE", "render"]


def render(req: falcon.Request, resp: falcon.Response, status: int, message: str) -> None:
    """Write the error for people: programs look at the status."""
    resp.content_type = "text/plain; charset=utf-8"
    resp.text = message + "\n"
