"""``docs/api-coverage.md``: all operations in one table each group, made from ROUTES."""

from __future__ import annotations

from collections.abc import Iterable

from glancelike.api.openapi import describe, failures
from glancelike.web.routes import Route

# The groups of the Image API, by what follows /v2/ in the path.
GROUPS = {
    "images": "Images",
    "stores": "Stores",
    "info": "Service info",
    "cache": "Image cache",
    "tasks": "Tasks",
    "schemas": "Schemas",
    "metadefs": "Metadata definitions",
}
REST = "The service itself"
INTRO = """\
# API coverage

Every operation that the server answers, with its policy rule (`-`: any caller with an identity;
`public`: anybody) and the statuses it may give. Glance's Image API v2 has 81 operations, the first
seven groups below; HEAD on an image's data, uploads in pieces and presigned ones are additions.
`GET /v2/openapi.json` has the same with all parameters and bodies.

Made by `glancelike api coverage`, all but the end, which says how Tempest's compute tests go; a test
checks that it is current.
"""


def coverage(routes: Iterable[Route]) -> str:
    """Return the page of the routes, as Markdown."""
    groups: dict[str, list[Route]] = {name: [] for name in (*GROUPS.values(), REST)}
    for route in routes:
        groups[_group(route.path)].append(route)
    return "\n".join([INTRO, *(_section(name, found) for name, found in groups.items() if found)])


def _group(path: str) -> str:
    _, _, rest = path.partition("/v2/")
    return GROUPS.get(rest.partition("/")[0], REST)


def _section(name: str, routes: list[Route]) -> str:
    rows = [_row(route) for route in routes]
    head = ["method and path", "what it does", "policy", "statuses"]
    lines = [f"## {name} ({len(routes)})", "", _line(head), _line(["---"] * len(head)), *rows]
    return "\n".join([*lines, ""])


def _row(route: Route) -> str:
    said = describe(route)
    statuses = ", ".join(str(status) for status in sorted({*said.answers, *failures(route)}))
    rule = "public" if route.public else f"`{route.action}`" if route.action else "-"
    return _line([f"`{route.method} {route.path}`", said.summary, rule, statuses])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
