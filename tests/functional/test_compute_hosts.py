"""Hosts that share nothing but a broker and a database: three in network namespaces, two with real guests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from novalite.quickstart.libvirtd import Hypervisor, start_private
from novalite.reports import MigrationQuery
from novalite.virt import qemuimg
from tests import nodes
from tests.certificates import Authority
from tests.compute_apart import Apart, running_apart
from tests.compute_site import Site, running, upload
from tests.database_servers import DatabaseServer
from tests.lazy_fixtures import DONE, WRONG, reading_disk, the_order
from tests.libvirt_fixtures import TINY_MARKER
from tests.rabbit_server import RabbitServer
from tests.server_fixtures import Server
from tests.waiting import wait_for

HOSTS = ("north", "east", "south")
LAZY_SIZE = 32 << 20
FURTHER = {
    "id": "further",
    "name": "further",
    "ram": 128,
    "vcpus": 1,
    "disk": 1,
    "swap": 8,
    "OS-FLV-EXT-DATA:ephemeral": 1,
}


@pytest.fixture
def apart(
    rabbit_server: RabbitServer, postgres_server: DatabaseServer, api_server: Server, tmp_path: Path
) -> Iterator[Apart]:
    if reason := nodes.missing():
        pytest.skip(reason)
    told: dict[str, Any] = {
        "options": {},
        # Which of them has told that it has the image when the next is placed is chance.
        "further": "[scheduler]\nimage_locality_weight_multiplier = 0\n",
    }
    with running_apart(tmp_path / "site", rabbit_server, postgres_server, api_server, HOSTS, **told) as site:
        yield site


def test_three_hosts_in_network_namespaces(apart: Apart, api_server: Server) -> None:
    image_id = upload(api_server.url, b"\0" * 4096)
    servers = {apart.boot(image_id, f"vm-{number}"): "" for number in range(3)}
    for server_id in servers:
        apart.wait(server_id, "ACTIVE")
        servers[server_id] = apart.host_of(server_id)
    assert set(servers.values()) == set(HOSTS), "the least loaded is taken"

    # One moves, and its disk goes along from one namespace to the other.
    moving, old = next(iter(servers.items()))
    (apart.instances(old) / moving / "disk").write_bytes(b"written by the guest" * 1000)
    apart.act(moving, "migrate")
    apart.wait(moving, "VERIFY_RESIZE")
    new = apart.host_of(moving)
    assert new != old
    assert (apart.instances(new) / moving / "disk").read_bytes() == b"written by the guest" * 1000
    apart.act(moving, "confirmResize")
    apart.wait(moving, "ACTIVE")
    wait_for("the old host lets go", lambda: not (apart.instances(old) / moving).exists())

    # Its new host is cut off, which is noticed, and has two servers.
    lost = [server_id for server_id in servers if apart.host_of(server_id) == new]
    assert len(lost) == 2
    apart.cut(new)
    wait_for("it's down", lambda: apart.state(new) == "down")
    shown = apart.call("GET", f"/servers/{moving}")["server"]
    assert (shown["status"], shown["host_status"]) == ("ACTIVE", "DOWN")
    for server_id in lost:
        apart.act(server_id, "evacuate", {})
    for server_id in lost:
        apart.wait(server_id, "ACTIVE")
        assert apart.host_of(server_id) != new
    assert all((apart.instances(new) / server_id).exists() for server_id in lost), "nobody could tell it"

    # It is back, and drops what isn't its own any more.
    apart.of(new).restore()
    wait_for("it's up", lambda: apart.state(new) == "up")
    wait_for("hosts and records agree", apart.agrees)
    assert not [*apart.instances(new).glob("*/guest.json")]
    for server_id in servers:
        apart.call("DELETE", f"/servers/{server_id}")
        apart.wait(server_id, "gone")


@pytest.fixture
def two_libvirtds(
    short_dir: Path, private_libvirtd: Hypervisor, qemu_certificates: Path
) -> Iterator[dict[str, str]]:
    """Map two hosts to the URIs of libvirtds that know nothing of each other.

    Their QEMUs have certificates of one authority.
    """
    if "socket=" not in private_libvirtd.uri:
        pytest.skip("a second libvirtd needs root")
    authority, certificates = Authority(short_dir, "qemu"), short_dir / "pki"
    certificates.mkdir()
    for host, directory in (("east", qemu_certificates), ("west", certificates)):
        authority.equip_qemu(directory, host)
    with start_private(short_dir / "lv", name="west", certificates=certificates) as second:
        yield {"east": private_libvirtd.uri, "west": second.uri}


@pytest.mark.libvirt
def test_a_real_guest_moves_with_its_disk(
    rabbit_server: RabbitServer,
    postgres_server: DatabaseServer,
    api_server: Server,
    two_libvirtds: dict[str, str],
    tiny_image: Path,
    short_dir: Path,
) -> None:
    disk = short_dir / "tiny.qcow2"
    qemuimg.to_qcow2(tiny_image, "raw", disk, tiny_image.stat().st_size)
    image_id = upload(api_server.url, disk.read_bytes(), "qcow2")
    options = {"compute_driver": "libvirt", "sync_power_state_interval": 1}
    told: dict[str, Any] = {
        "hosts": tuple(two_libvirtds),
        "options": {**options, "default_ephemeral_format": "ext4"},
        "further": "[libvirt]\nvirt_type = qemu\nshutdown_timeout = 1\n",
        "of_host": lambda host: f"connection_uri = {two_libvirtds[host]}\n",
    }
    with running(short_dir / "moves", rabbit_server, postgres_server, api_server.url, **told) as site:
        site.call("POST", "/flavors", {"flavor": FURTHER})
        server_id = site.boot(image_id, flavorRef="further")
        site.wait(server_id, "ACTIVE")
        old = str(site.database.servers.get(server_id).host)
        new = next(host for host in site.hosts if host != old)
        site.act(server_id, "os-stop")
        site.wait(server_id, "SHUTOFF")
        qemu_io(site, old, server_id, "write -P 0xab 512k 4k")
        qemu_io(site, old, server_id, "write -P 0xcd 1023M 4k", "disk.eph0")
        site.act(server_id, "migrate")
        site.wait(server_id, "VERIFY_RESIZE")
        assert site.database.servers.get(server_id).host == new
        qemu_io(site, new, server_id, "read -P 0xab 512k 4k")
        qemu_io(site, new, server_id, "read -P 0xcd 1023M 4k", "disk.eph0")
        site.act(server_id, "confirmResize")
        site.wait(server_id, "SHUTOFF")
        wait_for("the old host lets go", lambda: not (site.instances(old) / server_id).exists())
        site.act(server_id, "os-start")
        site.wait(server_id, "ACTIVE")
        wait_for("it boots there", lambda: TINY_MARKER.decode() in console(site, server_id))
        # And back, while it runs.
        site.act(server_id, "migrate")
        site.wait(server_id, "VERIFY_RESIZE")
        wait_for("it boots here", lambda: TINY_MARKER.decode() in console(site, server_id))
        site.act(server_id, "revertResize")
        site.wait(server_id, "ACTIVE")
        assert site.database.servers.get(server_id).host == new
        wait_for("this one lets go", lambda: not (site.instances(old) / server_id).exists())
        site.call("DELETE", f"/servers/{server_id}")
        site.wait(server_id, "gone")
        assert not [*site.instances(new).glob(server_id)]


@pytest.mark.libvirt
def test_a_real_guest_moves_while_it_runs(
    rabbit_server: RabbitServer,
    postgres_server: DatabaseServer,
    api_server: Server,
    two_libvirtds: dict[str, str],
    tiny_image: Path,
    short_dir: Path,
) -> None:
    disk = short_dir / "tiny.qcow2"
    qemuimg.to_qcow2(tiny_image, "raw", disk, tiny_image.stat().st_size)
    image_id = upload(api_server.url, disk.read_bytes(), "qcow2")

    lazy_image = upload(api_server.url, reading_disk(LAZY_SIZE, step=8192, count=6))

    inbound = {"west": two_libvirtds["west"], "east": "qemu+unix:///system?socket=/nowhere"}

    def of_host(host: str) -> str:
        return f"connection_uri = {two_libvirtds[host]}\nlive_migration_inbound_uri = {inbound[host]}\n"

    told: dict[str, Any] = {
        "hosts": tuple(two_libvirtds),
        "options": {
            "compute_driver": "libvirt",
            "sync_power_state_interval": 0.5,
            "default_ephemeral_format": "ext4",
        },
        "further": "[image_cache]\nlazy_boot_minimum_mb = 1\nlazy_fill_delay = 3600\n"
        "[libvirt]\nvirt_type = qemu\nshutdown_timeout = 1\nlive_migration_with_native_tls = true\n",
        "of_host": of_host,
    }
    with running(short_dir / "live", rabbit_server, postgres_server, api_server.url, **told) as site:
        west = {"host": "west", "binary": "nova-compute"}
        site.call("PUT", "/os-services/disable", west)
        site.call("POST", "/flavors", {"flavor": FURTHER})
        server_id, other = site.boot(image_id, flavorRef="further"), site.boot(image_id)
        slow, lazy = site.boot(image_id), site.boot(lazy_image)
        for each in (server_id, other, slow, lazy):
            site.wait(each, "ACTIVE")
        wait_for("it boots", lambda: TINY_MARKER.decode() in console(site, server_id))
        site.call("PUT", "/os-services/enable", west)
        live = {"host": None, "block_migration": "auto"}
        # Workers are killed when all is ready, while the guest goes, and when it has gone.
        for point in ("place-ready", "guest-leaves", "guest-sent"):
            (site.faults / point).touch()
        site.act(server_id, "os-migrateLive", live)
        for _ in range(3):
            site.start(site.killed())
        site.wait(server_id, "ACTIVE")
        record = site.database.servers.get(server_id)
        assert (record.host, record.power_state, record.fault) == ("west", "running", None)
        wait_for("the old host lets go", lambda: not (site.instances("east") / server_id).exists())
        assert TINY_MARKER.decode() not in console(site, server_id), "it runs on, and didn't boot"
        (way,) = site.database.migrations.list(MigrationQuery(server_id=server_id)).items
        assert (way.migration_type, way.status, way.dest_host) == ("live-migration", "completed", "west")
        site.act(server_id, "reboot", {"type": "HARD"})
        site.wait(server_id, "ACTIVE")
        wait_for("its disk is there", lambda: TINY_MARKER.decode() in console(site, server_id))
        # Its base isn't here as a whole: what is missing is fetched as it's sent.
        order, files = the_order(site.instances("east") / "_base")
        assert order.image_id == lazy_image
        assert files.lazy.stat().st_blocks * 512 < LAZY_SIZE // 2
        site.act(lazy, "os-migrateLive", live)
        site.wait(lazy, "ACTIVE")
        assert site.database.servers.get(lazy).host == "west"
        assert files.lazy.exists(), "it isn't verified, as nobody has filled it"
        site.act(lazy, "reboot", {"type": "HARD"})
        site.wait(lazy, "ACTIVE")
        wait_for("it reads all of its disk", lambda: DONE.decode() in console(site, lazy))
        assert WRONG.decode() not in console(site, lazy)
        assert (site.instances("west") / server_id / "disk.swap.8").stat().st_size == 8 << 20
        ephemeral = site.instances("west") / server_id / "disk.eph0"
        read = ["qemu-io", "-r", "-U", "-f", "qcow2", "-c", "read -v 1144 16", str(ephemeral)]
        label = subprocess.run(read, capture_output=True, text=True, check=True).stdout
        assert "ephemeral0" in label, "it has come along, with its file system"
        # One that takes its time is called off, while its worker is dead, and then made to hurry.
        (site.faults / "guest-leaves").touch()
        way = sent_slowly(site, slow, two_libvirtds["east"], 10)
        dead = site.killed()
        site.call("DELETE", way)
        site.start(dead)
        site.wait(slow, "ACTIVE")
        record = site.database.servers.get(slow)
        assert (record.host, record.power_state, record.fault) == ("east", "running", None)
        assert domains(two_libvirtds["east"])[slow]
        wait_for("nothing of it is there", lambda: not (site.instances("west") / slow).exists())
        way = sent_slowly(site, slow, two_libvirtds["east"], 100)
        shown = site.call("GET", way)["migration"]
        assert 0 <= shown["disk_remaining_bytes"] <= shown["disk_total_bytes"] <= 1 << 30
        site.call("POST", f"{way}/action", {"force_complete": None})
        wait_for("it is paused", lambda: power_of(two_libvirtds["east"], slow) == libvirt.VIR_DOMAIN_PAUSED)
        site.wait(slow, "ACTIVE")
        record = site.database.servers.get(slow)
        assert (record.host, record.power_state, record.fault) == ("west", "running", None)
        assert power_of(two_libvirtds["west"], slow) == libvirt.VIR_DOMAIN_RUNNING
        ways = site.database.migrations.list(MigrationQuery(server_id=slow)).items
        assert [each.status for each in ways] == ["completed", "cancelled"]
        site.call("DELETE", f"/servers/{slow}")
        site.wait(slow, "gone")
        # One that is deleted on its way is gone from both.
        site.act(other, "os-migrateLive", live)
        site.call("DELETE", f"/servers/{other}")
        site.wait(other, "gone")
        for host in site.hosts:
            wait_for("it's gone", lambda: other not in domains(two_libvirtds[host]))  # noqa: B023
            wait_for("it left nothing", lambda: not (site.instances(host) / other).exists())  # noqa: B023
        # Back the other can't go, as it isn't told how, and is none the worse for it.
        site.act(server_id, "os-migrateLive", live)
        site.wait(server_id, "ACTIVE")
        assert site.database.servers.get(server_id).host == "west"
        (newest, _) = site.database.migrations.list(MigrationQuery(server_id=server_id)).items
        assert newest.status == "error"
        wait_for("nothing is left there", lambda: not (site.instances("east") / server_id).exists())
        assert site.database.hosts.get("east").memory_mb_used == 0
        assert domains(two_libvirtds["east"]) == {}


def domains(uri: str) -> dict[str, bool]:
    """Map the guests that a libvirt knows to whether they run."""
    connection = libvirt.open(uri)
    try:
        return {each.UUIDString(): bool(each.isActive()) for each in connection.listAllDomains(0)}
    finally:
        connection.close()


def power_of(uri: str, server_id: str) -> int | None:
    """Return what state libvirt says that a guest is in, None for one that isn't there."""
    connection = libvirt.open(uri)
    try:
        return next(
            (each.state()[0] for each in connection.listAllDomains(0) if each.UUIDString() == server_id), None
        )
    finally:
        connection.close()


def sent_slowly(site: Site, server_id: str, uri: str, speed: int) -> str:
    """Have a guest with a disk of a gibibyte sent at so many MiB a second.

    Returns the path of the migration that is under way.
    """
    connection = libvirt.open(uri)
    try:
        dom = connection.lookupByUUIDString(server_id)
        dom.migrateSetMaxSpeed(speed)
        site.act(server_id, "os-migrateLive", {"host": None, "block_migration": "auto"})
        wait_for("it is being sent", lambda: dom.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE)
    finally:
        connection.close()
    path = f"/servers/{server_id}/migrations"
    (shown,) = site.call("GET", path)["migrations"]
    assert shown["status"] == "running"
    return f"{path}/{shown['id']}"


def console(site: Site, server_id: str) -> str:
    return str(site.act(server_id, "os-getConsoleOutput", {})["output"])


def qemu_io(site: Site, host: str, server_id: str, command: str, disk: str = "disk.qcow2") -> None:
    """Read or write what a guest that is off has on a disk."""
    path = site.instances(host) / server_id / disk
    done = subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", command, str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "verification failed" not in done.stdout, done.stdout
