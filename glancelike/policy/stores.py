"""Rules of what is told of the stores."""

from __future__ import annotations

from glancelike.policy.base import ADMIN, SERVICE, Rule, rule

RULES: tuple[Rule, ...] = (
    rule(
        "stores_info_detail",
        f"{ADMIN} or {SERVICE}",
        "Know the types and properties of the stores",
        "GET /v2/info/stores/detail",
    ),
)
