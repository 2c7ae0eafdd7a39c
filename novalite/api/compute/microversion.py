"""Microversions: which are spoken, and which one a request asks for.

What is answered follows the microversion wherever Nova's answers differ by
it; ``docs/compute-api.md`` has the list, and says why it ends at ``MAX``.
"""

from __future__ import annotations

import re

import falcon

Version = tuple[int, int]

MIN: Version = (2, 1)
MAX: Version = (2, 104)
HEADER = "OpenStack-API-Version"
OLD_HEADER = "X-OpenStack-Nova-API-Version"
PREFIX = "/v2.1"


def text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def asked(req: falcon.Request) -> Version:
    """Return the microversion that a request asks for.

    Raises 400 for what is no version, 406 for one that isn't spoken.
    """
    value = _compute_part(req.get_header(HEADER)) or req.get_header(OLD_HEADER)
    if value is None:
        return MIN
    value = value.strip()
    if value == "latest":
        return MAX
    match = re.fullmatch(r"([1-9]\d{0,3})\.([1-9]\d{0,4}|0)", value, re.ASCII)
    if match is None:
        raise falcon.HTTPBadRequest(
            description=f"API Version String {value} is of invalid format. "
            "Must be of format MajorNum.MinorNum."
        )
    version = (int(match[1]), int(match[2]))
    if not MIN <= version <= MAX:
        raise falcon.HTTPNotAcceptable(
            description=f"Version {value} is not supported by the API. "
            f"Minimum is {text(MIN)} and maximum is {text(MAX)}."
        )
    return version


def _compute_part(header: str | None) -> str | None:
    """Find ours in ``compute 2.10, volume 3.1``."""
    for part in (header or "").split(","):
        service, _, version = part.strip().partition(" ")
        if service.lower() == "compute" and version:
            return version
    return None


def of(req: falcon.Request) -> Version:
    """Return the microversion of a request that got so far."""
    version: Version = req.env["compute.microversion"]
    return version


def since(req: falcon.Request, version: Version) -> bool:
    """Tell whether a request asks for ``version`` or a later one."""
    return of(req) >= version


class Microversions:
    """Negotiate on every request and answer with what was used."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        if req.path.startswith(PREFIX):
            req.env["compute.microversion"] = asked(req)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool
    ) -> None:
        version = req.env.get("compute.microversion")
        if version is not None:
            resp.set_header("x-compute-request-id", str(req.env.get("app.request_id", "")))
            resp.set_header(HEADER, f"compute {text(version)}")
            resp.set_header(OLD_HEADER, text(version))
            resp.append_header("Vary", f"{HEADER}, {OLD_HEADER}")
