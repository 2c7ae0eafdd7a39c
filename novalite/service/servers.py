"""What may be done with servers.

Each method checks what the caller may do and what the state allows, writes
the record, and tells the workers. They do the rest: a method returns when
the order is recorded, not when it is carried out.
"""

from __future__ import annotations

import base64
import binascii
import logging
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from novalite.config import Settings
from novalite.db import Database
from novalite.errors import (
    FlavorNotFound,
    FlavorTooSmall,
    Forbidden,
    ImageUnusable,
    InvalidInput,
    InvalidState,
    NotFound,
    QueueDown,
    QuotaExceeded,
    ServerNotFound,
    StaleRecord,
)
from novalite.images import Images
from novalite.model import (
    GIB,
    Caller,
    Flavor,
    ImageInfo,
    Limits,
    NewServer,
    Page,
    Server,
    ServerQuery,
    TaskState,
    Usage,
    VmState,
)
from novalite.rpc import Bus
from novalite.service.checks import check_metadata, check_name

LOG = logging.getLogger(__name__)

_BOOTABLE = frozenset({"raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi", "iso", "ami"})
_CONTAINERS = frozenset({"bare", "ami"})
_USER_DATA_CHARS = 65535
_CONSOLE_BYTES = 1024 * 1024
_MOST_AT_ONCE = 1000
_RETRIES = 20


class Servers:
    """The use cases of servers; thread-safe."""

    def __init__(self, settings: Settings, database: Database, bus: Bus, images: Images) -> None:
        quota = settings.quota
        self._quota = Usage(quota.instances, quota.cores, quota.ram)
        self._key_pairs = quota.key_pairs
        self._metadata_items = quota.metadata_items
        self._database = database
        self._bus = bus
        self._images = images

    def create(self, caller: Caller, wanted: NewServer) -> tuple[Server, ...]:
        """Order servers to be built; all share one reservation id.

        Raises InvalidInput, FlavorTooSmall, ImageUnusable, ImageMissing,
        FlavorNotFound, KeyPairNotFound, QuotaExceeded, Forbidden, or what is
        retryable: ImageServiceDown, DatabaseDown.
        """
        self._check_new(caller, wanted)
        flavor = self._flavor(caller, wanted.flavor_id)
        public_key = None
        if wanted.key_name is not None:
            public_key = self._database.keypairs.get(caller.user or "", wanted.key_name).public_key
        image = self._images.show(wanted.image_id, caller)
        check_image(image, flavor)
        first = Server(
            id="",
            name=wanted.name,
            project=caller.project or "",
            user=caller.user or "",
            flavor=flavor,
            image=image,
            zone=wanted.zone,
            forced_host=wanted.host,
            key_name=wanted.key_name,
            public_key=public_key,
            metadata=dict(wanted.metadata),
            user_data="".join(wanted.user_data.split()) or None if wanted.user_data else None,
            config_drive=wanted.config_drive,
            hints=dict(wanted.hints),
            reservation_id=f"r-{secrets.token_hex(4)}",
        )
        several = wanted.max_count > 1
        ordered = self._database.servers.insert(
            [
                replace(
                    first,
                    id=str(uuid.uuid4()),
                    name=f"{wanted.name}-{number + 1}" if several else wanted.name,
                    launch_index=number,
                )
                for number in range(wanted.max_count)
            ],
            quota=self._quota,
            minimum=wanted.min_count,
        )
        for server in ordered:
            self._tell(lambda server=server: self._bus.schedule(server.id))  # type: ignore[misc]
        return ordered

    def show(self, caller: Caller, server_id: str) -> Server:
        """Return a server of the caller's project; raise ServerNotFound."""
        server = self._database.servers.get(server_id)
        theirs = caller.admin or server.project == (caller.project or "")
        if not theirs or server.vm_state == VmState.DELETED:
            raise ServerNotFound(f"server {server_id} not found")
        return server

    def list(self, caller: Caller, query: ServerQuery) -> Page[Server]:
        """Return one page; raise InvalidInput, or Forbidden for others' servers."""
        if query.limit < 0:
            raise InvalidInput(f"limit must not be negative: {query.limit}")
        if not caller.admin:
            if query.all_projects or query.project not in (None, caller.project):
                raise Forbidden("only administrators list the servers of other projects")
            if query.host is not None:
                raise Forbidden("only administrators list servers by host")
        if not query.all_projects:
            query = replace(query, project=query.project or caller.project or "")
        return self._database.servers.list(query)

    def update(self, caller: Caller, server_id: str, *, name: str) -> Server:
        """Rename a server; its guest keeps the host name it has."""
        check_name("name", name)
        return self._change(caller, server_id, lambda _: {"name": name})

    def set_metadata(
        self, caller: Caller, server_id: str, metadata: Mapping[str, str], *, replace: bool = False
    ) -> Server:
        """Add to a server's metadata, or replace all of it."""
        check_metadata(metadata)

        def change(server: Server) -> dict[str, Any]:
            merged = dict(metadata) if replace else {**server.metadata, **metadata}
            self._check_metadata_count(merged)
            return {"metadata": merged}

        return self._change(caller, server_id, change)

    def delete_metadata(self, caller: Caller, server_id: str, key: str) -> Server:
        """Remove one metadata item; raise NotFound when it isn't there."""

        def change(server: Server) -> dict[str, Any]:
            if key not in server.metadata:
                raise NotFound(f"server {server_id} has no metadata item {key}")
            return {"metadata": {k: v for k, v in server.metadata.items() if k != key}}

        return self._change(caller, server_id, change)

    def delete(self, caller: Caller, server_id: str) -> None:
        """Order a server to be deleted, in whatever state it is.

        One without a host is gone at once. So is one whose host is down,
        which clears away what it has of it when it comes back.
        """
        for _ in range(_RETRIES):
            server = self.show(caller, server_id)
            try:
                if server.host is None or not self._is_up(server.host):
                    self._database.servers.delete_unplaced(server)
                    return
                if server.task_state != TaskState.DELETING:
                    server = self._database.servers.change(server, task_state=TaskState.DELETING, attempts=0)
            except StaleRecord:
                continue
            self._drive(server)
            return
        raise StaleRecord(f"server {server_id} keeps changing")

    def start(self, caller: Caller, server_id: str) -> Server:
        """Order a stopped server to be started; raise InvalidState."""
        return self._act(caller, server_id, "start", TaskState.POWERING_ON, {VmState.STOPPED})

    def stop(self, caller: Caller, server_id: str) -> Server:
        """Order a server to be stopped; raise InvalidState."""
        return self._act(caller, server_id, "stop", TaskState.POWERING_OFF, {VmState.ACTIVE, VmState.ERROR})

    def reboot(self, caller: Caller, server_id: str, *, hard: bool = False) -> Server:
        """Order a reboot: asked of the guest, or forced; raise InvalidState."""
        if hard:
            states = {VmState.ACTIVE, VmState.STOPPED, VmState.ERROR}
            return self._act(caller, server_id, "reboot", TaskState.REBOOTING_HARD, states)
        return self._act(caller, server_id, "reboot", TaskState.REBOOTING, {VmState.ACTIVE})

    def console_output(self, caller: Caller, server_id: str, *, lines: int | None = None) -> str:
        """Return the console log, or its last lines.

        Raises InvalidState for a server without an instance, Unsupported
        where the driver has no log, and Unavailable when the host is away.
        """
        if lines is not None and lines < -1:
            raise InvalidInput(f"length must be -1 or more, not {lines}")
        server = self.show(caller, server_id)
        if server.host is None:
            raise InvalidState(f"server {server_id} has no instance yet")
        output = self._bus.console_output(server.host, server_id, _CONSOLE_BYTES)
        if lines is None or lines == -1:
            return output
        return "".join(output.splitlines(keepends=True)[-lines:]) if lines else ""

    def limits(self, caller: Caller, project: str | None = None) -> Limits:
        """Return a project's quotas and what it uses; others' for admins only."""
        if project is not None and project != caller.project and not caller.admin:
            raise Forbidden("only administrators see the limits of other projects")
        used = self._database.servers.usage(project or caller.project or "")
        return Limits(self._quota, used, self._key_pairs, self._metadata_items)

    # Helpers

    def _check_new(self, caller: Caller, wanted: NewServer) -> None:
        check_name("name", wanted.name)
        check_metadata(wanted.metadata)
        self._check_metadata_count(wanted.metadata)
        if not 1 <= wanted.min_count <= wanted.max_count <= _MOST_AT_ONCE:
            raise InvalidInput(f"1 <= min_count <= max_count <= {_MOST_AT_ONCE} must hold")
        if wanted.user_data is not None:
            check_user_data(wanted.user_data)
        if wanted.host is not None and not caller.admin:
            raise Forbidden("only administrators choose a server's host")
        if wanted.zone is not None or wanted.host is not None:
            hosts = self._database.hosts.list()
            if wanted.zone is not None and not any(host.zone == wanted.zone for host in hosts):
                raise InvalidInput(f"availability zone {wanted.zone} isn't there")
            if wanted.host is not None and not any(host.name == wanted.host for host in hosts):
                raise InvalidInput(f"host {wanted.host} isn't there")

    def _check_metadata_count(self, metadata: Mapping[str, str]) -> None:
        if 0 <= self._metadata_items < len(metadata):
            raise QuotaExceeded(
                f"quota exceeded for metadata_items: requested {len(metadata)} of {self._metadata_items}"
            )

    def _flavor(self, caller: Caller, flavor_id: str) -> Flavor:
        flavor = self._database.flavors.get(flavor_id)
        if not (flavor.public or caller.admin):
            raise FlavorNotFound(f"flavor {flavor_id} not found")
        return flavor

    def _change(self, caller: Caller, server_id: str, change: Callable[[Server], dict[str, Any]]) -> Server:
        """Change a record by compare-and-set until nobody was faster."""
        for _ in range(_RETRIES):
            server = self.show(caller, server_id)
            try:
                return self._database.servers.change(server, **change(server))
            except StaleRecord:
                continue
        raise StaleRecord(f"server {server_id} keeps changing")

    def _act(
        self, caller: Caller, server_id: str, what: str, task: TaskState, states: set[VmState]
    ) -> Server:
        def change(server: Server) -> dict[str, Any]:
            if server.task_state is not None:
                raise InvalidState(f"can't {what} server {server_id} while it is {server.task_state}")
            if server.vm_state not in states or server.host is None:
                raise InvalidState(f"can't {what} server {server_id} while it is {server.vm_state}")
            return {"task_state": task, "attempts": 0}

        server = self._change(caller, server_id, change)
        self._drive(server)
        return server

    def _is_up(self, host: str) -> bool:
        try:
            return self._database.hosts.get(host).up
        except NotFound:
            return False

    def _drive(self, server: Server) -> None:
        self._tell(lambda: self._bus.drive(str(server.host), server.id))

    @staticmethod
    def _tell(send: Callable[[], None]) -> None:
        try:
            send()
        except QueueDown as error:
            LOG.warning("the workers will find the order by themselves: %s", error)


def check_image(image: ImageInfo, flavor: Flavor) -> None:
    """Raise ImageUnusable or FlavorTooSmall when the two don't go together."""
    if image.status != "active":
        raise ImageUnusable(f"image {image.id} is {image.status}, not active")
    for what, found, bootable in (
        ("container_format", image.container_format, _CONTAINERS),
        ("disk_format", image.disk_format, _BOOTABLE),
    ):
        if found not in bootable:
            raise ImageUnusable(f"image {image.id}: no server boots from {what} {found}")
    size = max(image.size or 0, image.virtual_size or 0)
    disk = flavor.disk_gb or max(image.min_disk, -(-size // GIB))  # 0: as large as the image
    for what, unit, needed, offered in (
        ("memory", "MiB", image.min_ram, flavor.memory_mb),
        ("disk", "GiB", image.min_disk, disk),
        ("disk", "bytes", size, disk * GIB),
    ):
        if needed > offered:
            raise FlavorTooSmall(
                f"image {image.id} needs {needed} {unit} of {what}, flavor {flavor.name} has {offered}"
            )


def check_user_data(user_data: str) -> None:
    """Raise InvalidInput unless it is base64 of a bearable size."""
    if len(user_data) > _USER_DATA_CHARS:
        raise InvalidInput(f"user_data has {len(user_data)} characters, more than {_USER_DATA_CHARS}")
    try:
        base64.b64decode("".join(user_data.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"user_data isn't base64: {error}") from error
