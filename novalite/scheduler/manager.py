"""The scheduler at work: places every server that has no host yet.

Any number of them may run. A message or the regular look at the database
says which servers wait; a lease keeps two schedulers off the same one, and
the claim is a compare-and-set on the host as it was when it was chosen.
"""

from __future__ import annotations

import logging
import os
import uuid
from dataclasses import replace

from novalite import faults
from novalite.config import Settings
from novalite.db import Database
from novalite.db.migration_log import EVACUATION, LIVE, MIGRATION, RESIZE
from novalite.db.records import flavor_of
from novalite.errors import NoValidHost, NovaliteError, QueueDown, StaleRecord
from novalite.model import OF_SCHEDULER, Fault, Flavor, Server, TaskState, VmState
from novalite.rpc import Bus
from novalite.scheduler.base import Hook, Request
from novalite.scheduler.selection import choose, request_of, unfit, without
from novalite.scheduler.view import HostView
from novalite.workers import Periodic, Workers

LOG = logging.getLogger(__name__)
_THREADS = 2
# Each time a claim comes too late another one has succeeded, so this many
# fail in a row only when as many servers were placed meanwhile.
_CLAIMS = 50


class SchedulerManager:
    """Places servers; ``open`` starts its threads."""

    def __init__(self, settings: Settings, database: Database, bus: Bus) -> None:
        self._settings = settings
        self._database = database
        self._bus = bus
        self._driver = settings.scheduler.driver()
        self._hooks = [hook(values) for hook, values in settings.scheduler.hooks]
        self._hosts = HostView(database.hosts)
        self._holder = f"scheduler/{settings.host}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._workers = Workers("scheduler", _THREADS, self._place)
        self._redrive = Periodic("scheduler-redrive", settings.redrive_interval, self.redrive)

    def open(self) -> None:
        """Start placing servers."""
        self._workers.start()
        self._bus.serve_scheduler(self._settings.host, self._workers.submit)
        self._redrive.start()

    def close(self, seconds: float = 2.0) -> None:
        """Stop; what isn't placed yet waits in the database."""
        self._redrive.stop(1.0)
        self._workers.stop(seconds)

    def redrive(self) -> None:
        """Look for servers that wait for a host."""
        for server_id in self._database.work.unfinished(host=None, holder=self._holder):
            self._workers.submit(server_id)

    def _place(self, server_id: str) -> None:
        server = self._database.work.begin(
            server_id, host=None, holder=self._holder, seconds=self._settings.lease_seconds
        )
        if server is None:
            return
        faults.passing("placing-begun")
        try:
            moves = server.task_state in OF_SCHEDULER
            placed = self._claim_move(server) if moves else self._claim(server)
        except StaleRecord as stale:
            LOG.info("%s", stale)
        except NovaliteError as error:
            if error.retryable:
                raise
            self._give_up(server, error)
        except Exception as error:
            LOG.exception("server %s can't be placed", server_id)
            self._give_up(server, error)
        else:
            if placed is None:
                return
            LOG.info("server %s goes to host %s", placed.id, placed.host)
            faults.passing("host-claimed")
            try:
                self._bus.drive(str(placed.host), placed.id)
            except QueueDown as error:
                LOG.warning("server %s: its host will find it by itself: %s", placed.id, error)
            faults.passing("host-told")

    def _claim(self, server: Server) -> Server | None:
        for _ in range(_CLAIMS):
            seen = self._hosts.read()
            # After the hosts: a member that comes to one of them meanwhile makes the claim fail.
            request = request_of(server, self._database.groups.places(server))
            refused = {
                name: reason
                for name, each in seen.items()
                if (reason := unfit(server, each.host)) is not None
            }
            states = [each.state for name, each in seen.items() if name not in refused]
            picked = choose(request, states, self._hooks, self._driver, refused)
            _demand_welcome(request, picked.name)
            host = seen[picked.name].host
            placed = self._database.hosts.claim(server, host)
            if placed is not None:
                self._hosts.claimed(host, server.flavor, server.id)
                return placed
            LOG.debug("host %s changed while server %s was placed", picked.name, server.id)
        self._later(server)
        return None

    def _claim_move(self, server: Server) -> Server | None:
        """Have a host hold room for a server that is to be another size, or elsewhere.

        A resize stays where the server is, if that has room: no disk has to
        be carried then.
        """
        told = server.task_args
        flavor = flavor_of(told["flavor"]) if "flavor" in told else server.flavor
        kind = _kind(server)
        for _ in range(_CLAIMS):
            refused = {str(server.host): "is where the server is"}
            if kind == RESIZE and self._settings.resize_to_same_host:
                try:
                    if (claimed := self._claim_larger(server, flavor)) is not None:
                        return claimed
                    continue
                except NoValidHost as error:
                    refused = dict(error.reasons)
            if (claimed := self._claim_other(server, flavor, kind, refused)) is not None:
                return claimed
        self._later(server)
        return None

    def _claim_larger(self, server: Server, flavor: Flavor) -> Server | None:
        """Have the server's own host hold room for another flavor.

        The hooks see the host as if the server weren't there.
        """
        seen = self._hosts.read().get(str(server.host))
        if seen is None:
            raise NoValidHost({str(server.host): "isn't there any more"})
        here = replace(server, pinned_zone=None, forced_host=None, tried_hosts=())
        if (reason := unfit(here, seen.host)) is not None:
            raise NoValidHost({seen.host.name: reason})
        request = request_of(replace(server, flavor=flavor), carried=True)  # it stays where its group has it
        choose(request, [without(seen.state, server)], self._hooks, self._driver, {})
        return self._database.hosts.claim_larger(server, seen.host, flavor)

    def _claim_other(
        self, server: Server, flavor: Flavor, kind: str, refused: dict[str, str]
    ) -> Server | None:
        """Have another host hold room, in the zone that was asked for unless a host is forced."""
        told = server.task_args
        target = told.get("host")
        forced = bool(told.get("force"))
        zone = None if forced else server.pinned_zone
        fits = replace(server, forced_host=target, pinned_zone=zone, tried_hosts=())
        seen = self._hosts.read()
        places = self._database.groups.places(server)  # after the hosts, as in ``_claim``
        for name, each in seen.items():
            host = replace(each.host, enabled=True) if forced else each.host
            if name not in refused and (reason := unfit(fits, host)) is not None:
                refused[name] = reason
        states = [each.state for name, each in seen.items() if name not in refused]
        hooks: list[Hook] = [hook for hook in self._hooks if hook.always or not forced]
        request = request_of(replace(fits, flavor=flavor), places, carried=kind != EVACUATION)
        picked = choose(request, states, hooks, self._driver, refused)
        _demand_welcome(request, picked.name)
        return self._database.moves.claim(server, seen[picked.name].host, flavor, kind)

    def _later(self, server: Server) -> None:
        LOG.warning("server %s: hosts kept changing while it was placed; trying again later", server.id)
        self._database.work.release(server)

    def _give_up(self, server: Server, error: Exception) -> None:
        told = str(error) if isinstance(error, NovaliteError) else f"{type(error).__name__}: {error}"
        if server.fault is not None:
            told = f"{told}; before that: {server.fault.message}"
        LOG.warning("server %s: %s", server.id, told)
        try:
            if server.task_state == TaskState.RESIZE_PREP:
                self._database.work.done(server, Fault(500, told), flavor=server.flavor)
            elif server.task_state == TaskState.EVACUATING:
                self._database.work.done(server, Fault(500, told), vm_state=VmState.ERROR)
            elif server.task_state == TaskState.LIVE_PREP:
                self._database.work.done(server, Fault(500, told))
            else:
                self._database.work.failed(server, Fault(500, told))
        except StaleRecord as stale:
            LOG.info("%s", stale)


def _demand_welcome(request: Request, host: str) -> None:
    """Raise NoValidHost where the claim would refuse a host for ever, as the server's group does."""
    if request.group is not None and (reason := request.group.refuses(host)) is not None:
        raise NoValidHost({host: f"{reason}; the hook server_group isn't asked"})


def _kind(server: Server) -> str:
    if server.task_state == TaskState.EVACUATING:
        return EVACUATION
    if server.task_state == TaskState.LIVE_PREP:
        return LIVE
    return RESIZE if "flavor" in server.task_args else MIGRATION
