"""Servers that go from host to host, and hosts that die and come back, by the Compute API."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glancelike.web.auth import BasicAuth
from novalite.errors import HypervisorDown
from novalite.model import Flavor, NewServer
from novalite.testing.cloud import Cloud
from novalite.virt.base import InstanceSpec, VirtCap
from novalite.virt.fake import FakeDriver
from novalite.virt.fake_guests import EMPTY
from tests.compute_fixtures import Compute
from tests.server_fixtures import write_users
from tests.waiting import wait_for

HOSTS = ("one", "two", "three")
SMALL = (1, 128, 1)  # m1.nano: vcpus, MiB, GiB


class Hosts(Compute):
    """The API over three hosts whose disks are files."""

    def __init__(self, cloud: Cloud, auth: BasicAuth, directory: Path) -> None:
        super().__init__(cloud, auth)
        self.directory = directory

    def on(self, host: str, **values: Any) -> str:
        """Make a server on a host; return its id."""
        wanted = NewServer(
            **{"name": "vm", "image_id": self.image.id, "flavor_id": "42", **values}, host=host
        )
        (server,) = self.cloud.service.servers.create(self.cloud.admin, wanted)
        self.wait(server.id, "ACTIVE")
        return server.id

    def admin(self, server_id: str, action: Any, version: str = "2.52") -> Any:
        return self.act(server_id, action, user="admin", version=version)

    def host_of(self, server_id: str) -> str:
        return str(self.record(server_id).host)

    def record(self, server_id: str) -> Any:
        return self.cloud.service.servers.show(self.cloud.admin, server_id)

    def disk(self, host: str, server_id: str) -> bytes | None:
        """Return what a host has of a server's disk."""
        path = self.directory / "guests" / host / server_id / "disk"
        return path.read_bytes() if path.exists() else None

    def write(self, server_id: str, data: bytes) -> None:
        """Write to a server's disk, as its guest would."""
        (self.directory / "guests" / self.host_of(server_id) / server_id / "disk").write_bytes(data)

    def claimed(self) -> dict[str, tuple[int, int, int]]:
        """Map each host with claims to the sums of them."""
        found = {
            host.name: (host.vcpus_used, host.memory_mb_used, host.disk_gb_used)
            for host in self.cloud.service.hosts.hypervisors(self.cloud.admin)
        }
        return {name: sums for name, sums in found.items() if any(sums)}

    def migrations(self, server_id: str) -> list[tuple[str, ...]]:
        """Return kind, status and hosts of each of a server's ways, newest first."""
        answer = self.as_("admin", "2.23").get(f"/v2.1/os-migrations?instance_uuid={server_id}")
        shown = ("migration_type", "status", "source_compute", "dest_compute")
        return [tuple(each[name] for name in shown) for each in answer.json["migrations"]]

    def nothing_moves(self) -> bool:
        """Tell whether no disk is on its way on any host."""
        return not [*self.directory.glob("*/instances/_moving/*")]

    def clear(self) -> None:
        """Delete all servers, and wait until no host has anything of any."""
        admin = self.as_("admin")
        for host in HOSTS:
            self.force_down(host, down=False)
        for each in admin.get("/v2.1/servers?all_tenants=1").json["servers"]:
            admin.delete(f"/v2.1/servers/{each['id']}")
            self.wait(each["id"], None)
        wait_for("nothing is left", lambda: not [*self.directory.glob("guests/*/*-*")])
        wait_for("nothing moves", self.nothing_moves)
        wait_for("nothing is claimed", lambda: not self.claimed())

    def force_down(self, host: str, *, down: bool = True) -> None:
        body = {"host": host, "binary": "nova-compute", "forced_down": down}
        answer = self.as_("admin", "2.11").put("/v2.1/os-services/force-down", json=body)
        assert answer.json == {"service": body}, answer.text


def driver(hosts: Hosts, host: str) -> Any:
    """Return a host's virt driver."""
    compute = hosts.cloud.nodes[host].compute
    assert compute is not None
    return compute._driver


def console(hosts: Hosts, server_id: str) -> str:
    return str(hosts.admin(server_id, {"os-getConsoleOutput": {}}).json["output"])


@pytest.fixture(scope="module")
def three_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    directory = tmp_path_factory.mktemp("hosts")
    auth = BasicAuth({"http_basic_auth_user_file": str(write_users(directory / "users"))})
    auth.open()
    guests = {host: {("fake", "fake_directory"): str(directory / "guests" / host)} for host in HOSTS}
    quota: dict[tuple[str, str], Any] = {("quota", name): -1 for name in ("ram", "cores")}
    with Cloud(directory, hosts=HOSTS, options=quota, host_options=guests) as cloud:
        yield Hosts(cloud, auth, directory)


@pytest.fixture
def hosts(three_hosts: Hosts) -> Iterator[Hosts]:
    """Three hosts without servers."""
    yield three_hosts
    three_hosts.clear()


def test_a_server_moves_and_takes_its_disk_along(hosts: Hosts) -> None:
    server_id = hosts.on("one")
    hosts.write(server_id, b"written by the guest")
    assert hosts.admin(server_id, "migrate").status_code == 202
    hosts.wait(server_id, "VERIFY_RESIZE")
    new = hosts.host_of(server_id)
    assert new != "one"
    assert hosts.disk(new, server_id) == b"written by the guest"
    assert hosts.claimed() == {"one": SMALL, new: SMALL}
    assert hosts.migrations(server_id) == [("migration", "finished", "one", new)]
    wait_for("the copy is gone", hosts.nothing_moves)
    assert hosts.disk("one", server_id) is not None, "there is a way back"
    assert hosts.act(server_id, "confirmResize", user="admin").status_code == 204
    hosts.wait(server_id, "ACTIVE")
    wait_for("the old host lets go", lambda: hosts.disk("one", server_id) is None)
    assert hosts.claimed() == {new: SMALL}
    assert hosts.migrations(server_id) == [("migration", "confirmed", "one", new)]


def test_a_swap_disk_is_made_anew_wherever_the_server_is_and_counts_by_the_gibibyte(hosts: Hosts) -> None:
    swapping = Flavor("swapping", "swapping", 1, 128, 1, swap_mb=1025)
    hosts.cloud.service.flavors.create(hosts.cloud.admin, swapping)

    def swaps(host: str) -> int:
        guest = json.loads((hosts.directory / "guests" / host / server_id / "guest.json").read_text())
        return int(guest["size"][3])

    server_id = hosts.on("one", flavor_id="swapping")
    with_swap = (1, 128, 3)
    assert (swaps("one"), hosts.claimed()) == (1025 << 20, {"one": with_swap})
    assert hosts.admin(server_id, "migrate").status_code == 202
    hosts.wait(server_id, "VERIFY_RESIZE")
    new = hosts.host_of(server_id)
    assert (swaps(new), hosts.claimed()) == (1025 << 20, {"one": with_swap, new: with_swap})
    hosts.admin(server_id, "confirmResize")
    hosts.wait(server_id, "ACTIVE")
    hosts.done(server_id, {"rebuild": {"imageRef": hosts.image.id}}, "ACTIVE", user="admin")
    assert swaps(new) == 1025 << 20
    hosts.done(server_id, {"resize": {"flavorRef": "42"}}, "VERIFY_RESIZE", user="admin")
    assert (swaps(new), hosts.claimed()) == (0, {new: with_swap})
    hosts.done(server_id, "revertResize", "ACTIVE", user="admin")
    assert (swaps(new), hosts.claimed()) == (1025 << 20, {new: with_swap})


def test_an_ephemeral_disk_goes_along_but_is_made_anew_by_what_begins_with_an_image(hosts: Hosts) -> None:
    for gigabytes in (1, 2):
        flavor = Flavor(f"scratch-{gigabytes}", f"scratch-{gigabytes}", 1, 128, 1, ephemeral_gb=gigabytes)
        hosts.cloud.service.flavors.create(hosts.cloud.admin, flavor)

    def disk(host: str) -> Path:
        return hosts.directory / "guests" / host / server_id / "ephemeral"

    def refused(action: Any) -> str:
        answer = hosts.admin(server_id, action)
        assert answer.status_code == 400, answer.text
        return str(answer.json["badRequest"]["message"])

    server_id = hosts.on("one", flavor_id="scratch-1")
    small, large = (1, 128, 2), (1, 128, 3)
    assert (disk("one").read_bytes(), hosts.claimed()) == (EMPTY, {"one": small})
    admin = hosts.as_("admin", "2.47")
    assert admin.get(f"/v2.1/servers/{server_id}").json["server"]["flavor"]["ephemeral"] == 1
    usage = admin.get(f"/v2.1/os-simple-tenant-usage/{hosts.record(server_id).project}").json["tenant_usage"]
    assert {each["instance_id"]: each["local_gb"] for each in usage["server_usages"]}[server_id] == 2
    disk("one").write_bytes(b"written by the guest")
    assert hosts.admin(server_id, "migrate").status_code == 202
    hosts.wait(server_id, "VERIFY_RESIZE")
    new = hosts.host_of(server_id)
    assert (disk(new).read_bytes(), hosts.claimed()) == (b"written by the guest", {"one": small, new: small})
    wait_for("the copies are gone", hosts.nothing_moves)
    disk(new).write_bytes(b"forgotten")
    hosts.done(server_id, "revertResize", "ACTIVE", user="admin")
    wait_for("the new host lets go", lambda: not disk(new).parent.exists())
    assert (disk("one").read_bytes(), hosts.claimed()) == (b"written by the guest", {"one": small})
    # It grows, and doesn't shrink.
    hosts.done(server_id, {"resize": {"flavorRef": "scratch-2"}}, "VERIFY_RESIZE", user="admin")
    assert (disk("one").read_bytes(), hosts.claimed()) == (b"written by the guest", {"one": large})
    assert hosts.admin(server_id, "confirmResize").status_code == 204
    hosts.wait(server_id, "ACTIVE")
    for smaller in ("scratch-1", "42"):
        assert "its ephemeral disk has 2 GiB" in refused({"resize": {"flavorRef": smaller}})
    # A rebuild and an evacuation begin with the image, and so does a server that has left its host.
    anew = {"imageRef": hosts.image.id}
    assert "isn't supported" in refused({"rebuild": {**anew, "preserve_ephemeral": True}})
    hosts.done(server_id, {"rebuild": {**anew, "preserve_ephemeral": False}}, "ACTIVE", user="admin")
    assert disk("one").read_bytes() == EMPTY
    disk("one").write_bytes(b"lost")
    hosts.done(server_id, "shelve", "SHELVED_OFFLOADED", user="admin")
    assert (disk("one").parent.exists(), hosts.claimed()) == (False, {})
    hosts.done(server_id, "unshelve", "ACTIVE", user="admin")
    old = hosts.host_of(server_id)
    assert (disk(old).read_bytes(), hosts.claimed()) == (EMPTY, {old: large})
    disk(old).write_bytes(b"lost, too")
    hosts.force_down(old)
    assert hosts.admin(server_id, {"evacuate": {}}).status_code == 200
    hosts.wait(server_id, "ACTIVE")
    assert disk(hosts.host_of(server_id)).read_bytes() == EMPTY


def test_a_server_that_moves_has_its_kernel_there_too(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    booted: list[bytes] = []
    spawn = FakeDriver.spawn

    def watched(driver: FakeDriver, spec: InstanceSpec) -> None:
        booted.append(spec.base.boot.kernel.read_bytes() if spec.base.boot else b"none")
        spawn(driver, spec)

    monkeypatch.setattr(FakeDriver, "spawn", watched)
    images = hosts.cloud.images
    kernel = images.add(b"a kernel", disk_format="aki", container_format="aki")
    image = images.add(b"\0" * 512, properties={"kernel_id": kernel.id})
    server_id = hosts.on("one", image_id=image.id)
    assert hosts.admin(server_id, "migrate").status_code == 202
    hosts.wait(server_id, "VERIFY_RESIZE")
    assert (hosts.host_of(server_id) != "one", booted) == (True, [b"a kernel"] * 2)


def test_a_server_that_is_off_stays_off_and_goes_back(hosts: Hosts) -> None:
    server_id = hosts.on("two")
    hosts.done(server_id, "os-stop", "SHUTOFF", user="admin")
    hosts.write(server_id, b"before")
    hosts.done(server_id, "migrate", "VERIFY_RESIZE", user="admin")
    new = hosts.host_of(server_id)
    assert hosts.record(server_id).power_state == "shutdown"
    hosts.write(server_id, b"after")
    hosts.done(server_id, "revertResize", "SHUTOFF", user="admin")
    assert hosts.host_of(server_id) == "two"
    assert hosts.disk("two", server_id) == b"before"
    wait_for("the new host lets go", lambda: hosts.disk(new, server_id) is None)
    assert hosts.claimed() == {"two": SMALL}
    assert hosts.migrations(server_id) == [("migration", "reverted", "two", new)]


def test_a_host_takes_no_old_disk_for_the_one_that_comes(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has one still of a server that comes back, as when it was down when it was to drop it."""
    compute = hosts.cloud.nodes["two"].compute
    assert compute is not None
    monkeypatch.setattr(compute._sync, "_see_to_another_hosts", lambda _: None)
    server_id = hosts.on("two")
    hosts.write(server_id, b"old")
    for target in ("three", "two"):
        hosts.cloud.service.moves.migrate(hosts.cloud.admin, server_id, target)
        hosts.wait(server_id, "VERIFY_RESIZE")
        if target == "three":
            hosts.write(server_id, b"new")
            assert hosts.disk("two", server_id) == b"old"
        hosts.act(server_id, "confirmResize", user="admin")
        hosts.wait(server_id, "ACTIVE")
    assert hosts.host_of(server_id) == "two"
    assert hosts.disk("two", server_id) == b"new"


def test_a_resize_goes_elsewhere_where_there_is_no_room(hosts: Hosts) -> None:
    server_id = hosts.on("one")
    hosts.cloud.service.flavors.create(hosts.cloud.admin, Flavor("wide", "wide", 20, 256, 2))
    hosts.on("one", flavor_id="wide")
    hosts.cloud.service.flavors.create(hosts.cloud.admin, Flavor("deep", "deep", 1, 65536 - 128, 3))
    assert hosts.admin(server_id, {"resize": {"flavorRef": "deep"}}).status_code == 202
    hosts.wait(server_id, "VERIFY_RESIZE")
    new = hosts.host_of(server_id)
    assert new != "one"
    assert hosts.claimed() == {"one": (21, 384, 3), new: (1, 65536 - 128, 3)}
    assert hosts.record(server_id).flavor.id == "deep"
    assert hosts.migrations(server_id) == [("resize", "finished", "one", new)]
    usage = hosts.cloud.service.servers.limits(hosts.cloud.admin).used
    assert usage.ram == 256 + 65536 - 128, "the larger one counts until it's decided"
    hosts.done(server_id, "revertResize", "ACTIVE", user="admin")
    assert hosts.record(server_id).flavor.id == "42"
    assert hosts.claimed() == {"one": (21, 384, 3)}
    assert hosts.cloud.service.servers.limits(hosts.cloud.admin).used.ram == 256 + 128


def test_what_cannot_move_stays_as_it_was(hosts: Hosts) -> None:
    server_id = hosts.on("one")
    assert hosts.act(server_id, "migrate").status_code == 404, "alice doesn't see it"
    mine = hosts.server("mine")
    orders: tuple[Any, ...] = ("migrate", {"evacuate": {}})
    for action in orders:
        assert hosts.act(mine, action, version="2.14").status_code == 403
    with hosts_without_room(hosts, "one"):
        assert hosts.admin(server_id, "migrate").status_code == 202
        hosts.wait(server_id, "ACTIVE")
    assert hosts.host_of(server_id) == "one"
    assert "is where the server is" in failed(hosts, server_id)
    hosts.admin(server_id, "pause")
    hosts.wait(server_id, "PAUSED")
    assert hosts.admin(server_id, "migrate").status_code == 409


def test_a_move_whose_disk_cannot_come_is_undone(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    server_id = hosts.on("one")
    compute = hosts.cloud.nodes["one"].compute
    assert compute is not None
    monkeypatch.setattr(compute._disks, "_host", "another")
    hosts.write(server_id, b"mine")
    hosts.done(server_id, "migrate", "ACTIVE", user="admin")
    assert hosts.host_of(server_id) == "one"
    assert hosts.disk("one", server_id) == b"mine"
    assert "the disk isn't given there any more" in failed(hosts, server_id)
    ((_, status, _, new),) = hosts.migrations(server_id)
    assert (status, hosts.claimed()) == ("error", {"one": SMALL})
    assert hosts.disk(new, server_id) is None


LIVE = {"host": None, "block_migration": "auto"}


def test_a_guest_goes_on_elsewhere_with_its_disk_and_is_as_it_was(hosts: Hosts) -> None:
    server_id = hosts.on("one", config_drive=True)
    hosts.write(server_id, b"written by the guest")
    assert "ready" in console(hosts, server_id)
    for status, target in (("ACTIVE", "two"), ("PAUSED", "three")):
        before = hosts.host_of(server_id)
        hosts.done(
            server_id, {"os-migrateLive": {**LIVE, "host": target}}, status, user="admin", version="2.30"
        )
        record = hosts.record(server_id)
        assert (record.host, record.fault, hosts.claimed()) == (target, None, {target: SMALL})
        assert hosts.disk(target, server_id) == b"written by the guest"
        assert (hosts.directory / "guests" / target / server_id / "config").exists()
        assert hosts.migrations(server_id)[0] == ("live-migration", "completed", before, target)
        assert console(hosts, server_id) == "", "it runs on, and didn't boot"
        wait_for("the old host lets go", lambda: hosts.disk(before, server_id) is None)  # noqa: B023
        wait_for("nothing moves", hosts.nothing_moves)
        if status == "ACTIVE":
            hosts.done(server_id, "pause", "PAUSED", user="admin")
    hosts.done(server_id, {"reboot": {"type": "HARD"}}, "ACTIVE", user="admin")
    assert "ready" in console(hosts, server_id)


def test_a_guest_on_its_way_is_called_back_or_hurried(hosts: Hosts) -> None:
    admin, server_id = hosts.as_("admin", "2.80"), hosts.on("one")
    path = f"/v2.1/servers/{server_id}/migrations"

    def sent_slowly(target: str) -> str:
        driver(hosts, hosts.host_of(server_id)).settings["fake_send_seconds"] = 600.0
        asked = {"os-migrateLive": {**LIVE, "host": target}}
        assert hosts.admin(server_id, asked, version="2.30").status_code == 202
        wait_for("it is sent", lambda: [each["status"] for each in listed()] == ["running"])
        return f"{path}/{listed()[0]['id']}"

    def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = admin.get(path).json["migrations"]
        return found

    assert listed() == []
    way = sent_slowly("two")
    (shown,) = listed()
    assert admin.get(way).json == {"migration": shown}
    told = {name: shown[name] for name in ("server_uuid", "source_compute", "dest_compute", "user_id")}
    names = {"source_compute": "one", "dest_compute": "two", "user_id": hosts.record(server_id).user}
    assert told == {"server_uuid": server_id, **names}
    assert hosts.record(server_id).status == "MIGRATING"
    for answer, status in (
        (hosts.as_("admin", "2.22").get(path), 404),
        (hosts.as_("admin", "2.23").delete(way), 404),
        (hosts.as_("admin", "2.21").post(f"{way}/action", json={"force_complete": None}), 404),
        (hosts.as_("alice", "2.80").get(path), 404),
        (hosts.as_("alice", "2.80").delete(way), 404),
        (admin.post(f"{way}/action", json={"force_complete": True}), 400),
        (admin.post(f"{path}/999/action", json={"force_complete": None}), 400),
        (admin.delete(f"{path}/999"), 404),
        (admin.get(f"{path}/x"), 404),
    ):
        assert answer.status_code == status, answer.text
    assert admin.delete(way).status_code == 202
    hosts.wait(server_id, "ACTIVE")
    assert (hosts.host_of(server_id), hosts.claimed()) == ("one", {"one": SMALL})
    assert hosts.record(server_id).fault is None
    assert hosts.migrations(server_id) == [("live-migration", "cancelled", "one", "two")]
    for answer, status in (
        (admin.delete(way), 409),
        (admin.post(f"{way}/action", json={"force_complete": None}), 409),
        (admin.get(way), 404),
    ):
        assert answer.status_code == status, answer.text
    way = sent_slowly("three")
    assert admin.post(f"{way}/action", json={"force_complete": None}).status_code == 202
    hosts.wait(server_id, "ACTIVE")
    assert hosts.host_of(server_id) == "three"
    assert hosts.migrations(server_id)[0] == ("live-migration", "completed", "one", "three")
    wait_for(
        "the others let go",
        lambda: (
            [*hosts.directory.glob(f"guests/*/{server_id}")]
            == [hosts.directory / "guests" / "three" / server_id]
        ),
    )
    actions = admin.get(f"/v2.1/servers/{server_id}/os-instance-actions").json["instanceActions"]
    assert {"live_migration_cancel", "live_migration_force_complete"} <= {each["action"] for each in actions}


def test_a_guest_that_has_had_its_time_stays(hosts: Hosts) -> None:
    server_id = hosts.on("one")
    driver(hosts, "one").settings.update(fake_send_seconds=600.0, fake_send_timeout=0.1)
    hosts.done(server_id, {"os-migrateLive": {**LIVE, "host": "two"}}, "ACTIVE", user="admin", version="2.30")
    assert (hosts.host_of(server_id), hosts.claimed()) == ("one", {"one": SMALL})
    assert failed(hosts, server_id).count("the guest isn't on its new host after 0.1 s") == 1
    assert hosts.migrations(server_id) == [("live-migration", "cancelled", "one", "two")]
    wait_for("the other host lets go", lambda: not [*hosts.directory.glob(f"guests/two/{server_id}")])
    driver(hosts, "one").settings.update(fake_send_seconds=0.0, fake_send_timeout=0.0)


def test_a_migration_is_called_off_before_its_guest_is_sent(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, server_id = hosts.as_("admin", "2.65"), hosts.on("one")
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> Any:
        begun.set()
        go_on.wait(60)
        raise HypervisorDown("never mind")

    monkeypatch.setattr(driver(hosts, "two"), "make_ready", slow)
    assert (
        hosts.admin(server_id, {"os-migrateLive": {**LIVE, "host": "two"}}, version="2.30").status_code == 202
    )
    wait_for("it is made ready", begun.is_set)
    (way,) = admin.get(f"/v2.1/servers/{server_id}/migrations").json["migrations"]
    assert way["status"] == "preparing"
    path = f"/v2.1/servers/{server_id}/migrations/{way['id']}"
    assert hosts.as_("admin", "2.64").delete(path).status_code == 400
    assert admin.post(f"{path}/action", json={"force_complete": None}).status_code == 400
    assert admin.delete(path).status_code == 202
    go_on.set()
    hosts.wait(server_id, "ACTIVE")
    assert (hosts.host_of(server_id), hosts.claimed()) == ("one", {"one": SMALL})
    assert hosts.migrations(server_id) == [("live-migration", "cancelled", "one", "two")]


def test_a_guest_that_cannot_go_while_it_runs_runs_on(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    server_id = hosts.on("one")
    live = LIVE
    monkeypatch.setattr(FakeDriver, "capabilities", FakeDriver.capabilities & ~VirtCap.LIVE_MIGRATION)
    for version, asked, status in (
        ("2.25", {**live, "block_migration": False}, 400),
        ("2.25", {**live, "disk_over_commit": False}, 400),
        ("2.24", live, 400),
        ("2.25", {**live, "host": "one"}, 400),
        ("2.25", {**live, "host": "nowhere"}, 400),
        ("2.29", {**live, "force": True}, 400),
        ("2.30", {**live, "force": True}, 400),
        ("2.25", {"host": None}, 400),
    ):
        answer = hosts.admin(server_id, {"os-migrateLive": asked}, version=version)
        assert answer.status_code == status, (version, asked, answer.text)
    assert hosts.act(hosts.server("mine"), {"os-migrateLive": live}, version="2.25").status_code == 403
    old = {"host": "two", "block_migration": True, "disk_over_commit": False}
    for version, asked in (("2.1", old), ("2.30", {**live, "host": "two"})):
        assert hosts.admin(server_id, {"os-migrateLive": asked}, version=version).status_code == 202
        hosts.wait(server_id, "ACTIVE")
        assert "lacks LIVE_MIGRATION" in failed(hosts, server_id)
        assert hosts.migrations(server_id)[0] == ("live-migration", "error", "one", "two")
    assert hosts.host_of(server_id) == "one"
    hosts.done(server_id, "os-stop", "SHUTOFF", user="admin")
    assert hosts.admin(server_id, {"os-migrateLive": live}, version="2.25").status_code == 409


def test_nobody_else_is_given_a_disk(hosts: Hosts) -> None:
    """Neither without the secret, nor when the server has arrived."""
    import urllib3

    server_id = hosts.on("one")
    compute = hosts.cloud.nodes["one"].compute
    assert compute is not None
    with urllib3.PoolManager() as http:
        for path in (f"disks/{server_id}", "disks/../../etc/passwd", "disks/", "other"):
            answer = http.request(
                "GET", f"{compute._disks.url}/{path}", headers={"Authorization": "Bearer x"}
            )
            assert answer.status == 403


def test_a_dead_hosts_servers_are_made_anew_elsewhere(hosts: Hosts) -> None:
    on, off, other, ended = (hosts.on("three") for _ in range(4))
    hosts.done(off, "os-stop", "SHUTOFF", user="admin")
    in_use = hosts.admin(on, {"evacuate": {}})
    assert in_use.status_code == 400
    assert "Compute service of three is still in use." in in_use.text
    hosts.cloud.nodes["three"].close()
    hosts.force_down("three")
    services = hosts.as_("admin", "2.11").get("/v2.1/os-services?host=three").json["services"]
    assert [(each["state"], each["forced_down"]) for each in services] == [("down", True)]
    assert hosts.as_("admin", "2.16").get(f"/v2.1/servers/{on}").json["server"]["host_status"] == "DOWN"
    assert hosts.admin(on, "migrate").status_code == 409, "its disk can't come"
    for body, status in (
        ({"evacuate": {"host": "three"}}, 400),
        ({"evacuate": {"host": "nowhere"}}, 404),
        ({"evacuate": {"force": True}}, 400),
        ({"evacuate": {"onSharedStorage": False}}, 400),
    ):
        assert hosts.admin(on, body).status_code == status, body
    answer = hosts.admin(on, {"evacuate": {"onSharedStorage": "False", "adminPass": "word"}}, version="2.1")
    assert (answer.status_code, answer.json) == (200, {"adminPass": "word"})
    answer = hosts.admin(off, {"evacuate": {"host": "two"}}, version="2.29")
    assert (answer.status_code, answer.content) == (200, b"")
    answer = hosts.admin(ended, {"evacuate": {"force": True, "host": "two"}}, version="2.95")
    assert answer.status_code == 400, "nothing is forced any more"
    assert hosts.admin(ended, {"evacuate": {"host": "two"}}, version="2.95").status_code == 200
    hosts.wait(on, "ACTIVE")
    hosts.wait(off, "SHUTOFF")
    hosts.wait(ended, "SHUTOFF")
    assert hosts.host_of(off) == "two"
    assert hosts.disk("two", off) == b"\0" * 1024
    assert hosts.migrations(off) == [("evacuation", "done", "three", "two")]
    assert "three" in hosts.claimed(), "the one that was left there"
    # What it has of them it drops when it is back, and nothing else.
    assert hosts.disk("three", on)
    assert hosts.disk("three", off)
    foreign = hosts.directory / "guests" / "three" / "00000000-0000-4000-8000-000000000000"
    foreign.mkdir()
    hosts.cloud.nodes["three"].open()
    hosts.force_down("three", down=False)
    for server_id in (on, off):
        wait_for("it's dropped", lambda: hosts.disk("three", server_id) is None)  # noqa: B023
    dropped = [("evacuation", "completed", "three", "two")]
    wait_for("it is told", lambda: hosts.migrations(off) == dropped)
    hosts.done(other, "os-stop", "SHUTOFF", user="admin")
    assert hosts.host_of(other) == "three"
    assert foreign.exists()
    foreign.rmdir()


def test_an_evacuation_that_fails_leaves_the_dead_host_what_it_has(hosts: Hosts) -> None:
    image = hosts.cloud.images.add(b"\1" * 1024)
    server_id = hosts.on("three", image_id=image.id)
    hosts.write(server_id, b"precious")
    hosts.force_down("three")
    hosts.cloud.images.remove(image.id)
    hosts.admin(server_id, {"evacuate": {}})
    hosts.wait(server_id, "ERROR")
    assert hosts.host_of(server_id) == "three"
    assert "not found" in str(hosts.record(server_id).fault)
    assert hosts.migrations(server_id)[0][:2] == ("evacuation", "failed")
    with hosts_without_room(hosts, "three"):
        hosts.admin(server_id, {"evacuate": {}})
        hosts.wait(server_id, "ERROR")
    assert "is said to be down" not in str(hosts.record(server_id).fault)
    hosts.force_down("three", down=False)
    assert hosts.disk("three", server_id) == b"precious"
    assert hosts.claimed() == {"three": SMALL}
    hosts.done(server_id, {"reboot": {"type": "HARD"}}, "ACTIVE", user="admin")


class hosts_without_room:
    """No host but one takes a server for a while."""

    def __init__(self, hosts: Hosts, but: str) -> None:
        self._service = hosts.cloud.service.hosts
        self._admin = hosts.cloud.admin
        self._others = [name for name in HOSTS if name != but]

    def __enter__(self) -> None:
        for name in self._others:
            self._service.set_enabled(self._admin, name, False, reason="full")

    def __exit__(self, *_: object) -> None:
        for name in self._others:
            self._service.set_enabled(self._admin, name, True)


def failed(hosts: Hosts, server_id: str) -> str:
    """Return what the newest action of a server failed by."""
    path = f"/v2.1/servers/{server_id}/os-instance-actions"
    admin = hosts.as_("admin", "2.51")
    (action, *_) = admin.get(path).json["instanceActions"]
    assert action["message"] == "Error", action
    events = admin.get(f"{path}/{action['request_id']}").json["instanceAction"]["events"]
    return "; ".join(str(event["traceback"]) for event in events)
