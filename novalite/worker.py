"""``novalite-scheduler`` and ``novalite-compute``: one worker a process, any number of hosts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from glancelike.ending import Ending, end, end_within
from glancelike.starting import settle
from glancelike.web import logs
from novalite.compose import build_all, warn_if_alone
from novalite.config import load
from novalite.ending import END_SECONDS
from novalite.errors import ConfigError, NovaliteError

LOG = logging.getLogger(__name__)


def scheduler(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``novalite-scheduler --config-file FILE`` until SIGTERM or SIGINT."""
    _run("scheduler", argv)


def compute(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``novalite-compute --config-file FILE`` until SIGTERM or SIGINT; guests run on."""
    _run("compute", argv)


def _run(role: str, argv: Sequence[str] | None) -> NoReturn:
    ended = Ending()
    try:
        settings = load(sys.argv[1:] if argv is None else argv)
        logs.configure(debug=settings.debug)
        warn_if_alone(settings)
        with build_all(settings, roles=frozenset({role})):
            settle()
            LOG.info("novalite-%s works for host %s", role, settings.host)
            ended.wait()
            end_within(END_SECONDS)
    except NovaliteError as error:
        print(f"novalite-{role}: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    end(0)
