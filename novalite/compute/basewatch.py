"""Guests whose base isn't complete: what the worker owes them.

The process that serves bases is kept running; a guest that was paused because
nothing came is let go on when it comes again; and a guest on a base that was
found to be wrong is stopped, and its server told why.
"""

from __future__ import annotations

import logging
from pathlib import Path

from novalite.bases import orders
from novalite.bases.keeper import Keeper
from novalite.bases.orders import Files
from novalite.config import Settings
from novalite.db import Database
from novalite.errors import StaleRecord
from novalite.model import Fault, Server, VmState, utcnow
from novalite.virt.base import PowerAction, PowerState, VirtDriver
from novalite.virt.domain import Layout
from novalite.workers import Workers

LOG = logging.getLogger(__name__)


class BaseWatch:
    """Looks after the bases of one host; ``run`` once is one look."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        driver: VirtDriver,
        workers: Workers,
        keeper: Keeper,
        *,
        wanted: bool,
    ) -> None:
        """``wanted``: guests may come to boot from such bases; else only those that there are matter."""
        self._host = settings.host
        self._directory = settings.image_cache.directory.absolute()
        self._instances_path = settings.instances_path
        self._database = database
        self._driver = driver
        self._workers = workers
        self._keeper = keeper
        self._wanted = wanted

    def run(self) -> None:
        """Do what is due; raises when the process, the database or the hypervisor doesn't answer."""
        known = list(orders.all_in(self._directory))
        bad = list(self._directory.glob("*.bad-*"))
        if self._wanted or known:
            self._keeper.keep()
        if not known and not bad:
            return
        users = self._users()
        for path in bad:
            self._deal_with(path, users)
        sound = {
            inode
            for order in known
            if not (files := Files(self._directory, order.key)).trouble.exists()
            for inode in (_inode(files.lazy), _inode(files.base))
        }
        self._let_go_on({server_id for server_id, inode in users.items() if inode in sound})

    def close(self) -> None:
        """Leave the process alone."""
        self._keeper.close()

    def _users(self) -> dict[str, int]:
        """Map each instance's id to the inode of its base."""
        found = {}
        for folder in self._instances_path.glob("*-*-*-*-*"):
            if (inode := _inode(Layout(folder).base)) is not None:
                found[folder.name] = inode
        return found

    def _deal_with(self, path: Path, users: dict[str, int]) -> None:
        """Stop the guests of a discarded base; its record goes when all are dealt with."""
        bad = orders.read_json(path) or {}
        why = f"image {bad.get('image')} came with wrong data and was discarded: {bad.get('why')}"
        affected = [server_id for server_id, inode in users.items() if inode == bad.get("inode")]
        for server_id in affected:
            with self._workers.hold(server_id) as free:
                server = self._database.servers.find([server_id]).get(server_id)
                if server is None or server.vm_state == VmState.ERROR:
                    continue
                if not free or server.task_state is not None:
                    return  # the next look does it
                if not self._stop(server, why):
                    return
        if not any(_inode(link) == bad.get("inode") for link in self._directory.glob("*.use-*")):
            path.unlink(missing_ok=True)

    def _stop(self, server: Server, why: str) -> bool:
        LOG.error("server %s is stopped: %s", server.id, why)
        self._driver.set_power(server.id, PowerAction.FORCE_STOP)
        try:
            self._database.servers.lost(server, Fault(500, why, utcnow()))
        except StaleRecord:
            return False
        return True

    def _let_go_on(self, lazy: set[str]) -> None:
        """Resume guests that were paused because a read failed; nothing else pauses a guest."""
        if not lazy:
            return
        for server_id, state in self._driver.list_states().items():
            if state != PowerState.PAUSED or server_id not in lazy:
                continue
            with self._workers.hold(server_id) as free:
                server = self._database.servers.find([server_id]).get(server_id)
                if free and server and server.vm_state == VmState.ACTIVE and server.task_state is None:
                    LOG.info("server %s goes on: its image's data comes again", server_id)
                    self._driver.set_power(server_id, PowerAction.START)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
