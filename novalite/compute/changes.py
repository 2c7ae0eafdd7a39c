"""Tasks that change what a guest is: rebuild, rescue, resize, and coming back from a shelf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from novalite import faults
from novalite.compute.build import BaseImages, spec_of, with_image
from novalite.compute.leases import Work
from novalite.compute.worker import LOG, Worker, state_by_power
from novalite.config import Settings
from novalite.db import Database
from novalite.db.hosts import largest
from novalite.db.records import flavor_json, flavor_of
from novalite.model import (
    GIB,
    MIB,
    RESIZED_FROM,
    Fault,
    Flavor,
    Server,
    TaskState,
    VmState,
    utcnow,
)
from novalite.virt.base import PowerAction, VirtCap, VirtDriver


class Changes(Worker):
    """Does them; ``tasks`` says which."""

    def __init__(self, settings: Settings, database: Database, driver: VirtDriver, bases: BaseImages) -> None:
        super().__init__(settings, database, driver)
        self._bases = bases
        self.tasks: Mapping[TaskState, Callable[[Work], None]] = {
            TaskState.REBUILDING: self._rebuild,
            TaskState.RESCUING: self._rescue,
            TaskState.UNRESCUING: self._unrescue,
            TaskState.RESIZE_FINISH: self._resize,
            TaskState.RESIZE_CONFIRMING: self._confirm,
            TaskState.RESIZE_REVERTING: self._revert,
            TaskState.SHELVING_OFFLOADING: self._offload,
            TaskState.UNSHELVING: self._unshelve,
        }

    def _rebuild(self, work: Work) -> None:
        """Make the guest anew. Its image is the record's already, what there is may be either."""
        server = work.server

        def act() -> None:
            with self._bases.of(server, work.check) as base:
                work.check()
                self._driver.destroy(server.id)
                self._driver.spawn(spec_of(server, base, self._settings))
            faults.passing("guest-made-anew")
            if server.vm_state == VmState.STOPPED:
                self._driver.set_power(server.id, PowerAction.FORCE_STOP)

        ended, fault = self.attempt(server, act)
        if ended:
            state = self.state(server)
            vm_state = VmState.ERROR if fault else state_by_power(state)
            times = {} if fault else {"launched_at": utcnow()}
            self._end(work, fault, vm_state=vm_state, power_state=state, **times)

    def _rescue(self, work: Work) -> None:
        server = work.server

        def act() -> None:
            self.demand(VirtCap.RESCUE)
            source = with_image(server)
            base = self._bases.precache(source.image, work.check)
            work.check()
            self.end(server)
            self._driver.rescue(replace(spec_of(source, base, self._settings), root_bytes=0))
            faults.passing("guest-rebooted")

        ended, fault = self.attempt(server, act)
        if not ended:
            return
        if fault is not None and VirtCap.RESCUE in self._driver.capabilities:
            self.quietly(server, lambda: self._driver.unrescue(server.id))
        state = self.state(server)
        vm_state = state_by_power(state) if fault else VmState.RESCUED
        self._end(work, fault, vm_state=vm_state, power_state=state)

    def _unrescue(self, work: Work) -> None:
        server = work.server

        def act() -> None:
            self._driver.unrescue(server.id)
            faults.passing("guest-rebooted")

        ended, fault = self.attempt(server, act)
        if ended:
            state = self.state(server)
            vm_state = VmState.ERROR if fault else state_by_power(state)
            self._end(work, fault, vm_state=vm_state, power_state=state)

    def _resize(self, work: Work) -> None:
        server = work.server
        before, after = server.flavor, flavor_of(server.task_args["flavor"])
        was_on = server.vm_state == VmState.ACTIVE

        def act() -> None:
            self.demand(VirtCap.RESIZE)
            self.end(server)
            work.check()
            self._driver.resize(
                server.id,
                vcpus=after.vcpus,
                memory_mb=after.memory_mb,
                root_bytes=after.disk_gb * GIB,
                swap_bytes=after.swap_mb * MIB,
                ephemeral_bytes=after.ephemeral_gb * GIB,
                os_type=server.image.properties.get("os_type", ""),
            )
            faults.passing("guest-resized")
            if was_on:
                self._driver.set_power(server.id, PowerAction.START)

        ended, fault = self.attempt(server, act)
        if not ended:
            return
        if fault is not None:
            self.quietly(server, lambda: self._back(server, on=was_on))
            state = self.state(server)
            self._end(work, fault, vm_state=state_by_power(state), power_state=state, flavor=before)
            return
        kept = {RESIZED_FROM: {"flavor": flavor_json(before), "on": was_on}}
        self._end(
            work,
            None,
            vm_state=VmState.RESIZED,
            power_state=self.state(server),
            flavor=after,
            kept=kept,
            claimed=largest(before, after),
        )

    def _confirm(self, work: Work) -> None:
        server = work.server

        def act() -> None:
            self._driver.confirm_resize(server.id)
            faults.passing("resize-ended")

        ended, fault = self.attempt(server, act)
        if ended:
            state = self.state(server)
            vm_state = VmState.ERROR if fault else state_by_power(state)
            self._end(work, fault, vm_state=vm_state, power_state=state, flavor=server.flavor, kept={})

    def _revert(self, work: Work) -> None:
        server = work.server
        kept: Mapping[str, Any] = server.kept[RESIZED_FROM]
        before: Flavor = flavor_of(kept["flavor"])

        def act() -> None:
            self.end(server)
            self._back(server, on=bool(kept["on"]))
            faults.passing("resize-ended")

        ended, fault = self.attempt(server, act)
        if ended:
            state = self.state(server)
            vm_state = VmState.ERROR if fault else state_by_power(state)
            flavor = server.flavor if fault else before
            self._end(work, fault, vm_state=vm_state, power_state=state, flavor=flavor, kept={})

    def _back(self, server: Server, *, on: bool) -> None:
        self._driver.revert_resize(server.id)
        if on:
            self._driver.set_power(server.id, PowerAction.START)

    def _offload(self, work: Work) -> None:
        server = work.server

        def act() -> None:
            self._driver.destroy(server.id)
            faults.passing("guest-removed")

        ended, fault = self.attempt(server, act)
        if ended and fault is None:
            self._database.work.offloaded(server)
            LOG.info("server %s has left this host", server.id)
        elif ended:
            self._end(work, fault, power_state=self.state(server))

    def _unshelve(self, work: Work) -> None:
        """Start what is still here, for which its image isn't needed."""
        server = work.server

        def act() -> None:
            self._driver.set_power(server.id, PowerAction.START)

        ended, fault = self.attempt(server, act)
        if ended:
            state = self.state(server)
            vm_state = server.vm_state if fault else state_by_power(state)
            kept = server.kept if fault else {}
            self._end(work, fault, vm_state=vm_state, power_state=state, kept=kept)

    def _end(self, work: Work, fault: Fault | None, **values: Any) -> None:
        work.check()
        self._database.work.done(work.server, fault, **values)
