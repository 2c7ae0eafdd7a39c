"""Addresses and passwords that callers tell with a server."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Mapping
from typing import Any

from novalite.errors import InvalidInput

_PASSWORD_BYTES = 9  # of random, which makes 12 characters


def access_addresses(asked: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the fields ``access_ipv4`` and ``access_ipv6`` as far as they are told; raise InvalidInput."""
    found: dict[str, str | None] = {}
    for name, field, read in (
        ("accessIPv4", "access_ipv4", ipaddress.IPv4Address),
        ("accessIPv6", "access_ipv6", ipaddress.IPv6Address),
    ):
        if name in asked:
            try:
                found[field] = str(read(asked[name])) if asked[name] else ""
            except ValueError:
                raise InvalidInput(f"{name} is not proper IP format: {asked[name]}") from None
    return found


def password_of(asked: Mapping[str, Any]) -> str:
    """Return the administrator's password asked for, or a new one."""
    password: str = asked.get("adminPass") or secrets.token_urlsafe(_PASSWORD_BYTES)
    return password
