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
from novalite.db.records import flavor_of
from novalite.errors import NoValidHost, NovaliteError, QueueDown, StaleRecord
from novalite.model import Fault, Server, TaskState
from novalite.rpc import Bus
from novalite.scheduler.selection import choose, request_of, state_of, unfit, without
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
        self._redrive.stop(seconds)
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
            resize = server.task_state == TaskState.RESIZE_PREP
            placed = self._claim_larger(server) if resize else self._claim(server)
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
            hosts = {host.name: host for host in self._database.hosts.list()}
            # After the hosts: a member that comes to one of them meanwhile makes the claim fail.
            request = request_of(server, self._database.groups.places(server))
            refused = {
                name: reason for name, host in hosts.items() if (reason := unfit(server, host)) is not None
            }
            states = [state_of(host) for name, host in hosts.items() if name not in refused]
            picked = choose(request, states, self._hooks, self._driver, refused)
            if request.group is not None and (reason := request.group.refuses(picked.name)) is not None:
                # The claim would refuse it for ever.
                raise NoValidHost({picked.name: f"{reason}; the hook server_group isn't configured"})
            placed = self._database.hosts.claim(server, hosts[picked.name])
            if placed is not None:
                return placed
            LOG.debug("host %s changed while server %s was placed", picked.name, server.id)
        LOG.warning("server %s: hosts kept changing while it was placed; trying again later", server.id)
        self._database.work.release(server)
        return None

    def _claim_larger(self, server: Server) -> Server | None:
        """Have the server's own host hold room for another flavor.

        The hooks see the host as if the server weren't there.
        """
        flavor = flavor_of(server.task_args["flavor"])
        request = request_of(replace(server, flavor=flavor))  # it stays where its group has it
        for _ in range(_CLAIMS):
            host = self._database.hosts.get(str(server.host))
            if (reason := unfit(replace(server, pinned_zone=None, tried_hosts=()), host)) is not None:
                raise NoValidHost({host.name: reason})
            choose(request, [without(state_of(host), server)], self._hooks, self._driver, {})
            claimed = self._database.hosts.claim_larger(server, host, flavor)
            if claimed is not None:
                return claimed
        self._database.work.release(server)
        return None

    def _give_up(self, server: Server, error: Exception) -> None:
        told = str(error) if isinstance(error, NovaliteError) else f"{type(error).__name__}: {error}"
        if server.fault is not None:
            told = f"{told}; before that: {server.fault.message}"
        LOG.warning("server %s: %s", server.id, told)
        try:
            if server.task_state == TaskState.RESIZE_PREP:
                self._database.work.done(server, Fault(500, told), flavor=server.flavor)
            else:
                self._database.work.failed(server, Fault(500, told))
        except StaleRecord as stale:
            LOG.info("%s", stale)
