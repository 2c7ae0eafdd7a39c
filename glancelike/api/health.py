"""``/healthcheck``."""

from __future__ import annotations

from glancelike.api.resource import Resource
from glancelike.web.healthcheck import Healthcheck


class Health(Resource, Healthcheck):
    """The kit's liveness answer as a resource of this API."""
