"""The registry server: ``glancelike-registry``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NoReturn

from glancelike import config_registry
from glancelike.config_registry import PROG, RegistryConfig
from glancelike.errors import ConfigError, GlancelikeError, SchemaOutdated
from glancelike.registry.base import Registry
from glancelike.registry.secret import secrets_of
from glancelike.registry.server import SecretAuth, create_app
from glancelike.web import app as web
from glancelike.web import serve
from glancelike.web.auth import NoneAuth, is_loopback

log = logging.getLogger(__name__)


@contextmanager
def running(settings: RegistryConfig) -> Iterator[web.App]:
    """Open the registry for as long as the application is used.

    Raises what opening raises: ConfigError, RegistryError.
    """
    with ExitStack() as stack:
        registry = settings.registry.make(Registry)
        try:
            registry.open()
        except SchemaOutdated as error:
            raise SchemaOutdated(f"{error}; for this server, `{PROG} upgrade`") from error
        stack.callback(registry.close)
        secrets = secrets_of(settings.secret)
        auth = SecretAuth(secrets) if secrets else NoneAuth({})
        if not is_loopback(settings.bind_host) and settings.certfile is None:
            log.warning("without certfile the records, and the secret, can be read on their way")
        yield create_app(registry, auth)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``glancelike-registry [upgrade|sample] --config-file FILE``."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = words.pop(0) if words and words[0] in ("upgrade", "sample") else "serve"
    try:
        if command == "sample":
            print(config_registry.sample(), end="")  # noqa: T201
            sys.exit(0)
        settings = config_registry.load(words)
        if command == "upgrade":
            settings.registry.make(Registry).upgrade()
            sys.exit(0)
    except GlancelikeError as error:
        print(f"{PROG}: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    serve.run(
        lambda: running(settings),
        name=PROG,
        host=settings.bind_host,
        port=settings.bind_port,
        workers=settings.workers,
        threads=settings.threads,
        debug=settings.debug,
        certfile=settings.certfile,
        keyfile=settings.keyfile,
    )
