"""``novalite-all``: the Compute API, the scheduler and the worker in one process."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NoReturn

from glancelike.web import app as web
from glancelike.web import serve
from glancelike.web.auth import Auth, warn_if_exposed
from novalite.api.compute.errors import TABLE, render
from novalite.api.compute.microversion import Microversions
from novalite.api.compute.routes import ROUTES
from novalite.compose import build_all
from novalite.config import Settings, load
from novalite.errors import ConfigError
from novalite.service import ComputeService


def create_app(service: ComputeService, auth: Auth, *, max_limit: int = 1000) -> web.App:
    """Make the WSGI application over an open service and an open auth plugin."""
    return web.build(
        ROUTES,
        lambda resource: resource(service, max_limit),
        auth,
        TABLE,
        render,
        middleware=[Microversions()],
    )


@contextmanager
def running(settings: Settings) -> Iterator[web.App]:
    """Open the whole node and its API, and close them at the end."""
    with ExitStack() as stack:
        auth = settings.api.auth(settings.api.auth_settings)
        auth.open()
        stack.callback(auth.close)
        warn_if_exposed(auth, settings.api.listen)
        node = stack.enter_context(build_all(settings))
        yield create_app(node.service, auth, max_limit=settings.api.max_limit)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``novalite-all --config-file FILE``."""
    try:
        settings = load(sys.argv[1:] if argv is None else argv)
        if settings.api.workers != 1:
            raise ConfigError(
                f"osapi_compute_workers is {settings.api.workers}: novalite-all runs the scheduler "
                "and the compute worker beside the API, which are there once, so it has to be 1"
            )
    except ConfigError as error:
        print(f"novalite-all: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    serve.run(
        lambda: running(settings),
        name="novalite-all",
        host=settings.api.listen,
        port=settings.api.listen_port,
        workers=1,
        threads=settings.api.threads,
        debug=settings.debug,
    )
