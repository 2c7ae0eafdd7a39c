"""What every resource of the Compute API is made of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import falcon

from glancelike.web.body import read_json
from glancelike.web.validation import Schema
from novalite.api.compute import microversion
from novalite.api.compute.booleans import FALSE, TRUE
from novalite.api.compute.microversion import PREFIX, Version
from novalite.api.compute.recognition import CALLER
from novalite.errors import InvalidInput
from novalite.model import Caller
from novalite.service import ComputeService


class Resource:
    """Base of the resources: their methods are the operations of ``ROUTES``."""

    def __init__(self, service: ComputeService, max_limit: int) -> None:
        self.service = service
        self.max_limit = max_limit

    def limit_of(self, params: Mapping[str, str]) -> int:
        """Return the page size asked for, at most ``max_limit``."""
        limit = integer(params, "limit")
        if limit is None:
            return self.max_limit
        if limit < 0:
            raise InvalidInput(f"limit must not be negative: {limit}")
        return min(limit, self.max_limit)


def caller_of(req: falcon.Request) -> Caller:
    """Return who calls, as novalite's services take it."""
    caller: Caller = req.env[CALLER]
    return caller


def body_of(req: falcon.Request, schema: Schema) -> dict[str, Any]:
    """Read the JSON body and check it; raise InvalidInput naming the member."""
    body = read_json(req)
    fault = schema.fault(body)
    if fault is not None:
        raise InvalidInput(f"Invalid input for {fault.where or 'the request body'}: {fault.message}")
    checked: dict[str, Any] = body
    return checked


def demand_version(req: falcon.Request, since: Version) -> None:
    """Answer 404, as if there were no such path, before a microversion."""
    if microversion.of(req) < since:
        raise falcon.HTTPNotFound(description="The resource could not be found.")


def demand_until(req: falcon.Request, end: Version) -> None:
    """Answer 404, as if there were no such path, from a microversion on."""
    if microversion.of(req) >= end:
        raise falcon.HTTPNotFound(description="The resource could not be found.")


def demand_known(req: falcon.Request, asked: Mapping[str, Any], since: Mapping[str, Version]) -> None:
    """Raise InvalidInput for members that the request's microversion doesn't have."""
    for name, version in since.items():
        if name in asked and microversion.of(req) < version:
            raise InvalidInput(
                f"Invalid input for the request body: Additional properties are not allowed "
                f"({name!r} was unexpected before microversion {microversion.text(version)})"
            )


def params_of(req: falcon.Request) -> dict[str, str]:
    """Return the query parameters, the last of each name."""
    try:
        return dict(parse_qsl(req.query_string, keep_blank_values=True, errors="strict"))
    except ValueError as error:
        raise InvalidInput(f"the query string can't be read: {error}") from error


def integer(params: Mapping[str, str], name: str) -> int | None:
    """Return a parameter as an integer, None when it isn't given."""
    value = params.get(name)
    if value is None:
        return None
    if not value.removeprefix("-").isdecimal() or not value.isascii() or len(value) > 18:
        raise InvalidInput(f"{name} must be an integer, not '{value}'")
    return int(value)


def flag(params: Mapping[str, str], name: str) -> bool:
    """Return a parameter as a flag; given without a value it is set."""
    value = params.get(name, "false").lower()
    if value in ("", *TRUE):
        return True
    if value in FALSE:
        return False
    raise InvalidInput(f"{name} must be true or false, not '{params[name]}'")


def instant(name: str, value: str) -> datetime:
    """Return a parameter's time; without a zone it is UTC."""
    try:
        # An unescaped "+" of a zone offset arrives as a blank.
        parsed = datetime.fromisoformat(value.strip().replace(" ", "+"))
    except ValueError:
        raise InvalidInput(f"{name} must be a time such as 2026-11-23T02:30:00Z, not '{value}'") from None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def next_link(req: falcon.Request, name: str, marker: str | None) -> dict[str, Any]:
    """Return the ``…_links`` member of a list that goes on behind ``marker``."""
    if marker is None:
        return {}
    query = urlencode({**params_of(req), "marker": marker})
    return {f"{name}_links": [{"rel": "next", "href": f"{req.prefix}{req.path}?{query}"}]}


def self_links(req: falcon.Request, path: str) -> list[dict[str, str]]:
    """Return the links of a thing at ``path`` below the version."""
    return [
        {"rel": "self", "href": f"{req.prefix}{PREFIX}{path}"},
        {"rel": "bookmark", "href": f"{req.prefix}{path}"},
    ]
