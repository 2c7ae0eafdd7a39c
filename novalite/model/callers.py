"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Whether ``admin`` is true, the policy says, and what that means.

    ``token`` is what the caller authenticated with, for image services
    that decide by it; it is never shown or stored. ``service_roles`` are
    those of the service that passes a request on.
    """

    user: str | None = None
    project: str | None = None
    roles: frozenset[str] = frozenset()
    admin: bool = False
    request_id: str | None = None
    token: str | None = field(default=None, repr=False, compare=False)
    service_roles: frozenset[str] = frozenset()
    system_scope: str | None = None

    @classmethod
    def of(cls, other: Any, *, token: str | None = None) -> Caller:
        """Take over a caller of another package with the same attributes."""
        return cls(
            *(other.user, other.project, frozenset(other.roles), bool(other.admin), other.request_id, token),
            service_roles=frozenset(other.service_roles),
            system_scope=other.system_scope,
        )

    @classmethod
    def administrator(cls, project: str | None = None) -> Caller:
        """Make the caller an embedded program acts as."""
        return cls("admin", project, frozenset({"admin", "member", "reader"}), admin=True)
