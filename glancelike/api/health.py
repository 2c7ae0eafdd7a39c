"""``/healthcheck``."""

from __future__ import annotations

from glancelike.api.resource import Resource
from glancelike.web.healthcheck import Healthcheck
from glancelike.web.settings import HealthSettings


class Health(Resource, Healthcheck):
    """The kit's liveness answer as a resource of this API."""

    def settings_of_health(self) -> HealthSettings:
        """Return what the configuration says."""
        return self.web.health
