"""``novalite-metadata``: the metadata service, for the guests of this host or for proxies."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NoReturn

from glancelike.web import app as web
from glancelike.web import serve
from glancelike.web.healthcheck import Healthcheck
from novalite.admission import Guests
from novalite.api.metadata.documents import Documents
from novalite.api.metadata.errors import TABLE, render
from novalite.api.metadata.identity import GuestAuth, Holder
from novalite.api.metadata.routes import ROUTES
from novalite.api.metadata.tokens import Tokens
from novalite.config import MetadataSettings, Settings, load
from novalite.db import Database
from novalite.ending import END_SECONDS, REQUEST_SECONDS
from novalite.errors import ConfigError
from novalite.virt.peers import GuestSockets

__all__ = ["create_app", "main"]


def create_app(guests: Guests, settings: MetadataSettings, tokens: Tokens, holder: Holder | None) -> web.App:
    """Make the WSGI application over a database that is open."""
    auth = GuestAuth(guests, holder=holder, secret=settings.shared_secret)
    resources = {
        Documents: Documents(guests, tokens, require_token=settings.require_token),
        Healthcheck: Healthcheck(),
    }
    return web.build(ROUTES, resources.__getitem__, auth, TABLE, render)


@contextmanager
def running(settings: Settings, tokens: Tokens) -> Iterator[web.App]:
    """Open the database and make the application; close it at the end."""
    told = settings.database
    with ExitStack() as stack:
        database = Database(told.connection, told.options, down_after=settings.service_down_time)
        database.open(upgrade=told.auto_upgrade)
        stack.callback(database.close)
        by_socket = settings.network.kind == "user"
        holder = GuestSockets(settings.instances_path).holder if by_socket else None
        yield create_app(Guests(settings, database), settings.metadata, tokens, holder)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``novalite-metadata --config-file FILE``."""
    name = "novalite-metadata"
    try:
        settings = load(sys.argv[1:] if argv is None else argv)
    except ConfigError as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    told = settings.metadata
    tokens = Tokens(told.shared_secret)  # before the fork: of all workers
    serve.run(
        lambda: running(settings, tokens),
        name=name,
        host=told.listen,
        port=told.listen_port,
        workers=told.workers,
        threads=settings.api.threads,
        debug=settings.debug,
        grace=REQUEST_SECONDS,
        limit=END_SECONDS,
    )
