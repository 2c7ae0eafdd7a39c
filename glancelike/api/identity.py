"""Who is an administrator: the policy's answer, for every request."""

from __future__ import annotations

import falcon

from glancelike.service import ImageService


class Administrators:
    """Let the rule ``context_is_admin`` decide whose ``Caller.admin`` is set."""

    def __init__(self, service: ImageService) -> None:
        self._service = service

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        caller = req.env.get("app.caller")
        if caller is not None:
            req.env["app.caller"] = self._service.recognised(caller)
