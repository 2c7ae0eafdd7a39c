"""What changes a server's guest, or makes an image of it.

An image is made, without data, when it is ordered: its owner has its id at
once. The worker fills it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from novalite.config import Settings
from novalite.db import Database
from novalite.db.records import flavor_json, image_json
from novalite.errors import Conflict, InvalidInput, InvalidState, StaleRecord
from novalite.images import Images
from novalite.model import (
    ANYWHERE,
    RESIZED_FROM,
    SHELVED_IMAGE,
    Caller,
    Flavor,
    Place,
    Rebuild,
    Server,
    TaskState,
    Usage,
    VmState,
)
from novalite.policy import Policy
from novalite.rpc import Bus
from novalite.service.checks import (
    check_boot_files,
    check_disk,
    check_image,
    check_metadata,
    check_name,
    check_user_data,
    packed,
)
from novalite.service.flavors import visible
from novalite.service.orders import Orders, demand_state, order_of

API = "os_compute_api:"
_RETRIES = 20
_AT_REST = frozenset({VmState.ACTIVE, VmState.STOPPED})
_COPIED = _AT_REST | {VmState.PAUSED, VmState.SUSPENDED}
_BROKEN = _AT_REST | {VmState.ERROR}
# Properties of an image that are about it alone, not about what boots from it.
_OWN = frozenset({"instance_uuid", "base_image_ref", "user_id", "image_type", "backup_type", "locations"})


class Changes:
    """The use cases; thread-safe."""

    def __init__(
        self, settings: Settings, database: Database, bus: Bus, images: Images, policy: Policy
    ) -> None:
        quota = settings.quota
        self._quota = Usage(quota.instances, quota.cores, quota.ram)
        self._database = database
        self._images = images
        self._policy = policy
        self._orders = Orders(database, bus, policy)

    def rebuild(self, caller: Caller, server_id: str, wanted: Rebuild) -> Server:
        """Order the guest to be made anew from an image; addresses and size stay.

        Raises InvalidState, InvalidInput, ImageMissing, KeyPairNotFound and what else ``create`` does.
        """
        rule = f"{API}servers:rebuild"
        server = self._orders.show(caller, server_id, rule)
        if wanted.name is not None:
            check_name("name", wanted.name)
        check_metadata(wanted.metadata or {})
        if wanted.preserve_ephemeral and server.flavor.ephemeral_gb:
            raise InvalidInput("Preserving ephemeral partitions isn't supported: a rebuild makes them anew.")
        image = self._images.show(wanted.image_id, caller)
        check_disk(server.flavor, caller, self._policy)
        check_image(image, server.flavor)
        check_boot_files(self._images, image, server.flavor, caller)
        told = {
            name: value
            for name in ("name", "metadata", "access_ipv4", "access_ipv6", "hostname")
            if (value := getattr(wanted, name)) is not None
        }
        if wanted.set_description:
            told["description"] = wanted.description
        if wanted.set_key:
            told |= self._key(server, wanted.key_name)
        if wanted.set_user_data:
            if wanted.user_data is not None:
                check_user_data(wanted.user_data)
            told["user_data"] = packed(wanted.user_data)
        values = {**told, "image": image, "task_args": {"admin_password": wanted.admin_password}}
        task = TaskState.REBUILDING
        return self._orders.act(caller, server_id, rule, "rebuild", task, _BROKEN, values=lambda _: values)

    def _key(self, server: Server, name: str | None) -> dict[str, Any]:
        """Return the key pair of a server's owner as fields of the server; None is no key."""
        if name is None:
            return {"key_name": None, "public_key": None}
        return {"key_name": name, "public_key": self._database.keypairs.get(server.user, name).public_key}

    def rescue(self, caller: Caller, server_id: str, password: str, image_id: str | None = None) -> Server:
        """Order the guest to boot from an image, its own unless one is named, with its disk beside.

        Raises InvalidState, ImageMissing or ImageUnusable.
        """
        rule = f"{API}os-rescue"
        server = self._orders.show(caller, server_id, rule)
        image = self._images.show(image_id, caller) if image_id else server.image
        check_image(image, server.flavor)
        check_boot_files(self._images, image, server.flavor, caller)
        told = {"image": image_json(image), "admin_password": password}
        return self._orders.act(
            *(caller, server_id, rule, "rescue", TaskState.RESCUING, _BROKEN),
            values=lambda _: {"task_args": told},
        )

    def unrescue(self, caller: Caller, server_id: str) -> Server:
        """Order a rescued guest to boot from its own disk; raise InvalidState."""
        rule = f"{API}os-unrescue"
        return self._orders.act(caller, server_id, rule, "unrescue", TaskState.UNRESCUING, {VmState.RESCUED})

    def create_image(
        self, caller: Caller, server_id: str, name: str, metadata: Mapping[str, str] | None = None
    ) -> str:
        """Order an image of the guest's disk; return its id.

        Raises InvalidState, and what the image service refuses.
        """
        rule, task = f"{API}servers:create_image", TaskState.IMAGE_SNAPSHOT
        return self._image(caller, server_id, rule, "createImage", task, name, metadata)

    def create_backup(
        self,
        caller: Caller,
        server_id: str,
        name: str,
        kind: str,
        rotation: int,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Order an image that goes when ``rotation`` later ones of its kind are there; return its id."""
        if rotation < 0:
            raise InvalidInput(f"rotation must not be negative: {rotation}")
        told: dict[str, Any] = {"backup_type": kind, "rotation": rotation}
        rule, task = f"{API}os-create-backup", TaskState.IMAGE_BACKUP
        return self._image(caller, server_id, rule, "createBackup", task, name, metadata, **told)

    def resize(self, caller: Caller, server_id: str, flavor_id: str) -> Server:
        """Order another flavor, which is to be confirmed or reverted when the server has it.

        Raises InvalidInput, FlavorNotFound, QuotaExceeded, InvalidState.
        """
        rule = f"{API}servers:resize"
        self._orders.show(caller, server_id, rule)
        flavor = visible(self._database.flavors, self._policy, flavor_id, caller)
        order = order_of(caller, "resize")
        for _ in range(_RETRIES):
            server = self._orders.show(caller, server_id, rule)
            self._orders.demand_unlocked(caller, server)
            demand_state(server, "resize", _AT_REST)
            _check_resize(server, flavor)
            values = {
                "task_state": TaskState.RESIZE_PREP,
                "attempts": 0,
                "task_args": {"flavor": flavor_json(flavor)},
            }
            try:
                ordered = self._database.servers.grow(
                    server, flavor, quota=self._quota, order=order, **values
                )
            except StaleRecord:
                continue
            self._orders.schedule(ordered)
            return ordered
        raise StaleRecord(f"server {server_id} keeps changing")

    def confirm_resize(self, caller: Caller, server_id: str) -> Server:
        """Order what a server was before a resize to be forgotten; raise InvalidState."""
        rule, task = f"{API}servers:confirm_resize", TaskState.RESIZE_CONFIRMING
        return self._resized(caller, server_id, rule, "confirmResize", task)

    def revert_resize(self, caller: Caller, server_id: str) -> Server:
        """Order a server to become what it was before a resize; raise InvalidState."""
        rule, task = f"{API}servers:revert_resize", TaskState.RESIZE_REVERTING
        return self._resized(caller, server_id, rule, "revertResize", task)

    def shelve(self, caller: Caller, server_id: str) -> None:
        """Order a server to be put away as an image; raise InvalidState.

        It leaves its host at once where ``shelved_offload_time`` is 0.
        """
        rule = f"{API}os-shelve:shelve"
        name = f"{self._orders.show(caller, server_id, rule).name}-shelved"
        self._image(caller, server_id, rule, "shelve", TaskState.SHELVING, name, None, lock=True)

    def shelve_offload(self, caller: Caller, server_id: str) -> Server:
        """Order a shelved server to leave its host; raise InvalidState."""
        rule = f"{API}os-shelve:shelve_offload"
        task, states = TaskState.SHELVING_OFFLOADING, {VmState.SHELVED}
        return self._orders.act(caller, server_id, rule, "shelveOffload", task, states)

    def unshelve(self, caller: Caller, server_id: str, place: Place = ANYWHERE) -> Server:
        """Order a shelved server to run again, on a host or in a zone if one is named.

        Only one that has left its host can be elsewhere. Raises InvalidState,
        ImageMissing, Forbidden, Conflict when host and zone don't go together,
        and InvalidInput for what isn't there.
        """
        rule = f"{API}os-shelve:unshelve"
        server = self._orders.show(caller, server_id, rule)
        states = {VmState.SHELVED, VmState.SHELVED_OFFLOADED}
        self._orders.demand_unlocked(caller, server)
        demand_state(server, "unshelve", states)
        if place != ANYWHERE and server.vm_state == VmState.SHELVED:
            raise InvalidState(f"Cannot 'unshelve' instance {server_id} elsewhere while it is on a host")
        if server.vm_state == VmState.SHELVED:
            task = TaskState.UNSHELVING
            return self._orders.act(caller, server_id, rule, "unshelve", task, {VmState.SHELVED})
        where = self._where(caller, server, place)
        image = self._images.show(str(server.kept[SHELVED_IMAGE]), replace(caller, admin=True))

        def change(fresh: Server) -> dict[str, Any]:
            demand_state(fresh, "unshelve", {VmState.SHELVED_OFFLOADED})
            values = {"task_state": TaskState.SCHEDULING, "attempts": 0, "tried_hosts": []}
            return {**values, **where, "task_args": {"image": image_json(image)}}

        ordered = self._orders.change(caller, server_id, rule, change, action="unshelve")
        self._orders.schedule(ordered)
        return ordered

    def _where(self, caller: Caller, server: Server, place: Place) -> dict[str, Any]:
        """Return the fields that say where a server is to go; raise as ``unshelve`` does."""
        if place.host is not None:
            self._policy.check(caller, f"{API}os-shelve:unshelve_to_host", server)
        zone = place.zone if place.set_zone else server.pinned_zone
        hosts = {host.name: host for host in self._database.hosts.list()}
        if place.zone is not None and all(host.zone != place.zone for host in hosts.values()):
            raise InvalidInput("The requested availability zone is not available")
        if place.host is not None and place.host not in hosts:
            raise InvalidInput(f"Compute host {place.host} could not be found.")
        if place.host is not None and zone not in (None, hosts[place.host].zone):
            raise Conflict(f"Host {place.host} is not in the availability zone {zone}.")
        told = {"pinned_zone": zone, "zone": zone} if place.set_zone else {}
        # What an earlier placement was forced to holds no more.
        return {**told, "forced_host": place.host}

    def _resized(self, caller: Caller, server_id: str, rule: str, action: str, task: TaskState) -> Server:
        def nothing(server: Server) -> dict[str, Any]:
            if RESIZED_FROM not in server.kept:
                raise InvalidState(f"Instance {server_id} has not been resized.")
            return {}

        return self._orders.act(caller, server_id, rule, action, task, {VmState.RESIZED}, values=nothing)

    def _image(
        self,
        caller: Caller,
        server_id: str,
        rule: str,
        action: str,
        task: TaskState,
        name: str,
        metadata: Mapping[str, str] | None,
        *,
        lock: bool = False,
        **told: Any,
    ) -> str:
        """Make an image and order its data; nothing of it stays when that is refused."""
        check_name("name", name)
        check_metadata(metadata or {})
        server = self._orders.show(caller, server_id, rule)
        if lock:
            self._orders.demand_unlocked(caller, server)
        demand_state(server, action, _COPIED)
        kind = {"image_type": "backup" if "rotation" in told else "snapshot"}
        if "backup_type" in told:
            kind["backup_type"] = str(told["backup_type"])
        image_id = self._images.create(_values(server, name, metadata or {}, kind), caller)
        args = {"image_id": image_id, **told}
        try:
            self._orders.act(
                *(caller, server_id, rule, action, task, _COPIED),
                values=lambda _: {"task_args": args},
                lock=lock,
            )
        except BaseException:
            self._images.delete(image_id)
            raise
        return image_id


def _values(
    server: Server, name: str, metadata: Mapping[str, str], kind: Mapping[str, str]
) -> dict[str, Any]:
    """Return a snapshot's fields and properties, as Nova sets them."""
    inherited = {name: value for name, value in server.image.properties.items() if name not in _OWN}
    return {
        **inherited,
        **metadata,
        **kind,
        "name": name,
        "visibility": "private",
        "min_ram": server.image.min_ram,
        "instance_uuid": server.id,
        "base_image_ref": server.image.id,
        "user_id": server.user,
    }


def _check_resize(server: Server, flavor: Flavor) -> None:
    if flavor.id == server.flavor.id:
        raise InvalidInput("When resizing, instances must change flavor!")
    if 0 < flavor.disk_gb < server.flavor.disk_gb or (server.flavor.disk_gb and not flavor.disk_gb):
        raise InvalidInput(
            f"Server disk was unable to be resized because: it has {server.flavor.disk_gb} GiB, "
            f"flavor {flavor.name} has {flavor.disk_gb}"
        )
    if flavor.ephemeral_gb < server.flavor.ephemeral_gb:
        raise InvalidInput(
            "Server disk was unable to be resized because: its ephemeral disk has "
            f"{server.flavor.ephemeral_gb} GiB, flavor {flavor.name} has {flavor.ephemeral_gb}"
        )
    if server.image.min_ram > flavor.memory_mb:
        raise InvalidInput("Flavor's memory is too small for requested image.")
