"""Tasks of servers whose guests go on running on another host, step by step.

The old host tells what the guest needs, the new one makes it ready, the old
one has the guest sent, and the new one says that it is there. Each step is a
task of the host that it is about; what fails before the guest is sent, or
while it is, leaves it running where it is.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from novalite import faults
from novalite.compute.build import BaseImages, spec_of
from novalite.compute.carrying import Places, disk_of, told
from novalite.compute.leases import Work
from novalite.compute.mover import Mover
from novalite.compute.worker import LOG, state_by_power
from novalite.config import Settings
from novalite.db import Database
from novalite.errors import InstanceNotFound, MigrationTimedOut, NovaliteError
from novalite.model import FORCE_COMPLETE, Fault, Server, TaskState, VmState
from novalite.rpc import Bus
from novalite.virt.base import Arrival, BaseImage, Snapshot, VirtCap, VirtDriver


class LiveMoves(Mover):
    """Does them; ``tasks`` says which."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        bus: Bus,
        driver: VirtDriver,
        bases: BaseImages,
        places: Places,
    ) -> None:
        super().__init__(settings, database, bus, driver, bases, places)
        self.tasks: Mapping[TaskState, Callable[[Work], None]] = {
            TaskState.LIVE_LEAVING: self._tell_needs,
            TaskState.LIVE_PREPARING: self._make_ready,
            TaskState.MIGRATING: self._send,
            TaskState.LIVE_ARRIVED: self._receive,
            TaskState.LIVE_CANCELLING: self._cancel,
        }

    def _tell_needs(self, work: Work) -> None:
        """On the old host: say how large the disk is, and give the config drive."""
        server = work.server
        needs: dict[str, Any] = {}

        def act() -> None:
            self.demand(VirtCap.LIVE_MIGRATION)
            asked = self._driver.departure(server.id)
            needs["virtual_size"] = asked.virtual_size
            if asked.config_drive is not None:
                copy = asked.config_drive.with_suffix(".copy")
                shutil.copyfile(asked.config_drive, copy)
                made = Snapshot(copy, "raw", copy.stat().st_size)
                needs.update(told(self._places.put(server.id, made, secrets.token_urlsafe(32), work.check)))

        ended, fault = self.attempt(server, act)
        if ended and fault is not None:
            self._stay(work, fault)
        elif ended:
            work.check()
            self._database.moves.passed(server, "dest", TaskState.LIVE_PREPARING, **needs)
            self.tell(str(server.task_args["dest_host"]), server)

    def _make_ready(self, work: Work) -> None:
        """On the new host: make all that the guest needs but its disk's content."""
        server = work.server
        ready: dict[str, Any] = {}

        def act() -> None:
            self.demand(VirtCap.LIVE_MIGRATION)
            drive = None
            if server.task_args.get("disk"):
                disk = disk_of(server)
                drive = self._places.arriving(server.id, disk)
                self._places.make_room()
                self._fetcher.fetch(self.where(server), server.id, disk, drive, work.check)
            size = int(server.task_args["virtual_size"])
            base = BaseImage(self._settings.instances_path, "qcow2", size)  # the disk is upon nothing
            with self._bases.boot_files(server, work.check) as boot:
                spec = spec_of(server, replace(base, boot=boot), self._settings)
                ready["arrival"] = asdict(self._driver.make_ready(spec, size, drive))
            faults.passing("place-ready")

        ended, fault = self.attempt(server, act)
        if not ended:
            return
        source = str(server.task_args["source_host"])
        work.check()
        if fault is None:
            self._database.moves.passed(server, "source", TaskState.MIGRATING, **ready)
        else:
            self._quietly(server)
            self._database.moves.stays(server, "error", fault)
        self.tell(source, server)

    def _send(self, work: Work) -> None:
        """On the old host: have the guest go."""
        server = work.server
        there = Arrival(**server.task_args["arrival"])

        status = "error"

        def hurry() -> bool:
            return bool(work.told.get(FORCE_COMPLETE))

        def act() -> None:
            nonlocal status
            try:
                self._driver.send(server.id, there, work.check, hurry)
            except MigrationTimedOut:
                status = "cancelled"
                raise

        ended, fault = self.attempt(server, act)
        # A guest that isn't here has gone, however the last attempt ended, and is the new host's.
        if ended and fault is not None and self.state(server) is not None:
            self._stay(work, fault, status)
        elif ended:
            faults.passing("guest-sent")
            self._gone(server)

    def _gone(self, server: Server) -> None:
        self._database.moves.passed(server, "dest", TaskState.LIVE_ARRIVED)
        self.tell(str(server.task_args["dest_host"]), server)

    def _receive(self, work: Work) -> None:
        """On the new host: say that the guest is here."""
        server = work.server
        state = self.state(server)
        fault = None if state else Fault(500, f"the instance didn't arrive on host {self._settings.host}")
        vm_state = VmState.ERROR if fault else state_by_power(state)
        work.check()
        self._database.moves.settled(
            server, "error" if fault else "completed", fault, vm_state=vm_state, power_state=state
        )
        self._places.drop(server.id)
        LOG.info("server %s has come from host %s as it ran", server.id, server.task_args["source_host"])
        self.tell(str(server.task_args["source_host"]), server)

    def _cancel(self, work: Work) -> None:
        """Call it off, on the host whose step it was; a guest that has gone by then has gone."""
        server, args = work.server, work.server.task_args
        if self._settings.host != args["source_host"]:
            self._quietly(server)
            work.check()
            self._database.moves.stays(server, "cancelled")
            self.tell(str(args["source_host"]), server)
            return

        def act() -> None:
            with contextlib.suppress(InstanceNotFound):
                self._driver.stop_sending(server.id)

        ended, fault = self.attempt(server, act)
        if ended and fault is None and args.get("arrival") and self.state(server) is None:
            work.check()
            self._gone(server)
        elif ended:
            self._stay(work, fault, "error" if fault else "cancelled")

    def _stay(self, work: Work, fault: Fault | None, status: str = "error") -> None:
        """On the old host: say that the guest stays, as what it is."""
        server = work.server
        self._places.drop(server.id)
        state = self.state(server)
        work.check()
        self._database.moves.settled(server, status, fault, vm_state=state_by_power(state), power_state=state)
        self.tell(str(server.task_args["dest_host"]), server)

    def _quietly(self, server: Server) -> None:
        try:
            self._driver.destroy(server.id)
        except NovaliteError as error:
            LOG.warning("server %s: what was made ready for it stays for now: %s", server.id, error)
