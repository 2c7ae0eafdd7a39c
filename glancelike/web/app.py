"""Put the kit together: routes, identity and errors make an application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import falcon

from glancelike.web.auth import Auth
from glancelike.web.errors import ErrorTable, Render, install
from glancelike.web.middleware import Authentication, Hygiene, RequestIds
from glancelike.web.routes import Route, mount

App = falcon.App[falcon.Request, falcon.Response]


def build(
    routes: Sequence[Route],
    make: Callable[[type[Any]], Any],
    auth: Auth,
    errors: ErrorTable,
    render: Render,
    middleware: Sequence[Any] = (),
) -> App:
    """Make the WSGI application; ``auth`` must be open.

    ``middleware`` is the service's own, in Falcon's form; it sees only
    requests whose caller is known.
    """
    public = {route.path for route in routes if route.public}
    before: list[Any] = [RequestIds(), Hygiene(), Authentication(auth, public), *middleware]
    app: App = falcon.App(middleware=before)
    app.req_options.strip_url_path_trailing_slash = True
    install(app, errors, render)
    mount(app, routes, make)
    return app
