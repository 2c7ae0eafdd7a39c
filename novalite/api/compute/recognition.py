"""Who calls, as novalite's services take it: an administrator if the policy says so."""

from __future__ import annotations

import falcon

from novalite.model import Caller
from novalite.policy import Policy

CALLER = "compute.caller"


class Recognition:
    """Take over the caller of each request, letting ``context_is_admin`` decide on ``Caller.admin``."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        caller = req.env.get("app.caller")
        if caller is not None:
            req.env[CALLER] = self._policy.recognised(Caller.of(caller))
