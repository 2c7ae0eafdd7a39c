"""``/`` and ``/v2.1``: where clients learn what is spoken here."""

from __future__ import annotations

from typing import Any

import falcon

from novalite.api.compute.microversion import MAX, MIN, PREFIX, text
from novalite.api.compute.resource import Resource

UPDATED = "2013-07-23T11:33:21Z"  # the date of Compute API 2.1 in every cloud


class Versions(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {"versions": [_version(req)]}

    def show(self, req: falcon.Request, resp: falcon.Response) -> None:
        media = {
            "base": "application/json",
            "type": "application/vnd.openstack.compute+json;version=2.1",
        }
        resp.media = {"version": {**_version(req), "media-types": [media]}}


def _version(req: falcon.Request) -> dict[str, Any]:
    return {
        "id": "v2.1",
        "status": "CURRENT",
        "version": text(MAX),
        "min_version": text(MIN),
        "updated": UPDATED,
        "links": [{"rel": "self", "href": f"{req.prefix}{PREFIX}/"}],
    }
