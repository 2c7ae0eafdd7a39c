"""The contract of auth plugins."""

from __future__ import annotations

import ipaddress
import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from glancelike.model import Caller
from glancelike.plugins import Plugin

if TYPE_CHECKING:
    import falcon

log = logging.getLogger(__name__)

DEFAULT_ROLES = frozenset({"member", "reader"})


class Auth(Plugin):
    """Base class of auth plugins. ``trusting`` ones take anybody's word."""

    trusting: ClassVar[bool] = False

    @abstractmethod
    def authenticate(self, req: falcon.Request) -> Caller:
        """Return who calls, with the request's id.

        Called once a request, before anything of its body is read. Raises
        falcon.HTTPUnauthorized, and falcon.HTTPServiceUnavailable where
        whoever knows the callers is away.
        """


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def warn_if_exposed(auth: Auth, host: str) -> None:
    """Log a warning when others than this machine may reach a trusting server."""
    if auth.trusting and not is_loopback(host):
        log.warning(
            "auth_strategy takes everybody for an administrator, and %s isn't loopback: "
            "whoever reaches this server may do everything",
            host,
        )
