"""The server: ``glancelike-api``, and the application for other servers."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NoReturn

from glancelike import config
from glancelike.api.errors import TABLE, render
from glancelike.api.identity import Administrators
from glancelike.api.resource import Schemas
from glancelike.api.routes import ROUTES
from glancelike.api.uploads import MethodOverride
from glancelike.api.versions import VersionedPaths
from glancelike.errors import ConfigError
from glancelike.service import ImageService
from glancelike.web import app as web
from glancelike.web import serve
from glancelike.web.auth import Auth, warn_if_exposed
from glancelike.web.settings import WebSettings
from glancelike.worker import working


def create_app(service: ImageService, auth: Auth, settings: WebSettings | None = None) -> web.App:
    """Make the WSGI application over an open service and an open auth plugin."""
    schemas = Schemas(service)
    # Where everybody is an administrator there is nothing to decide.
    middleware = () if auth.trusting else (Administrators(service),)
    return web.build(
        ROUTES,
        lambda resource: resource(service, schemas, settings),
        auth,
        TABLE,
        render,
        middleware,
        early=[VersionedPaths(service, settings), MethodOverride()],
        trailing_slash=True,
        settings=settings,
    )


@contextmanager
def running(settings: config.Config) -> Iterator[web.App]:
    """Open all that the application needs, and close it at the end.

    Raises what opening raises: ConfigError, RegistryError, StoreError.
    """
    with ExitStack() as stack:
        service = stack.enter_context(config.build(settings))
        auth = settings.auth.make(Auth)
        auth.open()
        stack.callback(auth.close)
        warn_if_exposed(auth, settings.bind_host)
        stack.enter_context(working(service, settings, threads=settings.task_workers))
        stack.enter_context(service.cache.kept(settings.cache_prefetcher_interval))
        yield create_app(service, auth, settings.web)


def wsgi(argv: Sequence[str] = ()) -> web.App:
    """Make the application for another WSGI server, from the configuration.

    ``argv`` is what ``glancelike-api`` would get. The service stays open
    until the process ends.
    """
    stack = ExitStack()
    app = stack.enter_context(running(config.load(argv)))
    atexit.register(stack.close)
    return app


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``glancelike-api --config-file FILE``."""
    try:
        settings = config.load(sys.argv[1:] if argv is None else argv)
    except ConfigError as error:
        print(f"glancelike-api: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    serve.run(
        lambda: running(settings),
        name="glancelike-api",
        host=settings.bind_host,
        port=settings.bind_port,
        workers=settings.workers,
        threads=settings.threads,
        debug=settings.debug,
    )
