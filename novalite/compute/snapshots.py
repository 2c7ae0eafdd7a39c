"""Tasks that make images of guests: snapshots, backups, and shelving."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from novalite import faults
from novalite.compute.leases import Superseded, Work
from novalite.compute.worker import LOG, Worker
from novalite.config import Settings
from novalite.db import Database
from novalite.images import Images
from novalite.model import GIB, SHELVED_IMAGE, TaskState, VmState
from novalite.virt.base import VirtCap, VirtDriver


class Snapshots(Worker):
    """Does them; ``tasks`` says which."""

    def __init__(self, settings: Settings, database: Database, driver: VirtDriver, images: Images) -> None:
        super().__init__(settings, database, driver)
        self._images = images
        self.tasks: Mapping[TaskState, Callable[[Work], None]] = {
            TaskState.IMAGE_SNAPSHOT: self._snapshot,
            TaskState.IMAGE_BACKUP: self._backup,
            TaskState.SHELVING: self._shelve,
        }

    def _snapshot(self, work: Work) -> None:
        self._image(work, lambda: self._upload(work))

    def _backup(self, work: Work) -> None:
        """Make a snapshot, and remove the oldest beyond as many as are kept."""
        server, told = work.server, work.server.task_args

        def act() -> None:
            self._upload(work)
            kind = {"image_type": "backup", "backup_type": str(told["backup_type"])}
            found = self._images.with_properties(instance_uuid=server.id, **kind)
            for image_id in found[int(told["rotation"]) :]:
                LOG.info("server %s: backup %s is out of its time", server.id, image_id)
                self._images.delete(image_id)

        self._image(work, act)

    def _image(self, work: Work, act: Callable[[], None]) -> None:
        ended, fault = self.attempt(work.server, act)
        if not ended:
            return
        work.check()
        self._database.work.done(work.server, fault)

    def _shelve(self, work: Work) -> None:
        server = work.server

        def act() -> None:
            self.demand(VirtCap.SNAPSHOT)
            self.end(server)
            self._upload(work)

        ended, fault = self.attempt(server, act)
        if not ended:
            return
        state = self.state(server)
        work.check()
        if fault is not None:
            self._database.work.done(server, fault, vm_state=VmState.STOPPED, power_state=state)
            return
        kept = {SHELVED_IMAGE: server.task_args["image_id"]}
        shelved: dict[str, Any] = {"vm_state": VmState.SHELVED, "power_state": state, "kept": kept}
        if self._settings.shelved_offload:
            self._database.work.handed_on(server, TaskState.SHELVING_OFFLOADING, **shelved)
            raise Superseded
        self._database.work.done(server, **shelved)

    def _upload(self, work: Work) -> None:
        self.demand(VirtCap.SNAPSHOT)
        server = work.server
        with self._driver.snapshot(server.id) as made:
            faults.passing("disk-copied")
            gigabytes = max(server.flavor.disk_gb, -(-made.virtual_size // GIB))
            told = {"disk_format": made.format, "container_format": "bare", "min_disk": gigabytes}
            self._images.upload(str(server.task_args["image_id"]), made.path, told, work.check)
        faults.passing("image-filled")
