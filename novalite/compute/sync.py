"""Comparing the host with the database, which is right about what should be."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from novalite.compute.carrying import Places
from novalite.db import Database
from novalite.errors import StaleRecord
from novalite.model import LIVE, Fault, Server, TaskState, VmState, utcnow
from novalite.virt.base import OFF, PowerAction, PowerState, VirtDriver
from novalite.workers import Workers

LOG = logging.getLogger(__name__)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PLACED = (
    *(VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED),
    *(VmState.RESCUED, VmState.RESIZED, VmState.SHELVED),
)
_CARRIED = (TaskState.RESIZE_MIGRATING, TaskState.RESIZE_MIGRATED, *LIVE)


class Sync:
    """Finds guests that changed by themselves, and what shouldn't be here."""

    def __init__(
        self,
        host: str,
        instances_path: Path,
        database: Database,
        driver: VirtDriver,
        workers: Workers,
        places: Places,
    ) -> None:
        self._host = host
        self._instances_path = instances_path
        self._unknown: set[str] = set()
        self._database = database
        self._driver = driver
        self._workers = workers
        self._places = places

    def run(self) -> None:
        """Compare everything once; raises when database or hypervisor is away."""
        # The records first: one that changes while the host is looked at has
        # another version by then, so what is written by the old one fails.
        records = {server.id: server for server in self._database.servers.on_host(self._host)}
        states = self._driver.list_states()
        for server in records.values():
            if server.task_state is None:
                self._compare(server, states.get(server.id))
        for instance_id in sorted((states.keys() | self._found_here()) - records.keys()):
            with self._workers.hold(instance_id) as free:
                if free:
                    self._see_to_another_hosts(instance_id)
        for server_id in self._places.all():
            with self._workers.hold(server_id) as free:
                if free:
                    self._see_to_its_disk(server_id)
        dropped = self._database.hosts.drop_stray_allocations(self._host)
        if dropped:
            LOG.warning("%d allocations of servers that aren't here were removed", dropped)

    def _compare(self, server: Server, state: PowerState | None) -> None:
        running = state is not None and state not in OFF
        try:
            if server.vm_state in (VmState.STOPPED, VmState.SHELVED) and running:
                # Someone else started it; its owner wants it off.
                with self._workers.hold(server.id) as free:
                    if free and self._database.servers.get(server.id).version == server.version:
                        LOG.warning("server %s runs though it is stopped: stopping it", server.id)
                        self._driver.set_power(server.id, PowerAction.FORCE_STOP)
            elif server.vm_state in _PLACED and state is None:
                LOG.error("server %s is gone from this host", server.id)
                fault = Fault(500, f"the instance is gone from host {self._host}", utcnow())
                self._database.servers.lost(server, fault)
            elif server.vm_state == VmState.ACTIVE and not running:
                LOG.info("server %s has shut down by itself", server.id)
                self._database.servers.change(server, vm_state=VmState.STOPPED, power_state=state)
            elif server.vm_state == VmState.PAUSED and state in OFF:
                LOG.info("server %s ended while it was paused", server.id)
                self._database.servers.change(server, vm_state=VmState.STOPPED, power_state=state)
            elif server.vm_state in (VmState.PAUSED, VmState.SUSPENDED) and state == PowerState.RUNNING:
                LOG.info("server %s was made to go on", server.id)
                self._database.servers.change(server, vm_state=VmState.ACTIVE, power_state=state)
            elif server.vm_state in _PLACED and server.power_state != state:
                self._database.servers.change(server, power_state=state)
        except StaleRecord:
            LOG.debug("server %s changed while it was compared", server.id)

    def _found_here(self) -> set[str]:
        """List the directories of instances, which a build cut short may leave."""
        try:
            names = [path.name for path in self._instances_path.iterdir()]
        except FileNotFoundError:
            return set()
        return {name for name in names if _UUID.fullmatch(name)}

    def let_go(self, server_id: str) -> None:
        """Drop what is here of a server that has left, while nothing else is done to it here."""
        if server_id in self._driver.list_states() or server_id in self._found_here():
            self._see_to_another_hosts(server_id)
        self._see_to_its_disk(server_id)

    def _see_to_another_hosts(self, instance_id: str) -> None:
        """Have an instance be off that its server may come back to, and remove one that it won't.

        The caller holds its id: nothing is spawned meanwhile, so what is read stays true.
        """
        record, other = self._database.moves.place(instance_id)
        if record is None:
            # Rather is the database the wrong one than this instance nobody's.
            if instance_id not in self._unknown:
                self._unknown.add(instance_id)
                LOG.error("instance %s is in no record: it is left alone", instance_id)
        elif record.host == self._host and record.vm_state != VmState.DELETED:
            return
        elif other == self._host and record.vm_state != VmState.DELETED:
            if record.task_state in LIVE:
                return
            if self._driver.list_states().get(instance_id, PowerState.SHUTDOWN) not in OFF:
                LOG.warning("server %s runs here though it has left: stopping it", instance_id)
                self._driver.set_power(instance_id, PowerAction.FORCE_STOP)
        else:
            LOG.warning("instance %s has no server on this host any more: removing it", instance_id)
            self._driver.destroy(instance_id)
            self._database.moves.dropped(instance_id, self._host)

    def _see_to_its_disk(self, server_id: str) -> None:
        """Remove what was to be carried and isn't any more; the caller holds the id."""
        record = self._database.servers.find([server_id]).get(server_id)
        if record is None or record.task_state not in _CARRIED:
            self._places.drop(server_id)
