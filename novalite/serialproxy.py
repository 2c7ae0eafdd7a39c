"""``novalite-serialproxy``: the serial consoles of one host's guests, over websockets."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NoReturn

from glancelike.ending import end, end_within
from glancelike.starting import settle
from glancelike.web import logs
from novalite.api.serial.serving import check, serving
from novalite.config import Settings, load
from novalite.db import Database
from novalite.ending import END_SECONDS
from novalite.errors import ConfigError, NovaliteError
from novalite.virt.base import VirtDriver

LOG = logging.getLogger(__name__)
NAME = "novalite-serialproxy"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``novalite-serialproxy --config-file FILE`` until SIGTERM or SIGINT; guests run on."""
    try:
        settings = load(sys.argv[1:] if argv is None else argv)
        logs.configure(debug=settings.debug)
        _run(settings)
    except NovaliteError as error:
        print(f"{NAME}: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    end(0)


def _run(settings: Settings) -> None:
    if settings.console.base_url is None:
        raise ConfigError("[serial_console] enabled isn't set: nobody would be sent here")
    told = settings.database
    with ExitStack() as stack:
        database = Database(told.connection, told.options, down_after=settings.service_down_time)
        database.open(upgrade=told.auto_upgrade)
        stack.callback(database.close)
        driver = settings.virt_driver(settings.virt_settings)
        check(driver)
        driver.open()
        stack.callback(driver.close)
        asyncio.run(_serve(settings, database, driver))


async def _serve(settings: Settings, database: Database, driver: VirtDriver) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with serving(settings, database, driver) as port:
        LOG.info("%s listens on http://%s:%d", NAME, settings.console.listen, port)
        settle()
        await ended.wait()
        end_within(END_SECONDS)
