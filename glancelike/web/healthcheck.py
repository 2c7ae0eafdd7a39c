"""Tell a load balancer that this worker answers, and should be asked."""

from __future__ import annotations

import falcon

from glancelike.web.settings import HealthSettings


class Healthcheck:
    """Liveness only: it asks no backend, so it can't take the service down with one.

    While one of the files that the settings name is there, the answer is
    503: an operator, or a script, takes the server out before work on it.
    """

    def settings_of_health(self) -> HealthSettings:
        """Return what disables the server; nothing, unless overridden."""
        return HealthSettings()

    def show(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer ``OK``, or ``DISABLED BY FILE``."""
        resp.content_type = "text/plain"
        resp.text = "OK"
        resp.set_header("Cache-Control", "no-store")
        settings = self.settings_of_health()
        port = str(req.env.get("SERVER_PORT", ""))
        for of_port, path in settings.disable_by:
            if of_port in (None, int(port) if port.isdigit() else None) and path.exists():
                resp.status = 503
                resp.text = f"DISABLED BY FILE {path}" if settings.detailed else "DISABLED BY FILE"
                return
