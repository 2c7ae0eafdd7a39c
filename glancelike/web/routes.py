"""Routes as data: what can be asked, and which method answers it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import falcon


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API.

    ``resource`` is a class and ``operation`` the name of its method that
    answers; ``action`` is the policy rule that the service asks for it.
    ``public`` routes need no identity.
    """

    method: str
    path: str
    resource: type[Any]
    operation: str
    action: str | None = None
    public: bool = False


def mount(app: falcon.App[Any, Any], routes: Iterable[Route], make: Callable[[type[Any]], Any]) -> None:
    """Add the routes; each resource class is made once, by ``make``.

    Methods without a route answer 405 with ``Allow``.
    """
    resources: dict[type[Any], Any] = {}
    paths: dict[str, SimpleNamespace] = {}
    for route in routes:
        if route.resource not in resources:
            resources[route.resource] = make(route.resource)
        responder = getattr(resources[route.resource], route.operation)
        setattr(paths.setdefault(route.path, SimpleNamespace()), f"on_{route.method.lower()}", responder)
    for path, responders in paths.items():
        app.add_route(path, responders)
