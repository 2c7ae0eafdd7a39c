"""The use cases, over a whole cloud in this process."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from novalite.errors import (
    FlavorExists,
    FlavorNotFound,
    FlavorTooSmall,
    Forbidden,
    ImageMissing,
    ImageUnusable,
    InvalidInput,
    InvalidState,
    KeyPairExists,
    KeyPairNotFound,
    NotFound,
    NovaliteError,
    QuotaExceeded,
    ServerNotFound,
)
from novalite.model import (
    GIB,
    Caller,
    Flavor,
    NewServer,
    Server,
    ServerQuery,
    Status,
    TaskState,
    Usage,
    VmState,
)
from novalite.service import ComputeService
from novalite.service.keypairs import fingerprint_of
from novalite.service.quotas import Quotas
from novalite.service.servers import Servers
from novalite.testing import Cloud

ROLES = frozenset({"member", "reader"})
OTHER = Caller("other", "other-project", ROLES)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAFOTZIsWWo4Ct/J7tci6DWCLxI2dhaT5Lq7YeGvuwTx someone@somewhere"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    options = {("quota", "instances"): 100, ("quota", "cores"): -1, ("quota", "ram"): -1}
    with Cloud(tmp_path_factory.mktemp("cloud"), options=options) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def service(cloud: Cloud) -> ComputeService:
    return cloud.service


@pytest.fixture
def caller(request: pytest.FixtureRequest) -> Caller:
    """A caller whose project no other test uses."""
    return Caller(f"user of {request.node.name}", f"project of {request.node.name}", ROLES)


@pytest.fixture
def boot(cloud: Cloud, caller: Caller) -> Callable[..., Server]:
    def boot(name: str = "vm", **values: Any) -> Server:
        image = cloud.images.add(b"\0" * 512)
        (server,) = cloud.service.servers.create(caller, NewServer(name, image.id, "42", **values))
        return cloud.wait(server.id, Status.ACTIVE)

    return boot


def user_data(data: bytes) -> str:
    return base64.b64encode(data).decode()


# Creating


def test_service_create_boots_what_was_ordered(cloud: Cloud, caller: Caller) -> None:
    image = cloud.images.add(b"\0" * 512, name="an image", properties={"hw_disk_bus": "virtio"})
    pair, _ = cloud.service.keypairs.create(caller, "key")
    ordered = NewServer(
        "My Server_1",
        image.id,
        "42",
        key_name="key",
        metadata={"a": "1"},
        user_data=user_data(b"#!/bin/sh"),
        config_drive=True,
        zone="nova",
    )
    (server,) = cloud.service.servers.create(caller, ordered)
    assert (server.status, server.task_state, server.host) == (Status.BUILD, TaskState.SCHEDULING, None)
    server = cloud.wait(server.id, Status.ACTIVE)
    assert (server.host, server.zone, server.power_state) == ("host1", "nova", "running")
    assert (server.project, server.user) == (caller.project, caller.user)
    assert server.image == image
    assert server.flavor.name == "m1.nano"
    assert (server.key_name, server.public_key) == ("key", pair.public_key)
    assert server.hostname == "my-server-1"
    assert server.launched_at is not None
    assert server.launched_at >= server.created_at
    assert server.lease_holder is None
    console = cloud.service.servers.console_output(caller, server.id)
    assert f"instance-id={server.id} name=My Server_1" in console
    assert "\n" not in cloud.service.servers.console_output(caller, server.id, lines=1)
    assert cloud.service.servers.console_output(caller, server.id, lines=0) == ""


def test_service_create_many(cloud: Cloud, caller: Caller) -> None:
    image = cloud.images.add(b"\0" * 512)
    servers = cloud.service.servers.create(caller, NewServer("web", image.id, "42", min_count=2, max_count=3))
    assert [server.name for server in servers] == ["web-1", "web-2", "web-3"]
    assert [server.launch_index for server in servers] == [0, 1, 2]
    (reservation,) = {server.reservation_id for server in servers}
    for server in servers:
        cloud.wait(server.id, Status.ACTIVE)
    found = cloud.service.servers.list(caller, ServerQuery(reservation_id=reservation))
    assert {server.id for server in found.items} == {server.id for server in servers}


@pytest.mark.parametrize(
    ("values", "error", "told"),
    [
        ({"name": " "}, InvalidInput, "name must not be empty"),
        ({"name": "x" * 256}, InvalidInput, "more than 255"),
        ({"name": "a\nb"}, InvalidInput, "control characters"),
        ({"flavor_id": "nope"}, FlavorNotFound, "Flavor nope"),
        ({"image_id": "nope"}, ImageMissing, "image nope"),
        ({"key_name": "nope"}, KeyPairNotFound, "key pair nope"),
        ({"metadata": {"a": 1}}, InvalidInput, "'a' isn't text"),
        ({"metadata": {"": "x"}}, InvalidInput, "1 to 255"),
        ({"metadata": {"a": "x" * 256}}, InvalidInput, "item a has 256"),
        (
            {"metadata": {str(n): "" for n in range(129)}},
            QuotaExceeded,
            "Maximum number of metadata items exceeds 128",
        ),
        ({"user_data": "not base64!"}, InvalidInput, "user_data isn't base64"),
        ({"user_data": "A" * 65536}, InvalidInput, "65536 characters"),
        ({"zone": "mars"}, InvalidInput, "zone mars"),
        ({"host": "host1"}, Forbidden, "servers:create:forced_host"),
        ({"min_count": 0}, InvalidInput, "min_count"),
        ({"min_count": 3, "max_count": 2}, InvalidInput, "min_count"),
        ({"max_count": 10**9}, InvalidInput, "max_count"),
        ({"min_count": 101, "max_count": 101}, QuotaExceeded, "requested 101"),
    ],
)
def test_service_create_refuses(
    cloud: Cloud, caller: Caller, values: dict[str, Any], error: type[NovaliteError], told: str
) -> None:
    wanted = NewServer("vm", cloud.images.add(b"\0").id, "42")
    with pytest.raises(error, match=told):
        cloud.service.servers.create(caller, replace(wanted, **values))
    assert cloud.service.servers.list(caller, ServerQuery()).items == ()


@pytest.mark.parametrize(
    ("values", "error", "told"),
    [
        ({"status": "queued"}, ImageUnusable, "is queued, not active"),
        ({"status": "deactivated"}, ImageUnusable, "is deactivated"),
        ({"container_format": "ova"}, ImageUnusable, "container_format ova"),
        ({"container_format": None}, ImageUnusable, "container_format None"),
        ({"disk_format": "aki"}, ImageUnusable, "disk_format aki"),
        ({"min_ram": 129}, FlavorTooSmall, "129 MiB of memory, flavor m1.nano has 128"),
        ({"min_disk": 2}, FlavorTooSmall, "2 GiB of disk"),
        ({"size": GIB + 1}, FlavorTooSmall, f"{GIB + 1} bytes of disk"),
        ({"virtual_size": GIB + 1}, FlavorTooSmall, f"{GIB + 1} bytes of disk"),
    ],
)
def test_service_create_refuses_images(
    cloud: Cloud, caller: Caller, values: dict[str, Any], error: type[NovaliteError], told: str
) -> None:
    image = cloud.images.add(b"\0" * 512, **values)
    with pytest.raises(error, match=told):
        cloud.service.servers.create(caller, NewServer("vm", image.id, "42"))


def test_service_create_takes_any_image_where_the_flavor_has_no_disk(cloud: Cloud, caller: Caller) -> None:
    admin = cloud.admin
    cloud.service.flavors.create(admin, Flavor("diskless", "diskless", 1, 64, 0))
    image = cloud.images.add(b"\0" * 512, min_disk=50)
    wanted = NewServer("vm", image.id, "diskless")
    (server,) = cloud.service.servers.create(admin, wanted)
    assert cloud.wait(server.id, Status.ACTIVE).flavor.disk_gb == 0
    with pytest.raises(Forbidden, match="servers:create:zero_disk_flavor"):
        cloud.service.servers.create(caller, wanted)


def test_service_create_as_many_as_the_quota_allows(cloud: Cloud, caller: Caller) -> None:
    node = cloud.nodes["host1"]
    quota = replace(node.settings.quota, instances=2)
    settings = replace(node.settings, quota=quota)
    policy = node.service.policy
    quotas = Quotas(settings, node._database, policy)
    small = Servers(settings, node._database, node._bus, cloud.images, quotas, policy)
    image = cloud.images.add(b"\0" * 512)
    assert len(small.create(caller, NewServer("vm", image.id, "42", min_count=1, max_count=5))) == 2
    with pytest.raises(QuotaExceeded, match="instances: requested 1, in use 2 of 2"):
        small.create(caller, NewServer("vm", image.id, "42"))
    limits = small.limits(caller)
    assert (limits.used, limits.quota.instances) == (Usage(2, 2, 256), 2)
    with pytest.raises(Forbidden):
        small.limits(OTHER, caller.project)


def test_service_an_administrator_chooses_the_host(cloud: Cloud) -> None:
    image = cloud.images.add(b"\0" * 512)
    wanted = NewServer("vm", image.id, "42", host="host1")
    (server,) = cloud.service.servers.create(cloud.admin, wanted)
    assert cloud.wait(server.id, Status.ACTIVE).host == "host1"
    with pytest.raises(InvalidInput, match="host mars"):
        cloud.service.servers.create(cloud.admin, replace(wanted, host="mars"))


# Who may


def test_service_servers_of_others_are_not_there(
    service: ComputeService, cloud: Cloud, caller: Caller, boot: Callable[..., Server]
) -> None:
    server = boot()
    servers = service.servers
    for act in (
        lambda: servers.show(OTHER, server.id),
        lambda: servers.update(OTHER, server.id, name="x"),
        lambda: service.metadata.add(OTHER, server.id, {}),
        lambda: service.metadata.remove(OTHER, server.id, "x"),
        lambda: servers.delete(OTHER, server.id),
        lambda: servers.start(OTHER, server.id),
        lambda: servers.stop(OTHER, server.id),
        lambda: servers.reboot(OTHER, server.id),
        lambda: servers.console_output(OTHER, server.id),
    ):
        with pytest.raises(ServerNotFound, match=server.id):
            act()
    assert servers.list(OTHER, ServerQuery()).items == ()
    with pytest.raises(Forbidden, match="servers:index:get_all_tenants"):
        servers.list(OTHER, ServerQuery(all_projects=True))
    assert servers.list(OTHER, ServerQuery(project=caller.project)).items == ()
    assert servers.show(cloud.admin, server.id).id == server.id
    everything = servers.list(cloud.admin, ServerQuery(all_projects=True, host="host1"))
    assert server.id in {one.id for one in everything.items}


def test_service_only_administrators_change_what_all_share(service: ComputeService) -> None:
    for act in (
        lambda: service.flavors.create(OTHER, Flavor("x", "x", 1, 1, 1)),
        lambda: service.flavors.delete(OTHER, "42"),
        lambda: service.hosts.hypervisors(OTHER),
        lambda: service.hosts.services(OTHER),
        lambda: service.hosts.show(OTHER, "host1"),
        lambda: service.hosts.set_enabled(OTHER, "host1", False),
    ):
        with pytest.raises(Forbidden, match="Policy doesn't allow os_compute_api:os-.* to be performed"):
            act()


# Changing


def test_service_rename_and_metadata(
    service: ComputeService, caller: Caller, boot: Callable[..., Server]
) -> None:
    server = boot(metadata={"a": "1", "b": "2"})
    assert service.servers.update(caller, server.id, name="neu").name == "neu"
    with pytest.raises(InvalidInput):
        service.servers.update(caller, server.id, name="")
    changed = service.metadata.add(caller, server.id, {"b": "3", "c": "4"})
    assert changed.metadata == {"a": "1", "b": "3", "c": "4"}
    assert service.metadata.remove(caller, server.id, "a").metadata == {"b": "3", "c": "4"}
    with pytest.raises(NotFound, match="Metadata item was not found"):
        service.metadata.remove(caller, server.id, "a")
    with pytest.raises(QuotaExceeded):
        service.metadata.add(caller, server.id, {str(n): "" for n in range(127)})
    assert service.metadata.replace(caller, server.id, {"z": "0"}).metadata == {"z": "0"}


def test_service_power(
    service: ComputeService, cloud: Cloud, caller: Caller, boot: Callable[..., Server]
) -> None:
    server = boot()
    servers = service.servers
    with pytest.raises(InvalidState, match="Cannot 'start' instance .* while it is in vm_state active"):
        servers.start(caller, server.id)
    assert servers.stop(caller, server.id).task_state == TaskState.POWERING_OFF
    stopped = cloud.wait(server.id, Status.SHUTOFF)
    assert (stopped.vm_state, stopped.power_state) == (VmState.STOPPED, "shutdown")
    with pytest.raises(InvalidState, match="stopped"):
        servers.reboot(caller, server.id)
    assert servers.start(caller, server.id).task_state == TaskState.POWERING_ON
    assert cloud.wait(server.id, Status.ACTIVE).power_state == "running"
    assert servers.reboot(caller, server.id).status == Status.REBOOT
    cloud.wait(server.id, Status.ACTIVE)
    assert servers.reboot(caller, server.id, hard=True).status == Status.HARD_REBOOT
    cloud.wait(server.id, Status.ACTIVE)
    console = servers.console_output(caller, server.id)
    assert console.count("init") == 4


def test_service_delete(
    service: ComputeService, cloud: Cloud, caller: Caller, boot: Callable[..., Server]
) -> None:
    server = boot()
    used = service.servers.limits(caller).used.instances
    service.servers.delete(caller, server.id)
    cloud.wait(server.id, None)
    assert service.servers.limits(caller).used.instances == used - 1
    assert server.id not in service.hosts.show(cloud.admin, "host1").server_ids
    with pytest.raises(ServerNotFound):
        service.servers.delete(caller, server.id)
    since = service.servers.list(caller, ServerQuery(changes_since=server.created_at))
    assert [(one.id, one.status) for one in since.items] == [(server.id, Status.DELETED)]
    assert since.items[0].terminated_at is not None


def test_service_lists_pages_and_filters(
    service: ComputeService, caller: Caller, boot: Callable[..., Server]
) -> None:
    for name in ("one", "two", "three"):
        boot(name)
    first = service.servers.list(caller, ServerQuery(limit=2))
    rest = service.servers.list(caller, ServerQuery(limit=2, marker=first.next_marker))
    assert [server.name for server in first.items + rest.items] == ["three", "two", "one"]
    assert rest.next_marker is None
    assert [s.name for s in service.servers.list(caller, ServerQuery(name="TW")).items] == ["two"]
    active = service.servers.list(caller, ServerQuery(statuses=frozenset({Status.ACTIVE})))
    assert len(active.items) == 3
    with pytest.raises(InvalidInput, match="limit"):
        service.servers.list(caller, ServerQuery(limit=-1))


# Flavors, key pairs, hosts


def test_service_flavors(service: ComputeService, cloud: Cloud) -> None:
    flavors, admin = service.flavors, cloud.admin
    made = flavors.create(admin, Flavor("auto", "own", 1, 64, 0, public=False, extra_specs={"a": "b"}))
    assert len(made.id) == 36
    assert flavors.show(admin, made.id).extra_specs == {"a": "b"}
    with pytest.raises(FlavorNotFound):
        flavors.show(OTHER, made.id)
    assert "own" not in {flavor.name for flavor in flavors.list(OTHER, public=None).items}
    assert {flavor.name for flavor in flavors.list(admin, public=False).items} == {"own"}
    with pytest.raises(FlavorExists):
        flavors.create(admin, replace(made, id="other-id"))
    large = flavors.list(OTHER, min_ram=8192, min_disk=100)
    assert [flavor.name for flavor in large.items] == ["m1.xlarge"]
    by_ram = flavors.list(OTHER, sort="memory_mb", descending=True, limit=1)
    assert by_ram.items[0].name == "m1.xlarge"
    then = flavors.list(OTHER, sort="memory_mb", descending=True, limit=1, marker=by_ram.next_marker)
    assert then.items[0].name == "m1.large"
    flavors.delete(admin, made.id)
    with pytest.raises(FlavorNotFound):
        flavors.delete(admin, made.id)


@pytest.mark.parametrize(
    "values",
    [
        {"name": ""},
        {"id": "a/b"},
        {"id": " x"},
        {"vcpus": 0},
        {"memory_mb": 0},
        {"disk_gb": -1},
        {"vcpus": 1 << 31},
    ],
)
def test_service_flavors_that_cannot_be(
    service: ComputeService, cloud: Cloud, values: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        service.flavors.create(cloud.admin, replace(Flavor("fine", "fine", 1, 1, 1), **values))


def test_service_key_pairs_are_the_users_own(service: ComputeService, caller: Caller) -> None:
    pairs = service.keypairs
    made, private = pairs.create(caller, "made here")
    key = serialization.load_ssh_private_key(private.encode(), None)
    public = key.public_key().public_bytes(  # type: ignore[union-attr]
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    assert made.public_key.startswith(public.decode())
    assert made.fingerprint.count(":") == 15
    with pytest.raises(KeyPairExists):
        pairs.create(caller, "made here")
    imported = pairs.import_key(caller, "imported", f"  {made.public_key}\n")
    assert imported.fingerprint == made.fingerprint
    assert [pair.name for pair in pairs.list(caller).items] == ["imported", "made here"]
    assert pairs.list(OTHER).items == ()
    with pytest.raises(KeyPairNotFound):
        pairs.show(OTHER, "imported")
    pairs.delete(caller, "imported")
    with pytest.raises(KeyPairNotFound):
        pairs.delete(caller, "imported")


def test_service_fingerprint_is_what_ssh_keygen_says() -> None:
    # ssh-keygen -l -E md5
    assert fingerprint_of(KEY) == "90:49:2c:36:bd:e1:ca:62:11:bb:fd:2c:61:20:fc:f5"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("", KEY),
        ("a/b", KEY),
        (" a", KEY),
        ("x" * 256, KEY),
        ("k", ""),
        ("k", "ssh-ed25519"),
        ("k", "ssh-ed25519 AAAA"),
        ("k", "telepathy AAAA"),
        ("k", f"{KEY}\n{KEY}"),
        ("k", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ("k", "ssh-rsa " + "A" * 20000),
    ],
)
def test_service_key_pairs_that_cannot_be(
    service: ComputeService, caller: Caller, name: str, key: str
) -> None:
    with pytest.raises(InvalidInput):
        service.keypairs.import_key(caller, name, key)


def test_service_zones_and_hosts(service: ComputeService, cloud: Cloud) -> None:
    (zone,) = service.hosts.zones(OTHER)
    assert (zone.name, zone.available, zone.hosts) == ("nova", True, ())
    (host,) = service.hosts.hypervisors(cloud.admin)
    assert (host.name, host.up, host.virt_type) == ("host1", True, "fake")
    assert [one.name for one in service.hosts.zones(cloud.admin, detail=True)[0].hosts] == ["host1"]
    disabled = service.hosts.set_enabled(cloud.admin, "host1", False, reason="repair")
    assert (disabled.enabled, disabled.disabled_reason) == (False, "repair")
    assert not service.hosts.zones(OTHER)[0].available
    assert service.hosts.set_enabled(cloud.admin, "host1", True).disabled_reason is None
    with pytest.raises(NotFound, match="host mars"):
        service.hosts.show(cloud.admin, "mars")


def test_service_a_disabled_host_gets_no_server(
    service: ComputeService, cloud: Cloud, caller: Caller
) -> None:
    service.hosts.set_enabled(cloud.admin, "host1", False, reason="repair")
    try:
        (server,) = service.servers.create(caller, NewServer("vm", cloud.images.add(b"\0").id, "42"))
        failed = cloud.wait(server.id, Status.ERROR)
    finally:
        service.hosts.set_enabled(cloud.admin, "host1", True)
    assert failed.fault is not None
    assert failed.fault.message == "no valid host: host1: is disabled (repair)"
    with pytest.raises(InvalidState):
        service.servers.start(caller, server.id)
    with pytest.raises(InvalidState, match="is not ready"):
        service.servers.console_output(caller, server.id)
    service.servers.delete(caller, server.id)
    with pytest.raises(ServerNotFound):
        service.servers.show(caller, server.id)
