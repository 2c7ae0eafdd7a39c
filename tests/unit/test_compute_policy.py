"""Every operation of the Compute API, by the rules it asks: whom they let, and that they decide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import falcon
import falcon.testing
import pytest

from glancelike.model import Caller as WebCaller
from glancelike.web.app import App
from glancelike.web.auth import Auth
from novalite.api.compute import aggregates, flavor_specs, server_actions
from novalite.api.compute.routes import ROUTES
from novalite.app import create_app
from novalite.compose import NO_ROLES, Node, build_all
from novalite.config import load
from novalite.errors import ConfigError
from novalite.groupings import GroupPolicy
from novalite.model import Caller, Flavor, NewServer, TaskState, VmState
from novalite.policy import NOBODYS, Policy, rules, sample
from novalite.policy.base import IS_ADMIN
from novalite.policy.base import RULES as ALIASES
from novalite.testing.cloud import MemoryImages

API = "os_compute_api:"
ROLES = {
    "admin": {"admin", "manager", "member", "reader"},
    "manager": {"manager", "member", "reader"},
    "member": {"member", "reader"},
    "reader": {"reader"},
    "nobody": {"other"},
}
WHO = {
    **{name: WebCaller(name, "p-own", frozenset(roles)) for name, roles in ROLES.items()},
    "admin": WebCaller("admin", "p-admin", frozenset(ROLES["admin"]), admin=True),
    "stranger": WebCaller("stranger", "p-other", frozenset(ROLES["manager"])),
    "system": WebCaller("system", None, frozenset(ROLES["admin"]), system_scope="all"),
}
ADMINS = frozenset({"admin"})
MANAGERS = ADMINS | {"manager"}
MEMBERS = MANAGERS | {"member"}
READERS = MEMBERS | {"reader"}
ANYBODY = READERS | {"nobody"}

# Whom Nova's defaults let, of administrators and those of the project that something is of.
MAY: dict[str, frozenset[str]] = {
    name: may
    for may, names in (
        (
            ADMINS,
            """
            os-admin-actions:reset_state os-aggregates:set_metadata os-aggregates:add_host
            os-aggregates:create os-aggregates:remove_host os-aggregates:update os-aggregates:index
            os-aggregates:delete os-aggregates:show compute:aggregates:images
            os-availability-zone:detail os-evacuate os-extended-server-attributes
            os-flavor-access:add_tenant_access os-flavor-access:remove_tenant_access os-flavor-access
            os-flavor-extra-specs:create os-flavor-extra-specs:update os-flavor-extra-specs:delete
            os-flavor-manage:create os-flavor-manage:update os-flavor-manage:delete
            os-hypervisors:list os-hypervisors:list-detail os-hypervisors:statistics os-hypervisors:show
            os-hypervisors:uptime os-hypervisors:search os-hypervisors:servers
            os-instance-actions:events:details os-instance-actions:events limits:other_project
            os-lock-server:unlock:unlock_override os-migrate-server:migrate:host
            os-migrate-server:migrate_live:host os-migrations:index:all_projects os-migrations:index:host
            os-quota-class-sets:show os-quota-class-sets:update os-quota-sets:update os-quota-sets:delete
            os-server-diagnostics os-server-groups:index:all_projects servers:index:get_all_tenants
            servers:detail:get_all_tenants servers:allow_all_filters servers:show:host_status
            servers:show:host_status:unknown-only servers:create:forced_host
            compute:servers:create:requested_destination servers:create:zero_disk_flavor
            os-services:list os-services:update os-services:delete os-shelve:unshelve_to_host
            os-shelve:shelve_offload os-simple-tenant-usage:list servers:migrations:show
            servers:migrations:index:host
            """,
        ),
        (
            MANAGERS,
            """
            os-migrate-server:migrate os-migrate-server:migrate_live os-migrations:index
            servers:migrations:index servers:migrations:force_complete servers:migrations:delete
            """,
        ),
        (
            MEMBERS,
            """
            os-console-output os-create-backup os-lock-server:lock os-lock-server:unlock
            os-pause-server:pause os-pause-server:unpause os-remote-consoles os-rescue os-unrescue
            os-server-groups:create os-server-groups:delete server-metadata:create
            server-metadata:update_all server-metadata:update server-metadata:delete
            os-server-tags:delete_all os-server-tags:update_all os-server-tags:delete os-server-tags:update
            servers:create servers:create:attach_network servers:delete servers:update
            servers:confirm_resize servers:revert_resize servers:reboot servers:resize servers:rebuild
            servers:create_image servers:start servers:stop os-shelve:shelve os-shelve:unshelve
            os-suspend-server:resume os-suspend-server:suspend os-deferred-delete:force
            os-deferred-delete:restore
            """,
        ),
        (
            READERS,
            """
            os-flavor-extra-specs:show os-flavor-extra-specs:index os-instance-actions:list
            os-instance-actions:show os-quota-sets:show os-quota-sets:detail os-server-groups:index
            os-server-groups:show server-metadata:index server-metadata:show os-server-tags:index
            os-server-tags:show compute:server:topology:index servers:index servers:detail servers:show
            servers:show:flavor-extra-specs ips:index ips:show os-simple-tenant-usage:show
            """,
        ),
        (
            ANYBODY,
            """
            os-availability-zone:list extensions limits os-quota-sets:defaults os-keypairs:index
            os-keypairs:create os-keypairs:delete os-keypairs:show
            """,
        ),
    )
    for name in (each if each.startswith("compute:") else f"{API}{each}" for each in names.split())
}


@dataclass(frozen=True)
class Row:
    """An operation and what it asks.

    Each of ``rules`` decides whether it is done, each of ``told`` what is told
    or may be asked for. ``server`` is what the server is like, ``may`` who may
    where that isn't who may by all of the rules.
    """

    operation: str
    rules: str
    told: str = ""
    body: Any = None
    version: str = "2.104"
    server: Mapping[str, Any] = field(default_factory=dict)
    may: frozenset[str] | None = None

    @property
    def decisive(self) -> tuple[str, ...]:
        return tuple(_full(self.rules))

    @property
    def asked(self) -> set[str]:
        return {*self.decisive, *_full(self.told)}

    @property
    def allowed(self) -> frozenset[str]:
        return (
            self.may if self.may is not None else ANYBODY.intersection(*(MAY[rule] for rule in self.decisive))
        )


def _full(names: str) -> list[str]:
    return [name if name.startswith("compute:") else f"{API}{name}" for name in names.split()]


V = "/v2.1"
SERVER = f"{V}/servers/{{server}}"
FLAVOR = f"{V}/flavors/42"
GROUP = f"{V}/os-server-groups/{{group}}"
SIGHT = (
    "os-extended-server-attributes servers:show:host_status servers:show:host_status:unknown-only "
    "servers:show:flavor-extra-specs"
)
SPECS = "os-flavor-extra-specs:index"
NEW = {"name": "new", "imageRef": "{image}", "flavorRef": "42", "networks": "auto"}
ID = "00000000-0000-0000-0000-000000000000"
PLACED = {"vm_state": VmState.ACTIVE, "task_state": None, "host": "somewhere"}
GONE = {"vm_state": VmState.SHELVED_OFFLOADED, "task_state": None}
NAMED = {"host": "x", "binary": "nova-compute"}


def action(name: str, rules: str, arguments: Any = None, told: str = "", **values: Any) -> Row:
    return Row(f"POST {SERVER}/action", rules, told, body={name: arguments}, **values)


ROWS = (
    Row(f"GET {V}/servers", "servers:index", "servers:allow_all_filters"),
    Row(
        f"GET {V}/servers?all_tenants=1",
        "servers:index servers:index:get_all_tenants",
        "servers:allow_all_filters",
    ),
    Row(f"GET {V}/servers/detail", "servers:detail", f"servers:allow_all_filters {SIGHT}"),
    Row(
        f"GET {V}/servers/detail?all_tenants=1",
        "servers:detail servers:detail:get_all_tenants",
        f"servers:allow_all_filters {SIGHT}",
    ),
    Row(f"POST {V}/servers", "servers:create servers:create:attach_network", body={"server": NEW}),
    Row(f"POST {V}/servers", "servers:create", body={"server": {**NEW, "networks": "none"}}),
    Row(
        f"POST {V}/servers",
        "servers:create servers:create:attach_network servers:create:zero_disk_flavor",
        body={"server": {**NEW, "flavorRef": "diskless"}},
    ),
    Row(
        f"POST {V}/servers",
        "servers:create servers:create:forced_host servers:create:attach_network",
        body={"server": {**NEW, "availability_zone": "nova:somewhere"}},
    ),
    Row(
        f"POST {V}/servers",
        "servers:create compute:servers:create:requested_destination servers:create:attach_network",
        body={"server": {**NEW, "host": "somewhere"}},
    ),
    Row(f"GET {SERVER}", "servers:show", SIGHT),
    Row(f"PUT {SERVER}", "servers:update", SIGHT, body={"server": {"name": "x"}}),
    Row(f"DELETE {SERVER}", "servers:delete"),
    action("os-start", "servers:start"),
    action("os-stop", "servers:stop"),
    action("reboot", "servers:reboot", {"type": "HARD"}),
    action("pause", "os-pause-server:pause"),
    action("unpause", "os-pause-server:unpause"),
    action("suspend", "os-suspend-server:suspend"),
    action("resume", "os-suspend-server:resume"),
    action("lock", "os-lock-server:lock"),
    action("unlock", "os-lock-server:unlock"),
    action(
        "unlock",
        "os-lock-server:unlock os-lock-server:unlock:unlock_override",
        server={"locked_by": "admin"},
    ),
    action("os-resetState", "os-admin-actions:reset_state", {"state": "error"}),
    action("os-getConsoleOutput", "os-console-output", {}),
    action("os-getSerialConsole", "os-remote-consoles", {"type": "serial"}, version="2.5"),
    action("rebuild", "servers:rebuild", {"imageRef": "{image}"}, SIGHT, server=PLACED),
    action("rescue", "os-rescue"),
    action("unrescue", "os-unrescue"),
    action("createImage", "servers:create_image", {"name": "x"}),
    action("createBackup", "os-create-backup", {"name": "x", "backup_type": "x", "rotation": 1}),
    action("resize", "servers:resize", {"flavorRef": "84"}),
    action("confirmResize", "servers:confirm_resize"),
    action("revertResize", "servers:revert_resize"),
    action("shelve", "os-shelve:shelve"),
    action("shelveOffload", "os-shelve:shelve_offload"),
    action("unshelve", "os-shelve:unshelve"),
    action("unshelve", "os-shelve:unshelve os-shelve:unshelve_to_host", {"host": "x"}, server=GONE),
    action("migrate", "os-migrate-server:migrate"),
    action("migrate", "os-migrate-server:migrate:host", {"host": "x"}),
    action("os-migrateLive", "os-migrate-server:migrate_live", {"host": None, "block_migration": "auto"}),
    action("os-migrateLive", "os-migrate-server:migrate_live:host", {"host": "x", "block_migration": "auto"}),
    action("evacuate", "os-evacuate", {}),
    action("forceDelete", "os-deferred-delete:force"),
    action("restore", "os-deferred-delete:restore"),
    Row(f"GET {SERVER}/ips", "ips:index"),
    Row(f"GET {SERVER}/ips/x", "ips:show"),
    Row(f"GET {SERVER}/migrations", "servers:migrations:index", "servers:migrations:index:host"),
    Row(f"GET {SERVER}/migrations/7", "servers:migrations:show"),
    Row(f"DELETE {SERVER}/migrations/7", "servers:migrations:delete"),
    Row(
        f"POST {SERVER}/migrations/7/action",
        "servers:migrations:force_complete",
        body={"force_complete": None},
    ),
    Row(f"GET {SERVER}/metadata", "server-metadata:index"),
    Row(f"POST {SERVER}/metadata", "server-metadata:create", body={"metadata": {"a": "b"}}),
    Row(f"PUT {SERVER}/metadata", "server-metadata:update_all", body={"metadata": {"a": "b"}}),
    Row(f"GET {SERVER}/metadata/x", "server-metadata:show"),
    Row(f"PUT {SERVER}/metadata/x", "server-metadata:update", body={"meta": {"x": "y"}}),
    Row(f"DELETE {SERVER}/metadata/x", "server-metadata:delete"),
    Row(f"GET {SERVER}/os-instance-actions", "os-instance-actions:list"),
    Row(
        f"GET {SERVER}/os-instance-actions/req-x",
        "os-instance-actions:show",
        "os-instance-actions:events os-instance-actions:events:details",
    ),
    Row(
        f"POST {SERVER}/remote-consoles",
        "os-remote-consoles",
        body={"remote_console": {"protocol": "serial", "type": "serial"}},
    ),
    Row(f"GET {SERVER}/diagnostics", "os-server-diagnostics"),
    Row(f"GET {SERVER}/topology", "compute:server:topology:index"),
    Row(f"GET {SERVER}/tags", "os-server-tags:index"),
    Row(f"PUT {SERVER}/tags", "os-server-tags:update_all", body={"tags": ["x"]}, server=PLACED),
    Row(f"DELETE {SERVER}/tags", "os-server-tags:delete_all", server=PLACED),
    Row(f"GET {SERVER}/tags/x", "os-server-tags:show"),
    Row(f"PUT {SERVER}/tags/x", "os-server-tags:update", server=PLACED),
    Row(f"DELETE {SERVER}/tags/x", "os-server-tags:delete", server=PLACED),
    # Of flavors Nova has no rule for these two: who sees them all is an administrator.
    Row(f"GET {V}/flavors", ""),
    Row(f"GET {V}/flavors/detail", "", SPECS),
    Row(f"GET {FLAVOR}", "", SPECS),
    Row(
        f"POST {V}/flavors",
        "os-flavor-manage:create",
        SPECS,
        body={"flavor": {"name": "new", "ram": 1, "vcpus": 1, "disk": 1}},
    ),
    Row(f"PUT {FLAVOR}", "os-flavor-manage:update", SPECS, body={"flavor": {"description": "x"}}),
    Row(f"DELETE {V}/flavors/nope", "os-flavor-manage:delete"),
    Row(f"GET {FLAVOR}/os-extra_specs", SPECS),
    Row(f"POST {FLAVOR}/os-extra_specs", "os-flavor-extra-specs:create", body={"extra_specs": {"a": "b"}}),
    Row(f"GET {FLAVOR}/os-extra_specs/x", "os-flavor-extra-specs:show"),
    Row(f"PUT {FLAVOR}/os-extra_specs/x", "os-flavor-extra-specs:update", body={"x": "y"}),
    Row(f"DELETE {FLAVOR}/os-extra_specs/x", "os-flavor-extra-specs:delete"),
    Row(f"GET {FLAVOR}/os-flavor-access", "os-flavor-access"),
    Row(
        f"POST {FLAVOR}/action",
        "os-flavor-access:add_tenant_access",
        body={"addTenantAccess": {"tenant": "x"}},
    ),
    Row(
        f"POST {FLAVOR}/action",
        "os-flavor-access:remove_tenant_access",
        body={"removeTenantAccess": {"tenant": "x"}},
    ),
    Row(f"GET {V}/os-keypairs", "os-keypairs:index"),
    Row(f"GET {V}/os-keypairs?user_id=x", "os-keypairs:index", may=ADMINS),
    Row(f"POST {V}/os-keypairs", "os-keypairs:create", body={"keypair": {"name": "x"}}, version="2.91"),
    Row(
        f"POST {V}/os-keypairs",
        "os-keypairs:create",
        body={"keypair": {"name": "x", "public_key": "x", "user_id": "x"}},
        may=ADMINS,
    ),
    Row(f"GET {V}/os-keypairs/x", "os-keypairs:show"),
    Row(f"GET {V}/os-keypairs/x?user_id=x", "os-keypairs:show", may=ADMINS),
    Row(f"DELETE {V}/os-keypairs/x", "os-keypairs:delete"),
    Row(f"DELETE {V}/os-keypairs/x?user_id=x", "os-keypairs:delete", may=ADMINS),
    Row(f"GET {V}/os-availability-zone", "os-availability-zone:list"),
    Row(f"GET {V}/os-availability-zone/detail", "os-availability-zone:detail"),
    Row(f"GET {V}/os-hypervisors", "os-hypervisors:list"),
    Row(f"GET {V}/os-hypervisors/detail", "os-hypervisors:list-detail"),
    Row(f"GET {V}/os-hypervisors/statistics", "os-hypervisors:statistics", version="2.87"),
    Row(f"GET {V}/os-hypervisors/{ID}", "os-hypervisors:show"),
    Row(f"GET {V}/os-hypervisors/{ID}/uptime", "os-hypervisors:uptime", version="2.87"),
    Row(f"GET {V}/os-hypervisors/x/search", "os-hypervisors:search", version="2.52"),
    Row(f"GET {V}/os-hypervisors/x/servers", "os-hypervisors:servers", version="2.52"),
    Row(f"GET {V}/os-services", "os-services:list"),
    Row(f"PUT {V}/os-services/enable", "os-services:update", body=NAMED, version="2.52"),
    Row(f"PUT {V}/os-services/disable", "os-services:update", body=NAMED, version="2.52"),
    Row(
        f"PUT {V}/os-services/disable-log-reason",
        "os-services:update",
        body={**NAMED, "disabled_reason": "x"},
        version="2.52",
    ),
    Row(
        f"PUT {V}/os-services/force-down",
        "os-services:update",
        body={**NAMED, "forced_down": True},
        version="2.52",
    ),
    Row(f"PUT {V}/os-services/{ID}", "os-services:update", body={"forced_down": True}),
    Row(f"DELETE {V}/os-services/{ID}", "os-services:delete"),
    Row(f"GET {V}/os-aggregates", "os-aggregates:index"),
    Row(f"POST {V}/os-aggregates", "os-aggregates:create", body={"aggregate": {"name": "x"}}),
    Row(f"GET {V}/os-aggregates/7", "os-aggregates:show"),
    Row(f"PUT {V}/os-aggregates/7", "os-aggregates:update", body={"aggregate": {"name": "x"}}),
    Row(f"DELETE {V}/os-aggregates/7", "os-aggregates:delete"),
    Row(f"POST {V}/os-aggregates/7/action", "os-aggregates:add_host", body={"add_host": {"host": "x"}}),
    Row(f"POST {V}/os-aggregates/7/action", "os-aggregates:remove_host", body={"remove_host": {"host": "x"}}),
    Row(
        f"POST {V}/os-aggregates/7/action",
        "os-aggregates:set_metadata",
        body={"set_metadata": {"metadata": {}}},
    ),
    Row(f"POST {V}/os-aggregates/7/images", "compute:aggregates:images", body={"cache": [{"id": ID}]}),
    Row(f"GET {V}/os-server-groups", "os-server-groups:index"),
    Row(
        f"GET {V}/os-server-groups?all_projects",
        "os-server-groups:index os-server-groups:index:all_projects",
        may=READERS,  # who may not see all sees the own
    ),
    Row(
        f"POST {V}/os-server-groups",
        "os-server-groups:create",
        body={"server_group": {"name": "x", "policy": "affinity"}},
    ),
    Row(f"GET {GROUP}", "os-server-groups:show"),
    Row(f"DELETE {GROUP}", "os-server-groups:delete"),
    Row(f"GET {V}/extensions", "extensions"),
    Row(f"GET {V}/extensions/os-keypairs", "extensions"),
    Row(f"GET {V}/os-migrations?project_id=p-own", "os-migrations:index", "os-migrations:index:host"),
    Row(
        f"GET {V}/os-migrations",
        "os-migrations:index os-migrations:index:all_projects",
        "os-migrations:index:host",
    ),
    Row(f"GET {V}/os-simple-tenant-usage?start=2026-01-01T00:00:00", "os-simple-tenant-usage:list"),
    Row(f"GET {V}/os-simple-tenant-usage/p-own?start=2026-01-01T00:00:00", "os-simple-tenant-usage:show"),
    Row(f"GET {V}/limits", "limits"),
    Row(f"GET {V}/limits?tenant_id=p-other", "limits limits:other_project"),
    Row(f"GET {V}/os-quota-sets/p-own", "os-quota-sets:show"),
    Row(f"PUT {V}/os-quota-sets/p-own", "os-quota-sets:update", body={"quota_set": {}}),
    Row(f"DELETE {V}/os-quota-sets/p-own", "os-quota-sets:delete"),
    Row(f"GET {V}/os-quota-sets/p-own/detail", "os-quota-sets:detail"),
    Row(f"GET {V}/os-quota-sets/p-own/defaults", "os-quota-sets:defaults"),
    Row(f"GET {V}/os-quota-class-sets/default", "os-quota-class-sets:show"),
    Row(f"PUT {V}/os-quota-class-sets/default", "os-quota-class-sets:update", body={"quota_class_set": {}}),
)


class ByHeader(Auth):
    def authenticate(self, req: falcon.Request) -> WebCaller:
        return replace(WHO[req.get_header("X-Who", required=True)], request_id=req.env["app.request_id"])


class World:
    """The Compute API without any worker: what is ordered is recorded, and that's all."""

    def __init__(self, node: Node, images: MemoryImages) -> None:
        self.node = node
        self.app: App = create_app(node.service, ByHeader({}))
        self.image = images.add(b"\0" * 512).id
        self.owner = Caller("member", "p-own", frozenset(ROLES["member"]))
        admin = Caller.administrator("p-admin")
        node.service.flavors.create(admin, Flavor("diskless", "diskless", 1, 64, 0))

    def ask(self, row: Row, who: str, names: Mapping[str, str]) -> falcon.testing.Result:
        method, path = row.operation.split(" ", 1)
        path, _, query = path.partition("?")
        return falcon.testing.TestClient(self.app).simulate_request(
            method,
            path.format(**names),
            query_string=query,
            json=_filled(row.body, names) if row.body is not None else None,
            headers={"X-Who": who, "OpenStack-API-Version": f"compute {row.version}"},
        )

    def names(self, row: Row) -> dict[str, str]:
        """Make what a row is about; return the ids."""
        service, names = self.node.service, {"image": self.image}
        if "{server}" in row.operation:
            (server,) = service.servers.create(self.owner, NewServer("vm", self.image, "42"))
            if row.server:
                self.node._database.servers.change(server, **row.server)
            names["server"] = server.id
        if "{group}" in row.operation:
            names["group"] = service.groups.create(self.owner, "group", GroupPolicy.AFFINITY).id
        return names


def _filled(body: Any, names: Mapping[str, str]) -> Any:
    if isinstance(body, dict):
        return {name: _filled(value, names) for name, value in body.items()}
    return names["image"] if body == "{image}" else body


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory, images = tmp_path_factory.mktemp("cloud"), MemoryImages()
    quota = ("instances", "cores", "ram", "key_pairs", "server_groups")
    told: dict[tuple[str, str], Any] = {
        ("DEFAULT", "state_path"): str(directory),
        ("DEFAULT", "compute_driver"): "fake",
        ("database", "connection"): f"sqlite:///{directory}/novalite.sqlite",
        ("database", "auto_upgrade"): True,
        **{("quota", name): -1 for name in quota},
    }
    with build_all(load([], config_files=[], overrides=told), roles=NO_ROLES, images=images) as node:
        yield World(node, images)


@contextmanager
def answering(monkeypatch: pytest.MonkeyPatch, policy: Policy, closed: set[str]) -> Iterator[set[str]]:
    """Let every rule but the ``closed`` ones be fulfilled; yield those that are asked."""
    asked: set[str] = set()

    def allows(_caller: Caller, rule: str, _target: object = None) -> bool:
        asked.add(rule)
        return rule not in closed

    with monkeypatch.context() as patch:
        patch.setattr(policy, "allows", allows)
        yield asked


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.operation} {row.rules}")
def test_every_operation_asks_its_rules(world: World, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    policy, asked = world.node.service.policy, set()
    for rule in row.decisive:
        with answering(monkeypatch, policy, {rule}):
            answer = world.ask(row, "member", world.names(row))
        assert (answer.status_code, f"Policy doesn't allow {rule} to be performed." in answer.text) == (
            403,
            True,
        )
    for closed in (set(), row.asked - set(row.decisive)):
        names = world.names(row)
        with answering(monkeypatch, policy, closed) as found:
            assert world.ask(row, "member", names).status_code != 403
        asked |= found
    assert asked - {IS_ADMIN} == row.asked
    assert asked


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.operation} {row.rules}")
def test_everybody_may_what_novas_defaults_let(world: World, row: Row) -> None:
    names, wrong = world.names(row), {}
    for who in ROLES:
        answer = world.ask(row, who, names)
        if (answer.status_code != 403) is not (who in row.allowed):
            wrong[who] = answer.text
        if answer.status_code < 300 and not row.operation.startswith("GET"):
            names = world.names(row)
    assert not wrong
    assert world.ask(row, "system", names).status_code in ((403, 404) if row.decisive else (200,))
    if {"server", "group"} & names.keys():
        assert world.ask(row, "stranger", names).status_code == 404


def test_every_operation_is_in_the_table() -> None:
    routes = {f"{route.method} {route.path}" for route in ROUTES if not route.public}
    shape = {re.sub(r"\{\w+\}", "[^/]+", route): route for route in routes}
    found = {
        min((each for each in shape if re.fullmatch(each, told)), key=lambda each: each.count("["))
        for told in (row.operation.partition("?")[0] for row in ROWS)
    }
    assert {shape[each] for each in found} == routes
    actions = {name for row in ROWS if row.operation == f"POST {SERVER}/action" for name in row.body}
    assert actions == {*server_actions.ACTIONS, *server_actions.OTHERS}
    for path, schema in (("os-aggregates/7", aggregates.ACTION), ("flavors/42", flavor_specs.ACTION)):
        told = {name for row in ROWS if row.operation == f"POST {V}/{path}/action" for name in row.body}
        assert told == schema.document["properties"].keys()


def test_every_rule_is_asked_by_an_operation() -> None:
    defined = {rule.name for rule in rules()} - {rule.name for rule in ALIASES}
    assert set().union(*(row.asked for row in ROWS)) == defined
    assert MAY.keys() == defined


@pytest.mark.parametrize("who", ROLES)
def test_defaults(who: str) -> None:
    policy, caller = Policy(), Caller.of(WHO[who])
    mine = {"project_id": "p-own", "user_id": WHO[who].user}
    assert {rule for rule in MAY if policy.allows(caller, rule, mine)} == {
        rule for rule, may in MAY.items() if who in may
    }


def test_a_file_for_nova_works_and_is_followed(tmp_path: Path) -> None:
    member, file = Caller.of(WHO["member"]), tmp_path / "policy.yaml"
    policy = Policy(file, optional=True)
    policy.open()
    assert not policy.allows(member, f"{API}os-server-diagnostics")
    file.write_text(
        '"context_is_admin": "role:chief"\n'
        '"os_compute_api:os-server-diagnostics": "rule:admin_or_owner"\n'
        '"os_compute_api:servers:create": "rule:admin_api"\n'
        '"os_compute_api:os-floating-ips:add": "rule:project_member_or_admin"\n'  # nothing of ours
        '"os_compute_api:os-aggregates:index": "rule:project_reader_api"\n'
        '"os_compute_api:servers:show": "user_id:%(user_id)s and not role:guest"\n'
    )
    assert policy.allows(member, f"{API}os-server-diagnostics")
    assert not policy.allows(member, f"{API}os-server-diagnostics", {"project_id": "p-other"})
    assert not policy.allows(member, f"{API}servers:create")
    assert not policy.allows(member, f"{API}os-aggregates:index", NOBODYS), (
        "what has no project is nobody's own"
    )
    assert policy.allows(member, f"{API}servers:show")
    assert not policy.recognised(Caller.of(WHO["admin"])).admin
    chief = policy.recognised(Caller("c", "p", frozenset({"chief"})))
    assert chief.admin
    assert policy.allows(chief, f"{API}servers:create")
    for broken in ("a: [", "just text", "\xff"):
        file.write_bytes(broken.encode("latin-1"))
        assert not policy.allows(member, f"{API}servers:create"), "what was read last goes on"
        with pytest.raises(ConfigError, match=re.escape(str(file))):
            Policy(file).open()
    file.unlink()
    assert not policy.allows(member, f"{API}servers:create")
    file.write_text("{}\n")
    assert policy.allows(member, f"{API}servers:create")
    with pytest.raises(ConfigError, match=re.escape("nope.yaml")):
        Policy(tmp_path / "nope.yaml").open()


def test_what_is_shown_follows_the_rules(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row(f"GET {SERVER}", "", server={**PLACED, "host": "unheard"})
    names, policy = world.names(row), world.node.service.policy
    sight = dict(zip(("attributes", "status", "unknown", "specs"), _full(SIGHT), strict=True))

    def shown(*closed: str) -> tuple[bool, str | None, bool]:
        with answering(monkeypatch, policy, {sight[name] for name in closed}):
            body = world.ask(row, "member", names).json["server"]
        return "OS-EXT-SRV-ATTR:host" in body, body.get("host_status"), "extra_specs" in body["flavor"]

    assert shown() == (True, "UNKNOWN", True)
    assert shown("attributes", "specs") == (False, "UNKNOWN", False)
    assert shown("status") == (True, "UNKNOWN", True)
    assert shown("status", "unknown") == (True, None, True)
    world.node._database.servers.change(
        world.node._database.servers.get(names["server"]), host=None, task_state=TaskState.SCHEDULING
    )
    assert shown("status") == (True, None, True)


def test_the_sample_holds_every_rule() -> None:
    assert all(f'#"{rule.name}": "{rule.check_str}"' in sample() for rule in rules())
