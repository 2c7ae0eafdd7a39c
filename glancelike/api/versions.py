"""``/`` and ``/versions``: which versions of the API are spoken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import falcon

from glancelike.api.resource import Resource

# Minor versions of the Image API are markers of features and not negotiated:
# a URL does the same whichever a client reads here.
MINORS = range(18, -1, -1)
CACHE = frozenset({14, 16, 18})  # whose features are the cache's


class Versions(Resource):
    def choices(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.status = 300
        self.list(req, resp)

    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        minors = [minor for minor in MINORS if self.service.cache.enabled or minor not in CACHE]
        resp.media = _document(self.web.public_endpoint or req.prefix, minors)


def _document(endpoint: str, minors: Sequence[int]) -> dict[str, Any]:
    link = {"rel": "self", "href": f"{endpoint}/v2/"}
    return {
        "versions": [
            {
                "id": f"v2.{minor}",
                "status": "CURRENT" if minor == minors[0] else "SUPPORTED",
                "links": [link],
            }
            for minor in minors
        ]
    }
