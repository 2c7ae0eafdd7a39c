"""``novalite-api`` is the Compute API; ``novalite-all`` has all of a cloud in one process."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NoReturn

from glancelike.web import app as web
from glancelike.web import logs, serve
from glancelike.web.auth import Auth, warn_if_exposed
from novalite.api.compute.errors import TABLE, render
from novalite.api.compute.microversion import Microversions
from novalite.api.compute.query_rules import QueryRules
from novalite.api.compute.recognition import Recognition
from novalite.api.compute.routes import ROUTES
from novalite.api.serial.serving import beside
from novalite.compose import ALL_ROLES, NO_ROLES, build_all, warn_if_alone
from novalite.config import Settings, load
from novalite.ending import END_SECONDS, REQUEST_SECONDS
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
        middleware=[Recognition(service.policy), Microversions(), QueryRules()],
    )


@contextmanager
def running(settings: Settings, roles: frozenset[str] = ALL_ROLES) -> Iterator[web.App]:
    """Open a node with its API, and close them at the end.

    One that is a compute host, too, serves its guests' consoles itself.
    """
    with ExitStack() as stack:
        auth = settings.api.auth(settings.api.auth_settings)
        auth.open()
        stack.callback(auth.close)
        warn_if_exposed(auth, settings.api.listen)
        node = build_all(settings, roles=roles)
        node.service.policy.open()
        stack.enter_context(node)
        if node.driver is not None and settings.console.base_url is not None:
            stack.enter_context(beside(settings, node.database, node.driver))
        yield create_app(node.service, auth, max_limit=settings.api.max_limit)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``novalite-all --config-file FILE``."""
    name = "novalite-all"
    settings = _settings(name, argv)
    if settings.api.workers != 1:
        _refuse(
            name,
            f"osapi_compute_workers is {settings.api.workers}: novalite-all runs the scheduler "
            "and the compute worker beside the API, which are there once, so it has to be 1",
        )
    _serve(name, settings, ALL_ROLES)


def api(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``novalite-api --config-file FILE``: the Compute API alone, in any number of processes."""
    name = "novalite-api"
    settings = _settings(name, argv)
    logs.configure(debug=settings.debug)
    warn_if_alone(settings)
    _serve(name, settings, NO_ROLES)


def _settings(name: str, argv: Sequence[str] | None) -> Settings:
    try:
        return load(sys.argv[1:] if argv is None else argv)
    except ConfigError as error:
        _refuse(name, str(error))


def _refuse(name: str, why: str) -> NoReturn:
    print(f"{name}: {why}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


def _serve(name: str, settings: Settings, roles: frozenset[str]) -> NoReturn:
    serve.run(
        lambda: running(settings, roles),
        name=name,
        host=settings.api.listen,
        port=settings.api.listen_port,
        workers=settings.api.workers,
        threads=settings.api.threads,
        debug=settings.debug,
        grace=REQUEST_SECONDS,
        limit=END_SECONDS,
    )
