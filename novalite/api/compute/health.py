"""``/healthcheck``."""

from __future__ import annotations

from glancelike.web.healthcheck import Healthcheck
from novalite.api.compute.resource import Resource


class Health(Resource, Healthcheck):
    """The kit's liveness answer as a resource of this API."""
