"""Tasks of servers that move to another host, each half on the host it is about.

Cold: the old host ends the guest and makes a file of its disk, the new one
fetches that and makes the guest of it. What was stays where it was until it
is confirmed, or is what the server goes back to. After an evacuation the new
host makes the guest of its image; should that fail, the server is the dead
host's again. ``db.moves`` has the claims on both.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from novalite import faults
from novalite.compute.build import BaseImages, spec_of
from novalite.compute.carrying import EPHEMERAL, ROOT, Places, disk_of, told
from novalite.compute.leases import Work
from novalite.compute.mover import Mover
from novalite.compute.worker import LOG, state_by_power
from novalite.config import Settings
from novalite.db import Database
from novalite.db.records import flavor_json, flavor_of
from novalite.model import GIB, RESIZED_FROM, Fault, Flavor, Server, TaskState, VmState, utcnow
from novalite.rpc import Bus
from novalite.virt.base import BaseImage, InstanceSpec, PowerAction, VirtCap, VirtDriver
from novalite.virt.disks import inspect


class Moves(Mover):
    """Does them; ``tasks`` says which, ``of_moved`` which of servers that have moved."""

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
            TaskState.RESIZE_MIGRATING: self._leave,
            TaskState.RESIZE_MIGRATED: self._arrive,
            TaskState.REBUILD_SPAWNING: self._evacuate,
        }
        self.of_moved: Mapping[TaskState, Callable[[Work], None]] = {
            TaskState.RESIZE_CONFIRMING: self._confirm,
            TaskState.RESIZE_REVERTING: self._revert,
        }

    # From here to there

    def _leave(self, work: Work) -> None:
        """End the guest here, and have its disk wait for the new host."""
        server = work.server
        waiting: dict[str, Any] = {}

        def act() -> None:
            self.demand(VirtCap.SNAPSHOT)
            self.end(server)
            work.check()
            with self._driver.snapshot(server.id) as made:
                disk = self._places.put(server.id, made, secrets.token_urlsafe(32), work.check)
            waiting.update(told(disk))
            if server.flavor.ephemeral_gb:
                waiting.update(self._ephemeral_waits(work))
            faults.passing("disk-waits")

        ended, fault = self.attempt(server, act)
        if not ended:
            return
        was_on = server.vm_state == VmState.ACTIVE
        work.check()
        if fault is None:
            self._database.moves.left(server, on=was_on, **waiting)
            self.tell(str(server.task_args["dest_host"]), server)
            return
        self._places.drop(server.id)
        if was_on:
            self.quietly(server, lambda: self._driver.set_power(server.id, PowerAction.START))
        state = self.state(server)
        self._database.moves.settled(
            server,
            "error",
            fault,
            vm_state=state_by_power(state),
            power_state=state,
            flavor=server.flavor,
        )

    def _ephemeral_waits(self, work: Work) -> dict[str, Any]:
        """Have the guest's ephemeral disk wait, too; tell of it."""
        with self._driver.copy_ephemeral(work.server.id) as made:
            if made is None:
                return {}
            secret = secrets.token_urlsafe(32)
            disk = self._places.put(work.server.id, made, secret, work.check, EPHEMERAL)
        return told(disk, EPHEMERAL)

    def _arrive(self, work: Work) -> None:
        """Fetch the disks from the old host, and make the guest of them."""
        server = work.server
        args = server.task_args
        before, after, was_on = server.flavor, _flavor_after(server), bool(args["on"])

        def act() -> None:
            target = self._places.arriving(server.id, disk_of(server))
            if not target.exists():  # what is here is of an earlier stay
                self._driver.destroy(server.id)
            if self.state(server) is None:
                base = self._fetched(work, ROOT)
                further = self._fetched(work, EPHEMERAL) if args.get(EPHEMERAL) else None
                with self._bases.boot_files(server, work.check) as boot:
                    work.check()
                    faults.passing("disk-fetched")
                    base = replace(base, boot=boot)
                    spec = replace(self._spec(server, after, base), ephemeral_base=further, started=was_on)
                    self._driver.spawn(spec)
            elif was_on:  # an attempt that was cut short has made it
                self._driver.set_power(server.id, PowerAction.START)

        ended, fault = self.attempt(server, act)
        if not ended:
            return
        kept = {RESIZED_FROM: {"flavor": flavor_json(before), "on": was_on}}
        kept[RESIZED_FROM] |= {"host": args["source_host"], "zone": args["source_zone"]}
        if fault is not None:
            self.quietly(server, lambda: self._driver.destroy(server.id))
            self._places.drop(server.id)
            work.check()
            source, zone = str(args["source_host"]), args["source_zone"]
            self._database.moves.sent_back(server, source, zone, fault, kept=kept)
            self.tell(source, server)
            return
        faults.passing("guest-arrived")
        work.check()
        self._database.moves.arrived(server, before, flavor=after, kept=kept, power_state=self.state(server))
        self._places.drop(server.id)
        LOG.info("server %s has come from host %s", server.id, args["source_host"])
        self.tell(str(args["source_host"]), server)  # it needn't keep the copy any more

    def _fetched(self, work: Work, which: str) -> BaseImage:
        server, disk = work.server, disk_of(work.server, which)
        target = self._places.arriving(server.id, disk)
        self._places.make_room()
        self._fetcher.fetch(self.where(server), server.id, disk, target, work.check, which)
        if disk.format == "qcow2":
            inspect(target, disk.format)  # that it names no other file, whoever has made it
        return BaseImage(target, disk.format, disk.virtual_size)

    def _spec(self, server: Server, flavor: Flavor, base: BaseImage) -> InstanceSpec:
        """Make the order for a guest whose disk is ``base``, whatever its image is now; no disk shrinks."""
        spec = spec_of(replace(server, flavor=flavor), base, self._settings)
        size = max(flavor.disk_gb * GIB, base.virtual_size) if flavor.disk_gb else 0
        return replace(spec, root_bytes=size)

    # The end of it

    def _confirm(self, work: Work) -> None:
        """Have the old host drop what it keeps."""
        server = work.server
        ended, fault = self.attempt(server, lambda: self.demand(VirtCap.NONE))
        if not ended:
            return
        state = self.state(server)
        if state is None:
            fault = fault or Fault(500, f"the instance is gone from host {server.host}")
        work.check()
        if fault is not None:
            self._database.work.done(server, fault, vm_state=VmState.ERROR, power_state=state)
            return
        self._database.moves.settled(
            server,
            "confirmed",
            vm_state=state_by_power(state),
            power_state=state,
            flavor=server.flavor,
            kept={},
        )
        self.tell(_source(server), server)

    def _revert(self, work: Work) -> None:
        if _source(work.server) == self._settings.host:
            self._come_back(work)
        else:
            self._go_back(work)

    def _go_back(self, work: Work) -> None:
        """End the guest here; all of it stays until the old host has its own."""
        server = work.server
        ended, fault = self.attempt(server, lambda: self.end(server))
        if not ended:
            return
        work.check()
        if fault is not None:
            self._database.work.done(server, fault, vm_state=VmState.ERROR, power_state=self.state(server))
            return
        source, zone = _source(server), server.kept[RESIZED_FROM]["zone"]
        self._database.moves.sent_back(server, source, zone, None)
        self.tell(source, server)

    def _come_back(self, work: Work) -> None:
        """Make the guest that stayed here what it was."""
        server = work.server
        was: Mapping[str, Any] = server.kept[RESIZED_FROM]

        def act() -> None:
            self._places.drop(server.id)
            action = PowerAction.START if was["on"] else PowerAction.FORCE_STOP
            self._driver.set_power(server.id, action)

        ended, fault = self.attempt(server, act)
        if not ended:
            return
        state = self.state(server)
        faults.passing("guest-is-back")
        work.check()
        if fault is not None:  # what the other host has isn't dropped
            self._database.work.done(server, fault, vm_state=VmState.ERROR, power_state=state)
            return
        other = self._database.moves.other_host(server.id)
        self._database.moves.settled(
            server,
            "reverted",
            vm_state=state_by_power(state),
            power_state=state,
            flavor=flavor_of(was["flavor"]),
            kept={},
        )
        if other is not None:
            self.tell(other, server)

    # From a dead host

    def _evacuate(self, work: Work) -> None:
        """Make the guest anew of its image, as its host is dead."""
        server = work.server
        off = server.vm_state == VmState.STOPPED or bool(server.task_args.get("off"))

        def act() -> None:
            with self._bases.of(server, work.check) as base:
                work.check()
                # What is here is of an earlier stay, or of an attempt that was cut short.
                self._driver.destroy(server.id)
                self._driver.spawn(replace(spec_of(server, base, self._settings), started=not off))

        ended, fault = self.attempt(server, act)
        if not ended:
            return
        source = str(server.task_args["source_host"])
        if fault is not None:
            self.quietly(server, lambda: self._driver.destroy(server.id))
            work.check()
            self._database.moves.given_up(server, source, server.task_args["source_zone"], fault)
            return
        faults.passing("guest-made-anew")
        state = self.state(server)
        work.check()
        self._database.moves.settled(
            server,
            "done",
            vm_state=state_by_power(state),
            power_state=state,
            launched_at=utcnow(),
            kept={},
        )
        LOG.info("server %s of host %s is made anew", server.id, source)
        self.tell(source, server)


def moved(server: Server) -> bool:
    """Tell whether a server's old self is on another host."""
    return "host" in server.kept.get(RESIZED_FROM, {})


def _source(server: Server) -> str:
    return str(server.kept[RESIZED_FROM]["host"])


def _flavor_after(server: Server) -> Flavor:
    told = server.task_args.get("flavor")
    return flavor_of(told) if told else server.flavor
