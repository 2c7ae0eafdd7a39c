"""``auth_strategy = none``: everybody is an administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oslo_config import cfg

from glancelike.model import Caller
from glancelike.web.auth.base import DEFAULT_ROLES, Auth

if TYPE_CHECKING:
    import falcon


class NoneAuth(Auth):
    """Take every caller for an administrator. Bind to loopback only.

    Identity headers aren't looked at: they are dropped before.
    """

    trusting = True
    options = (
        cfg.StrOpt("auth_none_project", default="admin", help="Project of every caller under auth 'none'."),
    )

    def authenticate(self, req: falcon.Request) -> Caller:
        project = self.settings["auth_none_project"]
        return Caller(
            "admin",
            project,
            frozenset({"admin", *DEFAULT_ROLES}),
            admin=True,
            request_id=req.env.get("app.request_id"),
        )
