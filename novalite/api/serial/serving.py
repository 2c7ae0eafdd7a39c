"""Where the proxy runs: in a program of its own, or in one that has the host's worker as well."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from novalite.admission import redeem
from novalite.config import Settings
from novalite.db import Database
from novalite.errors import ConfigError, Unsupported
from novalite.virt.base import VirtCap, VirtDriver

LOG = logging.getLogger(__name__)
_START_SECONDS = 30.0
_STOP_SECONDS = 2.0


def check(driver: VirtDriver) -> None:
    """Raise Unsupported for a driver that has no serial consoles."""
    if VirtCap.SERIAL not in driver.capabilities:
        raise Unsupported(f"virt driver {driver.name} has no serial consoles")


@asynccontextmanager
async def serving(settings: Settings, database: Database, driver: VirtDriver) -> AsyncIterator[int]:
    """Serve the consoles of this host's guests for a while; yield the port.

    Database and driver are open. Raises ConfigError where it can't listen, or lacks websockets.
    """
    try:
        from novalite.api.serial.proxy import SerialProxy
    except ImportError as error:
        raise ConfigError(
            f"serial consoles need websockets: pip install glancelike[serial] ({error})"
        ) from error
    told = settings.console
    proxy = SerialProxy(
        told,
        redeem=lambda token: redeem(database, token, host=settings.host),
        open_serial=driver.open_serial,
    )
    try:
        server = await proxy.start()
    except OSError as error:
        raise ConfigError(
            f"[serial_console] can't listen on {told.listen}:{told.listen_port}: {error}"
        ) from error
    async with server:
        yield next(iter(server.sockets)).getsockname()[1]


@contextmanager
def beside(settings: Settings, database: Database, driver: VirtDriver) -> Iterator[None]:
    """Serve them on a thread, as ``serving`` does and raising what it raises."""
    check(driver)
    thread = _Thread(settings, database, driver)
    thread.start()
    try:
        yield
    finally:
        thread.stop()


class _Thread:
    """The loop of coroutines, and how to end it."""

    def __init__(self, settings: Settings, database: Database, driver: VirtDriver) -> None:
        self._parts = (settings, database, driver)
        self._thread = threading.Thread(target=self._run, name="serial-consoles", daemon=True)
        self._begun = threading.Event()
        self._failed: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None

    def start(self) -> None:
        self._thread.start()
        begun = self._begun.wait(_START_SECONDS)
        if self._failed is not None:
            raise self._failed
        if not begun:
            raise ConfigError(f"serial consoles aren't served within {_START_SECONDS:g} s")

    def stop(self) -> None:
        """End it; clients that don't say goodbye are left behind."""
        if self._loop is not None and self._ended is not None:
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._begun.is_set():
                LOG.exception("there are no serial consoles any more")
            self._failed = error  # raised by whoever waits for the start
        finally:
            self._begun.set()

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        async with serving(*self._parts):
            self._loop = asyncio.get_running_loop()
            self._begun.set()
            await self._ended.wait()
