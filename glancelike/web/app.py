"""Put the kit together: routes, identity and errors make an application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import falcon

from glancelike.web.auth import Auth
from glancelike.web.body import JSON, encode_json
from glancelike.web.cors import Cors
from glancelike.web.errors import ErrorTable, Render, install
from glancelike.web.gzip import Gzip
from glancelike.web.middleware import Authentication, Hygiene, RequestIds
from glancelike.web.proxy import ProxyHeaders
from glancelike.web.routes import Route, mount
from glancelike.web.settings import WebSettings

App = falcon.App[falcon.Request, falcon.Response]


def build(
    routes: Sequence[Route],
    make: Callable[[type[Any]], Any],
    auth: Auth,
    errors: ErrorTable,
    render: Render,
    middleware: Sequence[Any] = (),
    early: Sequence[Any] = (),
    trailing_slash: bool = False,
    settings: WebSettings | None = None,
) -> App:
    """Make the WSGI application; ``auth`` must be open.

    ``middleware`` is the service's own, in Falcon's form; it sees only
    requests whose caller is known; ``early`` sees all. With ``trailing_slash`` a path that ends
    in one is another path, as some APIs have it.

    The order: first the truth about the connection, then the request's id,
    since all that follows may refuse and refusals carry the id. A preflight
    is answered before anybody is asked who he is. Answers go the other way
    round, so that Gzip sees what all others have made of them.
    """
    settings = settings or WebSettings()
    public = {route.path for route in routes if route.public}
    before: list[Any] = [
        *((ProxyHeaders(),) if settings.trust_proxy else ()),
        RequestIds(),
        Gzip(),
        Hygiene(),
        Cors(settings.cors),
        *early,
        Authentication(auth, public),
        *middleware,
    ]
    app: App = falcon.App(middleware=before)
    app.req_options.strip_url_path_trailing_slash = not trailing_slash
    app.resp_options.media_handlers[JSON] = falcon.media.JSONHandler(dumps=encode_json)
    install(app, errors, render)
    mount(app, routes, make)
    return app
