"""``/`` and ``/versions``: which versions of the API are spoken."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.api.resource import Resource

# Minor versions of the Image API are markers of features, not negotiated.
# Listed are those whose features are here; 2.6 (import) and those from 2.8
# on (import to several stores, cache, tasks, usage) aren't.
SUPPORTED = ("2.7", "2.5", "2.4", "2.3", "2.2", "2.1", "2.0")


class Versions(Resource):
    def choices(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.status = 300
        resp.media = _document(req)

    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = _document(req)


def _document(req: falcon.Request) -> dict[str, Any]:
    link = {"rel": "self", "href": f"{req.prefix}/v2/"}
    return {
        "versions": [
            {
                "id": f"v{version}",
                "status": "CURRENT" if version == SUPPORTED[0] else "SUPPORTED",
                "links": [link],
            }
            for version in SUPPORTED
        ]
    }
