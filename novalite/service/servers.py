"""What may be done with servers.

Each method checks what the caller may do and what the state allows, writes
the record, and tells the workers. They do the rest: a method returns when
the order is recorded, not when it is carried out.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, replace
from typing import Any

from novalite import unwanted
from novalite.config import Settings
from novalite.db import Database
from novalite.errors import (
    Conflict,
    InvalidInput,
    InvalidState,
    NotFound,
    StaleRecord,
)
from novalite.images import Images
from novalite.model import (
    SHELVED_IMAGE,
    Caller,
    Limits,
    NewServer,
    Page,
    Server,
    ServerQuery,
    TaskState,
    Usage,
    VmState,
)
from novalite.policy import NOBODYS, Policy
from novalite.rpc import Bus
from novalite.service.checks import (
    check_boot_files,
    check_disk,
    check_image,
    check_metadata,
    check_name,
    check_tags,
    check_user_data,
    packed,
)
from novalite.service.flavors import visible
from novalite.service.orders import Orders, demand_state, order_of
from novalite.service.quotas import Quotas

RULES = "os_compute_api:servers:"
DEFERRED = "os_compute_api:os-deferred-delete:"
IPS = "os_compute_api:ips:"
LIMITS = "os_compute_api:limits"
_CONSOLE_BYTES = 1024 * 1024
_MOST_AT_ONCE = 1000
_RETRIES = 20


@dataclass(frozen=True, slots=True)
class Sight:
    """What a caller may see of servers, beside what all do who see them at all.

    ``unknown_status`` is whether the state of their host may be seen where it isn't known.
    """

    extended: bool
    host_status: bool
    unknown_status: bool
    extra_specs: bool


class Servers:
    """The use cases of servers; thread-safe."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        bus: Bus,
        images: Images,
        quotas: Quotas,
        policy: Policy,
    ) -> None:
        quota = settings.quota
        self._quota = Usage(quota.instances, quota.cores, quota.ram)
        self._members = quota.server_group_members
        self._quotas = quotas
        self._database = database
        self._bus = bus
        self._images = images
        self._policy = policy
        self._orders = Orders(database, bus, policy)

    def create(self, caller: Caller, wanted: NewServer) -> tuple[Server, ...]:
        """Order servers to be built; all share one reservation id.

        Raises InvalidInput, FlavorTooSmall, ImageUnusable, ImageMissing,
        FlavorNotFound, KeyPairNotFound, QuotaExceeded, Forbidden, or what is
        retryable: ImageServiceDown, DatabaseDown.
        """
        self._demand_create(caller, wanted)
        self._check_new(caller, wanted)
        flavor = visible(self._database.flavors, self._policy, wanted.flavor_id, caller)
        public_key = None
        if wanted.key_name is not None:
            public_key = self._database.keypairs.get(caller.user or "", wanted.key_name).public_key
        image = self._images.show(wanted.image_id, caller)
        check_disk(flavor, caller, self._policy)
        check_image(image, flavor)
        check_boot_files(self._images, image, flavor, caller)
        order = order_of(caller, "create")
        first = Server(
            id="",
            name=wanted.name,
            project=caller.project or "",
            user=caller.user or "",
            flavor=flavor,
            image=image,
            zone=wanted.zone,
            pinned_zone=wanted.zone,
            forced_host=wanted.host,
            key_name=wanted.key_name,
            public_key=public_key,
            metadata=dict(wanted.metadata),
            user_data=packed(wanted.user_data),
            config_drive=wanted.config_drive,
            networks=wanted.networks,
            access_ipv4=wanted.access_ipv4,
            access_ipv6=wanted.access_ipv6,
            task_args={"admin_password": wanted.admin_password} if wanted.admin_password else {},
            description=wanted.description,
            hints=dict(wanted.hints),
            group_id=self._group_of(caller, wanted),
            request_id=order.request_id,
            reservation_id=f"r-{secrets.token_hex(4)}",
        )
        ordered = self._database.servers.insert(
            [_numbered(first, wanted, number) for number in range(wanted.max_count)],
            quota=self._quota,
            minimum=wanted.min_count,
            order=order,
            tagged=wanted.tags,
            members=self._members,
        )
        for server in ordered:
            self._orders.schedule(server)
        return ordered

    def show(self, caller: Caller, server_id: str) -> Server:
        """Return a server; raise ServerNotFound or Forbidden."""
        return self._orders.show(caller, server_id, f"{RULES}show")

    def addresses(self, caller: Caller, server_id: str, network: str | None = None) -> Server:
        """Return a server, to show its addresses in one network or all; raise ServerNotFound or Forbidden."""
        return self._orders.show(caller, server_id, f"{IPS}{'index' if network is None else 'show'}")

    def sight(self, caller: Caller, server: Server | None = None) -> Sight:
        """Tell what the caller may see of a server, or of those in a list."""
        allows, status = self._policy.allows, f"{RULES}show:host_status"
        host_status = allows(caller, status, server)
        return Sight(
            extended=allows(caller, "os_compute_api:os-extended-server-attributes", server),
            host_status=host_status,
            unknown_status=host_status or allows(caller, f"{status}:unknown-only", server),
            extra_specs=allows(caller, f"{RULES}show:flavor-extra-specs", server),
        )

    def list(self, caller: Caller, query: ServerQuery, *, detail: bool = False) -> Page[Server]:
        """Return one page, of the caller's project unless the query is for all projects.

        ``detail`` says that all is to be told of them, which has rules of its
        own. Raises InvalidInput or Forbidden.
        """
        rule = f"{RULES}{'detail' if detail else 'index'}"
        self._policy.check(caller, rule)
        if query.limit < 0:
            raise InvalidInput(f"limit must not be negative: {query.limit}")
        if query.all_projects:
            self._policy.check(caller, f"{rule}:get_all_tenants")
        else:
            query = replace(query, project=caller.project or "")
        return self._database.servers.list(query)

    def filters_all(self, caller: Caller) -> bool:
        """Tell whether the caller may filter lists by everything."""
        return self._policy.allows(caller, f"{RULES}allow_all_filters")

    def finds_deleted(self, caller: Caller) -> bool:
        """Tell whether the caller may ask for deleted servers."""
        return self._policy.is_admin(caller)

    def demand_topology(self, caller: Caller, server_id: str) -> None:
        """Raise ServerNotFound or Forbidden unless the caller may see a guest's NUMA nodes.

        There are none.
        """
        self._orders.show(caller, server_id, "compute:server:topology:index")

    def update(self, caller: Caller, server_id: str, **values: str | None) -> Server:
        """Set a server's ``name``, ``description``, ``hostname``, access addresses or ``pinned_zone``.

        The guest keeps the host name that it was booted with. The zone can be
        set to where the server is, or to none. Raises Conflict and InvalidInput.
        """
        if "name" in values:
            check_name("name", values["name"] or "")

        def change(server: Server) -> dict[str, Any]:
            if "pinned_zone" in values:
                _check_pin(server, values["pinned_zone"])
            return dict(values)

        return self._orders.change(caller, server_id, f"{RULES}update", change, lock=False)

    def delete(self, caller: Caller, server_id: str, rule: str = f"{RULES}delete") -> None:
        """Order a server to be deleted in whatever state it is, unless it's locked, if ``rule`` lets callers.

        One without a host is gone at once. So is one whose host is down,
        which clears away what it has of it when it comes back.
        """
        order = order_of(caller, "delete")
        for _ in range(_RETRIES):
            server = self._orders.show(caller, server_id, rule)
            self._orders.demand_unlocked(caller, server)
            try:
                if server.host is None or not self._orders.is_up(server.host):
                    self._database.servers.delete_unplaced(server, order=order)
                    if SHELVED_IMAGE in server.kept:
                        unwanted.clear(self._database, self._images)
                    return
                if server.task_state != TaskState.DELETING:
                    server = self._database.servers.change(
                        server, order=order, task_state=TaskState.DELETING, attempts=0
                    )
            except StaleRecord:
                continue
            self._orders.drive(server)
            return
        raise StaleRecord(f"server {server_id} keeps changing")

    def force_delete(self, caller: Caller, server_id: str) -> None:
        """Delete a server as ``delete`` does: none waits to be deleted at last."""
        self.delete(caller, server_id, f"{DEFERRED}force")

    def restore(self, caller: Caller, server_id: str) -> None:
        """Refuse to bring a deleted server back: what is deleted is gone at once, and no other is in the way.

        Raises InvalidState, ServerLocked, Forbidden or ServerNotFound.
        """
        server = self._orders.show(caller, server_id, f"{DEFERRED}restore")
        self._orders.demand_unlocked(caller, server)
        demand_state(server, "restore", frozenset())

    def start(self, caller: Caller, server_id: str) -> Server:
        """Order a stopped server to be started; raise InvalidState."""
        rule = f"{RULES}start"
        return self._orders.act(caller, server_id, rule, "start", TaskState.POWERING_ON, {VmState.STOPPED})

    def stop(self, caller: Caller, server_id: str) -> Server:
        """Order a server to be stopped; raise InvalidState."""
        rule, states = f"{RULES}stop", {VmState.ACTIVE, VmState.ERROR}
        return self._orders.act(caller, server_id, rule, "stop", TaskState.POWERING_OFF, states)

    def reboot(self, caller: Caller, server_id: str, *, hard: bool = False) -> Server:
        """Order a reboot: asked of the guest, or forced; raise InvalidState."""
        rule = f"{RULES}reboot"
        if hard:
            states = {VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED, VmState.ERROR}
            return self._orders.act(caller, server_id, rule, "reboot", TaskState.REBOOTING_HARD, states)
        return self._orders.act(caller, server_id, rule, "reboot", TaskState.REBOOTING, {VmState.ACTIVE})

    def console_output(self, caller: Caller, server_id: str, *, lines: int | None = None) -> str:
        """Return the console log, or its last lines.

        Raises InvalidState for a server without an instance, Unsupported
        where the driver has no log, and Unavailable when the host is away.
        """
        if lines is not None and lines < -1:
            raise InvalidInput(f"length must be -1 or more, not {lines}")
        server = self._orders.show(caller, server_id, "os_compute_api:os-console-output")
        if server.host is None:
            raise InvalidState(f"Instance {server_id} is not ready")
        output = self._bus.console_output(server.host, server_id, _CONSOLE_BYTES)
        if lines is None or lines == -1:
            return output
        return "\n".join(output.removesuffix("\n").split("\n")[-lines:]) if lines else ""

    def limits(self, caller: Caller, project: str | None = None) -> Limits:
        """Return a project's quotas and what it uses, by default the caller's; raise Forbidden."""
        self._policy.check(caller, LIMITS, NOBODYS)
        if project is not None and project != caller.project:
            self._policy.check(caller, f"{LIMITS}:other_project")
        used = self._database.servers.usage(project or caller.project or "")
        quota = self._quotas.of(project or caller.project or "")
        allowed = Usage(quota["instances"], quota["cores"], quota["ram"])
        return Limits(
            allowed,
            used,
            quota["key_pairs"],
            quota["metadata_items"],
            server_groups=quota["server_groups"],
            server_group_members=quota["server_group_members"],
            server_groups_used=self._database.groups.count(project or caller.project or ""),
        )

    # Helpers

    def _demand_create(self, caller: Caller, wanted: NewServer) -> None:
        """Raise Forbidden unless the rules let the caller order all of what is wanted."""
        facts = {"project_id": caller.project, "user_id": caller.user, "availability_zone": wanted.zone}
        self._policy.check(caller, f"{RULES}create", facts)
        if wanted.host is not None and wanted.forced:
            self._policy.check(caller, f"{RULES}create:forced_host", facts)
        elif wanted.host is not None:
            self._policy.check(caller, "compute:servers:create:requested_destination", facts)
        if wanted.asked_networks and wanted.networks != "none":
            self._policy.check(caller, f"{RULES}create:attach_network", facts)

    def _check_new(self, caller: Caller, wanted: NewServer) -> None:
        check_name("name", wanted.name)
        check_metadata(wanted.metadata)
        self._quotas.check_metadata(caller.project or "", wanted.metadata)
        if not 1 <= wanted.min_count <= wanted.max_count <= _MOST_AT_ONCE:
            raise InvalidInput(f"1 <= min_count <= max_count <= {_MOST_AT_ONCE} must hold")
        if wanted.user_data is not None:
            check_user_data(wanted.user_data)
        check_tags(wanted.tags)
        if wanted.hostname is not None and wanted.max_count > 1:
            raise InvalidInput("Unable to provision multiple instances with given hostname")
        if wanted.zone is not None or wanted.host is not None:
            hosts = self._database.hosts.list()
            if wanted.zone is not None and not any(host.zone == wanted.zone for host in hosts):
                raise InvalidInput(f"availability zone {wanted.zone} isn't there")
            if wanted.host is not None and not any(host.name == wanted.host for host in hosts):
                raise InvalidInput(f"host {wanted.host} isn't there")

    def _group_of(self, caller: Caller, wanted: NewServer) -> str | None:
        """Return the server group that the hints name; raise InvalidInput."""
        hint = wanted.hints.get("group")
        if hint is None:
            return None
        try:
            group_id = str(uuid.UUID(hint))
        except (ValueError, AttributeError, TypeError):
            raise InvalidInput("Server group scheduler hint must be a UUID.") from None
        try:
            found = self._database.groups.get(group_id)
        except NotFound as error:
            raise InvalidInput(str(error)) from error
        if found.project != (caller.project or ""):
            raise InvalidInput(f"Instance group {group_id} could not be found.")
        return group_id


def _numbered(first: Server, wanted: NewServer, number: int) -> Server:
    """Make one of the servers that are asked for together."""
    server_id = str(uuid.uuid4())
    name = f"{wanted.name}-{number + 1}" if wanted.max_count > 1 else wanted.name
    return replace(first, id=server_id, name=name, launch_index=number, hostname=wanted.hostname or "")


def _check_pin(server: Server, zone: str | None) -> None:
    """Raise Conflict unless a server can be pinned to a zone, which None takes away."""
    if zone in (None, server.pinned_zone):
        return
    if server.pinned_zone is not None:
        raise Conflict(
            "Cannot change pinned availability zone directly. Unpin first by setting "
            "pinned_availability_zone to null."
        )
    if server.host is None or zone != server.zone:
        raise Conflict(
            f"Server can only be pinned to its current availability zone '{server.zone}', but '{zone}' was "
            f"requested."
        )
