"""``/v2.1/os-aggregates``: there are none; some commands ask all the same."""

from __future__ import annotations

import falcon

from novalite.api.compute.resource import Resource, caller_of
from novalite.errors import Forbidden


class Aggregates(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        if not caller_of(req).admin:
            raise Forbidden("only administrators list aggregates")
        resp.media = {"aggregates": []}
