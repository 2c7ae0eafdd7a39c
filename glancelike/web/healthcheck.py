"""Tell a load balancer that this worker answers."""

from __future__ import annotations

import falcon


class Healthcheck:
    """Liveness only: it asks no backend, so it can't take the service down with one."""

    def show(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = "text/plain"
        resp.text = "OK"
