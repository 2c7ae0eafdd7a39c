"""The compute manager: one a host, makes there what the database says.

A message says that there may be something to do for a server; a regular
look at the database finds what no message told of. Either way the record
decides. An flock on a file of the host's name keeps a second manager of the
same host out, and tells the first moment that an earlier one is dead, whose
leases are then free at once.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
import uuid
from typing import IO, Any

from novalite import faults, unwanted
from novalite.bases.keeper import Keeper
from novalite.bases.settings import BasesSettings
from novalite.compute.basewatch import BaseWatch
from novalite.compute.build import BaseImages
from novalite.compute.carrying import DiskServer, Places
from novalite.compute.leases import LeaseKeeper, Stopping, Superseded
from novalite.compute.precaching import Precaching
from novalite.compute.sync import Sync
from novalite.compute.tasks import Tasks
from novalite.compute.uptime import uptime
from novalite.config import Settings
from novalite.db import Database
from novalite.errors import ConfigError, HypervisorDown, StaleRecord, Unavailable, Unsupported
from novalite.images import Images
from novalite.model import SHELVED_IMAGE, ComputeHost
from novalite.rpc import Bus
from novalite.virt.base import VirtCap, VirtDriver
from novalite.workers import Periodic, Workers, stop_all

LOG = logging.getLogger(__name__)
_LOCK_SECONDS = 5.0
_BASES_SECONDS = 1.0


class ComputeManager:
    """Runs the servers of one host; ``open`` starts its threads."""

    def __init__(
        self, settings: Settings, database: Database, bus: Bus, images: Images, driver: VirtDriver
    ) -> None:
        self._settings = settings
        self._database = database
        self._bus = bus
        self._images = images
        self._driver = driver
        self._holder = f"{settings.host}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._lock: IO[str] | None = None
        self._leases = LeaseKeeper(database, holder=self._holder, seconds=settings.lease_seconds)
        nbd = VirtCap.NBD_BASE in driver.capabilities
        keeper = Keeper(BasesSettings.of(settings))
        self._bases = bases = BaseImages(settings, images, keeper, nbd=nbd)
        places = Places(settings.instances_path)
        self._disks = DiskServer(settings.migration, settings.host, settings.my_ip, database, places)
        self._tasks = Tasks(settings, database, bus, driver, bases, images, places)
        self._workers = Workers("compute", settings.max_concurrent_builds, self._drive)
        # One at a time: nobody waits for it, and boots go first.
        self._precache = Workers("precache", 1, Precaching(bases, images).run)
        self._sync = Sync(settings.host, settings.instances_path, database, driver, self._workers, places)
        self._watch = BaseWatch(settings, database, driver, self._workers, keeper, wanted=bases.early)
        self._periodic = (
            Periodic("compute-redrive", settings.redrive_interval, self.redrive),
            Periodic("compute-report", settings.report_interval, self.report),
            Periodic("compute-sync", settings.sync_power_state_interval, self.sync),
            Periodic("image-cache", settings.image_cache.interval, bases.prune),
            Periodic("bases", _BASES_SECONDS, self._watch.run),
        )

    def open(self) -> None:
        """Take the host over and start working.

        Raises ConfigError when another process serves this host, and what
        the virt driver raises when it can't work here.
        """
        self._lock = self._take_host()
        try:
            self._driver.open()
            self._disks.open()
        except BaseException:
            self._disks.close()
            self._leave_host()
            raise
        try:
            freed = self._database.work.release_dead(self._settings.host)
            if freed:
                LOG.info("took over %d servers from an earlier process of this host", freed)
            self._leases.open()
            self._workers.start()
            self._precache.start()
            self._bus.serve_compute(
                self._settings.host,
                self._workers.submit,
                self.console_output,
                self.diagnostics,
                self._precache.submit,
            )
            # Only now is it said to be up: what it is told from then on it hears.
            self.report()
        except BaseException:
            self.close()
            raise
        for periodic in self._periodic:
            periodic.start()

    def close(self, seconds: float = 2.0) -> None:
        """Stop working; guests run on, and what is unfinished waits.

        Work that can't be interrupted within the time is cut off by the
        process's end, and driven on by the next one.
        """
        stop_all(self._periodic, 1.0)
        self._leases.stop_work()
        self._precache.stop(0.0)
        idle = self._workers.stop(seconds)
        self._leases.close()
        if idle:
            self._end()
        else:
            # The host stays locked until then: nobody may begin what still goes on here.
            LOG.info("some work goes on until it is done or this process ends")
            threading.Thread(target=self._end_later, name="compute-end", daemon=True).start()

    def _end_later(self) -> None:
        while not self._workers.stop(60.0):
            pass
        self._end()

    def _end(self) -> None:
        self._watch.close()
        self._disks.close()
        self._driver.close()
        self._leave_host()

    def redrive(self) -> None:
        """Look for unfinished work on this host."""
        for server_id in self._database.work.unfinished(host=self._settings.host, holder=self._holder):
            self._workers.submit(server_id)

    def report(self) -> None:
        """Tell what this host offers, which is its heartbeat as well."""
        told, info = self._settings, self._driver.host_info()
        self._database.hosts.register(
            ComputeHost(
                name=told.host,
                zone=told.zone,
                hypervisor_type=info.hypervisor_type,
                hypervisor_version=info.hypervisor_version,
                virt_type=info.virt_type,
                arch=info.arch,
                ip=told.my_ip,
                console_url=told.console.base_url if VirtCap.SERIAL in self._driver.capabilities else None,
                disks_url=self._disks.url,
                uptime=uptime(),
                vcpus=max(0, info.vcpus - told.reserved_cpus),
                memory_mb=max(0, info.memory_mb - told.reserved_memory_mb),
                disk_gb=max(0, (info.disk_gb * 1024 - told.reserved_disk_mb) // 1024),
            ),
            self._bases.told(),
        )

    def sync(self) -> None:
        """Compare this host with the database once, and see to what others have left."""
        self._sync.run()
        unwanted.clear(self._database, self._images)

    def console_output(self, server_id: str, tail_bytes: int) -> str:
        """Return the end of a server's console log."""
        if VirtCap.CONSOLE_LOG not in self._driver.capabilities:
            raise Unsupported(f"virt driver {self._driver.name} has no console log")
        return self._driver.console_log(server_id, tail_bytes=tail_bytes).decode(errors="replace")

    def diagnostics(self, server_id: str) -> dict[str, Any]:
        """Return what a server's guest has used so far."""
        return self._driver.diagnostics(server_id).plain()

    def _drive(self, server_id: str) -> None:
        """Do a server's task, and the one that took its place, until it has none."""
        while True:
            server = self._database.work.begin(
                server_id,
                host=self._settings.host,
                holder=self._holder,
                seconds=self._settings.lease_seconds,
            )
            if server is None:
                self._let_go(server_id)
                return
            faults.passing("task-begun")
            try:
                with self._leases.work_on(server) as work:
                    self._tasks.do(work)
                faults.passing("outcome-recorded")
                if SHELVED_IMAGE in server.kept or "image_id" in server.task_args:
                    unwanted.clear(self._database, self._images)
                return
            except Stopping:
                self._database.work.release(server, attempted=False)
                return
            except HypervisorDown as error:
                LOG.warning("server %s: %s; trying again later", server_id, error)
                self._database.work.release(server)
                return
            except (Superseded, StaleRecord):
                LOG.info("server %s: there is something else to do than %s", server_id, server.task_state)

    def _let_go(self, server_id: str) -> None:
        try:
            self._sync.let_go(server_id)
        except Unavailable as error:
            LOG.warning("server %s: what is here of it is looked at later: %s", server_id, error)

    def _take_host(self) -> IO[str]:
        path = self._settings.state_path / f"compute-{self._settings.host}.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.open("a+")
        except OSError as error:
            raise ConfigError(f"state_path {self._settings.state_path}: {error}") from error
        until = time.monotonic() + _LOCK_SECONDS  # the one before may be on its way out
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < until:
                    time.sleep(0.1)
                    continue
                lock.seek(0)
                other = lock.read().strip() or "unknown"
                lock.close()
                raise ConfigError(
                    f"host {self._settings.host} is served by another process (pid {other})"
                ) from None
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            return lock

    def _leave_host(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None
