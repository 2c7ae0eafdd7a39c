"""One libvirt connection that is made when needed and again when lost."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import libvirt

from novalite.errors import HypervisorDown, InstanceNotFound

LOG = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds between, and number of, unanswered pings before a daemon counts as gone.
_KEEPALIVE = (5, 4)
_CLOSE_SECONDS = 1.0
_LOST_CODES = frozenset({libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN})
_LOST_DOMAINS = frozenset({libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE})
_loop_lock = threading.Lock()
_loop: threading.Thread | None = None


class Connection:
    """Calls libvirt, reconnects once per call, and speaks our errors."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._lock = threading.Lock()
        self._live: Any = None

    def call(self, what: str, action: Callable[[Any], T]) -> T:
        """Return ``action(connection)``; ``what`` names it in errors.

        When the daemon is found gone the action is run a second time, on a
        new connection: it must look up anew what it works on. Raises
        InstanceNotFound when libvirt knows no such domain, else HypervisorDown.
        """
        again = True
        while True:
            live = self._connect()
            try:
                return action(live)
            except libvirt.libvirtError as exc:
                if is_lost(exc) or not _alive(live):
                    self._forget(live)
                    if again:
                        again = False
                        continue
                if exc.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    raise InstanceNotFound(f"{what}: {exc}") from exc
                raise HypervisorDown(f"{what}: {exc}") from exc

    def close(self) -> None:
        """Drop the connection; the next call makes another.

        One that is just being made isn't waited for: a daemon that hangs would never let it be.
        """
        if self._lock.acquire(timeout=_CLOSE_SECONDS):
            self._live = None
            self._lock.release()

    def _connect(self) -> Any:
        _start_event_loop()
        with self._lock:
            if self._live is not None and _alive(self._live):
                return self._live
            try:
                self._live = libvirt.open(self.uri)
                self._live.setKeepAlive(*_KEEPALIVE)
            except libvirt.libvirtError as exc:
                self._live = None
                raise HypervisorDown(f"libvirt at {self.uri}: {exc}") from exc
            LOG.info("connected to libvirt at %s", self.uri)
            return self._live

    def _forget(self, live: Any) -> None:
        """Use a connection no more; it is closed when the last call on it has returned.

        Another thread may be within libvirt with it, whose memory ``close()`` would free.
        """
        with self._lock:
            if live is self._live:
                self._live = None


def end_all(uri: str) -> None:
    """End every guest and every network of a libvirt that is ours alone."""
    connection = Connection(uri)

    def end(live: Any) -> None:
        active = live.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        active += live.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE)
        for thing in active:
            with contextlib.suppress(libvirt.libvirtError):  # it ended by itself
                thing.destroy()

    connection.call("end of all guests", end)
    connection.close()


def is_lost(exc: libvirt.libvirtError) -> bool:
    """Tell whether an error is the connection's, not the call's."""
    return exc.get_error_code() in _LOST_CODES or exc.get_error_domain() in _LOST_DOMAINS


def _alive(live: Any) -> bool:
    try:
        return bool(live.isAlive())
    except libvirt.libvirtError:
        return False


def _start_event_loop() -> None:
    """Run libvirt's event loop, once per process: keepalive lives on it.

    It also silences libvirt's habit of printing each error to stderr. A
    thread doesn't survive fork, so a child that connects gets its own.
    """
    global _loop
    with _loop_lock:
        if _loop is not None and _loop.is_alive():
            return
        if _loop is None:
            libvirt.registerErrorHandler(lambda _context, _error: None, None)
            libvirt.virEventRegisterDefaultImpl()
        _loop = threading.Thread(target=_run_event_loop, name="libvirt-events", daemon=True)
        _loop.start()


def _run_event_loop() -> None:
    while True:
        with contextlib.suppress(libvirt.libvirtError):
            libvirt.virEventRunDefaultImpl()
