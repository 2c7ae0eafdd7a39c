"""Guests whose base isn't complete: what the worker owes them.

The process that serves bases is kept running; a guest that was paused because
nothing came is let go on when it comes again, or stopped when nothing ever will,
and its server told why; and so is every guest on a base that was found to be wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from novalite import faults
from novalite.bases import orders
from novalite.bases.keeper import Keeper
from novalite.bases.orders import Files, Order
from novalite.config import Settings
from novalite.db import Database
from novalite.errors import StaleRecord
from novalite.model import Fault, Server, VmState, utcnow
from novalite.virt.base import OFF, PowerAction, PowerState, VirtDriver
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
        troubled = {inode: trouble for order in known for inode, trouble in self._bases_of(order)}
        self._see_to_paused(
            {server_id: troubled[inode] for server_id, inode in users.items() if inode in troubled}
        )

    def close(self) -> None:
        """Leave the process alone."""
        self._keeper.close()

    def _bases_of(self, order: Order) -> Iterator[tuple[int, str | None]]:
        """Give the inodes of an order's files, with what their guests are to be told.

        It is None while all is well, "" while there is hope.
        """
        files = Files(self._directory, order.key)
        told: str | None = None
        if files.trouble.exists():
            trouble = orders.read_json(files.trouble) or {}
            lost = f"image {order.image_id} is gone, and isn't here as a whole: {trouble.get('why')}"
            told = lost if trouble.get("lost") else ""
        for path in (files.lazy, files.base):
            if (inode := _inode(path)) is not None:
                yield inode, told

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
        why = str(bad.get("why"))
        affected = [server_id for server_id, inode in users.items() if inode == bad.get("inode")]
        states = self._driver.list_states() if affected else {}
        for server_id in affected:
            with self._workers.hold(server_id) as free:
                server = self._database.servers.find([server_id]).get(server_id)
                off = states.get(server_id, PowerState.SHUTDOWN) in OFF
                if server is None or (server.vm_state == VmState.ERROR and off):
                    continue
                if not free or server.task_state is not None:
                    return  # the next look does it
                if not self._stop(server, why):
                    return
        if not any(_inode(link) == bad.get("inode") for link in self._directory.glob("*.use-*")):
            path.unlink(missing_ok=True)

    def _stop(self, server: Server, why: str) -> bool:
        """Have a server's owner told why its guest is stopped, and stop it; the caller holds its id.

        In this order: who finds the guest off knows the reason, and one that still is on when
        this is cut short is found by the next look.
        """
        LOG.error("server %s is stopped: %s", server.id, why)
        if not self._tell(server, why):
            return False
        faults.passing("loss-told")
        self._driver.set_power(server.id, PowerAction.FORCE_STOP)
        return True

    def _tell(self, server: Server, why: str) -> bool:
        """Have a server be in ERROR for a reason; tell whether it is, which one with a task won't be."""
        found: Server | None = server
        while found is not None and found.task_state is None and found.vm_state != VmState.DELETED:
            if found.vm_state == VmState.ERROR and found.fault is not None and found.fault.message == why:
                return True
            try:
                found = self._database.servers.lost(found, Fault(500, why, utcnow()))
            except StaleRecord:
                # Whoever compares guests with records may have noted something meanwhile.
                found = self._database.servers.find([server.id]).get(server.id)
        return False

    def _see_to_paused(self, trouble: dict[str, str | None]) -> None:
        """Resume guests that were paused because a read failed, or stop those whose base is lost.

        Nothing else pauses a guest but its owner. One that doesn't come to what is missing runs on.
        """
        if all(told == "" for told in trouble.values()):
            return
        for server_id, state in self._driver.list_states().items():
            told = trouble.get(server_id, "")
            if state != PowerState.PAUSED or told == "":
                continue
            with self._workers.hold(server_id) as free:
                server = self._database.servers.find([server_id]).get(server_id)
                if not free or not server or server.task_state:
                    continue
                if told is not None and server.vm_state in (VmState.ACTIVE, VmState.ERROR):
                    self._stop(server, told)
                elif told is None and server.vm_state == VmState.ACTIVE:
                    LOG.info("server %s goes on: its image's data comes again", server_id)
                    self._driver.set_power(server_id, PowerAction.START)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
