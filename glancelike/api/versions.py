"""``/`` and ``/versions``: which versions of the API are spoken, and paths that name one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import falcon

from glancelike.api.resource import Resource
from glancelike.service import ImageService
from glancelike.web.settings import WebSettings

# Minor versions of the Image API are markers of features and not negotiated:
# a URL does the same whichever a client reads here.
MINORS = range(18, -1, -1)
CACHE = frozenset({14, 16, 18})  # whose features are the cache's
UNVERSIONED = frozenset({"", "versions", "healthcheck"})


class Versions(Resource):
    def choices(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.status = 300
        self.list(req, resp)

    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = _document(self.web.public_endpoint or req.prefix, _minors(self.service))


class VersionedPaths:
    """Take each version that is listed for the one there is: ``/v2.7/images``.

    Any other path is answered with the choices, also for strangers: that is
    how clients find out what they talk to.
    """

    def __init__(self, service: ImageService, web: WebSettings | None) -> None:
        self._web = web or WebSettings()
        self._minors = _minors(service)
        self._names = {"v2", *(f"v2.{minor}" for minor in self._minors)}

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        version, slash, rest = req.path.removeprefix("/").partition("/")
        if version in self._names:
            req.path = f"/v2{slash}{rest}"
        elif version not in UNVERSIONED:
            resp.status = 300
            resp.media = _document(self._web.public_endpoint or req.prefix, self._minors)
            resp.complete = True


def _minors(service: ImageService) -> Sequence[int]:
    return [minor for minor in MINORS if service.cache.enabled or minor not in CACHE]


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
