"""What moves of either kind need: where disks are fetched from, and whom to tell."""

from __future__ import annotations

from collections.abc import Callable

from novalite.compute.build import BaseImages
from novalite.compute.carrying import DiskFetcher, Places
from novalite.compute.worker import LOG, Worker
from novalite.config import Settings
from novalite.db import Database
from novalite.errors import QueueDown, Unavailable
from novalite.model import Server
from novalite.rpc import Bus
from novalite.virt.base import VirtDriver


class Mover(Worker):
    """Base of what has servers go from host to host."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        bus: Bus,
        driver: VirtDriver,
        bases: BaseImages,
        places: Places,
    ) -> None:
        super().__init__(settings, database, driver)
        self._bus = bus
        self._bases = bases
        self._places = places
        self._fetcher = DiskFetcher(settings.migration)

    def where(self, server: Server) -> Callable[[], str]:
        """Return what tells, each time anew, where the old host gives its disks."""
        source = str(server.task_args["source_host"])

        def where() -> str:
            url = self._database.hosts.get(source).disks_url
            if url is None:
                raise Unavailable(f"host {source} doesn't say where disks are fetched from it")
            return url

        return where

    def tell(self, host: str, server: Server) -> None:
        """Have a host look at a server; without a message it does so later."""
        try:
            self._bus.drive(host, server.id)
        except QueueDown as error:
            LOG.warning("server %s: host %s will find it by itself: %s", server.id, host, error)
