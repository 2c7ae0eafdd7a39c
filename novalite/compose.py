"""Putting a node together from its settings; the parts know nothing of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from novalite import inprocess
from novalite.compute.manager import ComputeManager
from novalite.config import Settings
from novalite.db import Database
from novalite.images import Images
from novalite.images.http import HttpImages
from novalite.policy import Policy
from novalite.rpc import Bus
from novalite.scheduler.manager import SchedulerManager
from novalite.service import ComputeService
from novalite.virt.base import VirtDriver

__all__ = ["ALL_ROLES", "NO_ROLES", "Node", "build_all", "is_alone", "warn_if_alone"]

LOG = logging.getLogger(__name__)
ALL_ROLES = frozenset({"compute", "scheduler"})
NO_ROLES: frozenset[str] = frozenset()  # the API's alone


class _Part(Protocol):
    def open(self) -> None: ...

    def close(self) -> None: ...


class Node:
    """The service and the workers of one process.

    ``open`` starts threads and connections, so it belongs behind a fork.
    ``close`` takes a few seconds at most; guests run on, and what is
    unfinished waits in the database for the next start.
    """

    def __init__(self, settings: Settings, images: Images, roles: frozenset[str]) -> None:
        self.settings = settings
        told = settings.database
        self.database = self._database = Database(
            told.connection, told.options, down_after=settings.service_down_time
        )
        self._bus = Bus(
            settings.transport_url, settings.messaging, response_timeout=settings.rpc_response_timeout
        )
        self._images = images
        policy = Policy(settings.policy.file, optional=settings.policy.optional)
        self.service = ComputeService(settings, self._database, self._bus, images, policy)
        self.compute: ComputeManager | None = None
        self.driver: VirtDriver | None = None
        self.scheduler: SchedulerManager | None = None
        workers: list[_Part] = []
        if "compute" in roles:
            self.driver = settings.virt_driver(settings.virt_settings)
            self.compute = ComputeManager(settings, self._database, self._bus, images, self.driver)
            workers.append(self.compute)
        if "scheduler" in roles:
            # After compute, so that it finds this process's own host alive.
            self.scheduler = SchedulerManager(settings, self._database, self._bus)
            workers.append(self.scheduler)
        self._workers = workers
        self._opened: list[Callable[[], None]] = []

    def open(self) -> None:
        """Start everything, or on an error nothing.

        Raises ConfigError, DatabaseDown, DatabaseSchema, or what the virt
        driver raises when it can't work here.
        """
        try:
            self._database.open(upgrade=self.settings.database.auto_upgrade)
            self._opened.append(self._database.close)
            parts: list[_Part] = [self._bus, self._images, *self._workers]
            for part in parts:
                part.open()
                self._opened.append(part.close)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop everything in the opposite order; safe to call twice."""
        with contextlib.ExitStack() as stack:
            for close in self._opened:
                stack.callback(_quietly, close)
            self._opened = []

    @property
    def unsent(self) -> int:
        """How many messages were lost, those included that waited when it was closed."""
        return self._bus.unsent

    def __enter__(self) -> Node:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _quietly(close: Callable[[], None]) -> None:
    try:
        close()
    except Exception:
        LOG.exception("closing went wrong")


def build_all(settings: Settings, *, roles: frozenset[str] = ALL_ROLES, images: Images | None = None) -> Node:
    """Make a node: the service, and the workers named by ``roles``.

    Without ``images`` the image service of the settings is used over HTTP.
    """
    return Node(settings, images or HttpImages(settings.glance), roles)


def is_alone(settings: Settings) -> bool:
    """Tell whether the message queue is one process's own."""
    return settings.transport_url.startswith(inprocess.URL)


def warn_if_alone(settings: Settings) -> None:
    """Warn a program that others should hear of when the message queue is one process's own."""
    if is_alone(settings):
        LOG.warning(
            "transport_url stays within this process: others find what there is to do every %g s "
            "(redrive_interval), and can't be asked for a console log",
            settings.redrive_interval,
        )
