"""Who calls: the contract of auth plugins, and those that are always there.

``none`` trusts everybody, so it is for loopback only. ``basic`` checks
HTTP Basic credentials against a file. ``keystone`` asks OpenStack's
Identity service and needs the extra of that name. Entry points
``glancelike.auth``; the name comes from the option ``auth_strategy``.
"""

from glancelike.model import Caller
from glancelike.web.auth.base import DEFAULT_ROLES, Auth, is_loopback, warn_if_exposed
from glancelike.web.auth.basic import BasicAuth, Verified, parse_accounts
from glancelike.web.auth.none import NoneAuth

__all__ = [
    "DEFAULT_ROLES",
    "Auth",
    "BasicAuth",
    "Caller",
    "NoneAuth",
    "Verified",
    "is_loopback",
    "parse_accounts",
    "warn_if_exposed",
]
