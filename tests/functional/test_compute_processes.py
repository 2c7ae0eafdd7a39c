"""API, scheduler and worker as programs of their own, on a real broker and real databases."""

from __future__ import annotations

import signal
import socket
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import pytest
import urllib3

from novalite import cli
from novalite.db import Database
from novalite.model import ComputeHost, Flavor, ImageInfo, Server, Usage
from novalite.quickstart.libvirtd import Hypervisor
from novalite.rpc import Bus
from novalite.virt import qemuimg
from tests import warm
from tests.certificates import Authority
from tests.compute_site import Site, running, upload
from tests.database_servers import DatabaseServer
from tests.lazy_fixtures import reading_disk
from tests.libvirt_fixtures import TINY_MARKER
from tests.rabbit_server import RabbitServer
from tests.server_fixtures import BIN, answers
from tests.server_fixtures import Server as Process
from tests.silent_socket import SilentSocket, before
from tests.waiting import wait_for

UNLIMITED = Usage(-1, -1, -1)
SCHEDULERS, HOSTS, EACH = 8, 3, 4
# Guests of images of a mebibyte or more read what they need when they need it, and nothing is fetched ahead.
LAZY = """\
[image_cache]
lazy_boot_minimum_mb = 1
lazy_fill_delay = 3600
lazy_read_timeout = 0.5
lazy_missing_timeout = 0
"""


@pytest.mark.libvirt
def test_four_programs_boot_a_real_guest(
    rabbit_server: RabbitServer,
    postgres_server: DatabaseServer,
    api_server: Process,
    private_libvirtd: Hypervisor,
    tiny_image: Path,
    short_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = {"compute_driver": "libvirt", "sync_power_state_interval": 1, "report_interval": 1}
    if "socket=" not in private_libvirtd.uri:
        pytest.skip("a libvirtd of our own needs root")
    uri, path = private_libvirtd.uri.split("socket=")
    uri = f"{uri}socket={short_dir}/libvirt"
    further = f"[libvirt]\nconnection_uri = {uri}\nvirt_type = qemu\nshutdown_timeout = 1\n{LAZY}"
    # A raw disk with a boot sector and no partition would be refused.
    disk = short_dir / "tiny.qcow2"
    qemuimg.to_qcow2(tiny_image, "raw", disk, tiny_image.stat().st_size)
    image_id = upload(api_server.url, disk.read_bytes(), "qcow2")
    told: dict[str, Any] = {"options": options, "further": further}
    with (
        before(short_dir / "libvirt", path) as libvirtd,
        running(short_dir / "real", rabbit_server, postgres_server, api_server.url, **told) as site,
    ):
        ahead = ["--config-file", str(site.config_files["host"]), "image", "precache", "--host", "host"]

        # Once: a host that is up has heard it.
        assert cli.main([*ahead, image_id]) == 0
        assert capsys.readouterr().out == "told host\n"

        def fetched() -> bool:
            return [{image_id}] == [*site.database.hosts.look({}).images.values()]

        wait_for("the host has the image", fetched)
        server_id = site.boot(image_id)
        site.wait(server_id, "ACTIVE")
        wait_for("the guest says so", lambda: TINY_MARKER.decode() in console(site, server_id))
        # A worker that is killed leaves the guest running, and the next one knows it.
        site.processes["compute host"].kill()
        assert site.processes["compute host"].wait(60) == -signal.SIGKILL
        assert domains(private_libvirtd) == {server_id: True}
        site.start("compute host")
        site.act(server_id, "os-stop")
        site.wait(server_id, "SHUTOFF")
        assert domains(private_libvirtd) == {server_id: False}
        site.act(server_id, "os-start")
        site.wait(server_id, "ACTIVE")
        is_told_why_its_guest_is_stopped(site, api_server, private_libvirtd)
        site.call("DELETE", f"/servers/{server_id}")
        site.wait(server_id, "gone")
        assert domains(private_libvirtd) == {}
        assert [path.name for path in site.instances("host").iterdir()] == ["_base"]
        assert site.database.hosts.get("host").server_ids == frozenset()
        ends_though_nobody_answers(site, rabbit_server, postgres_server, libvirtd)


def is_told_why_its_guest_is_stopped(site: Site, images: Process, hypervisor: Hypervisor) -> None:
    """Have an image vanish that a guest needs, and the worker killed before it has stopped that guest."""
    image_id = upload(images.url, reading_disk(32 << 20, step=64, count=900))
    server_id = site.boot(image_id)
    site.wait(server_id, "ACTIVE")
    (site.faults / "loss-told").touch()
    with urllib3.PoolManager() as http:
        assert http.request("DELETE", f"{images.url}/v2/images/{image_id}").status == 204
    killed = site.killed()
    assert domains(hypervisor)[server_id], "it's paused, not stopped"
    site.start(killed)
    wait_for("the guest is stopped", lambda: not domains(hypervisor)[server_id])
    record = site.database.servers.get(server_id)
    assert (site.status(server_id), record.fault is not None) == ("ERROR", True)
    assert f"image {image_id} is gone, and isn't here as a whole" in str(record.fault)
    site.call("DELETE", f"/servers/{server_id}")
    site.wait(server_id, "gone")


def ends_though_nobody_answers(
    site: Site, rabbit: RabbitServer, postgres: DatabaseServer, libvirtd: SilentSocket
) -> None:
    """End a site whose broker, database and hypervisor hang, with a request under way."""
    assert site.api is not None
    with rabbit.paused(), postgres.paused(), socket.create_connection(("127.0.0.1", site.api.port)) as asking:
        libvirtd.fall_silent()
        asking.sendall(b"GET /v2.1/servers/detail HTTP/1.1\r\nHost: here\r\n\r\n")
        assert answers(site.api), "what came later is answered, so that is under way"
        assert libvirtd.unanswered.wait(60), "the worker connects again"
        site.api.process.terminate()
        assert set(site.close().values()) == {0}
        with suppress(ConnectionResetError):
            assert asking.recv(1) == b"", "it was under way until the end"
    assert "SIGKILL" not in site.api.log.read_text(), "it has ended by itself"


def console(site: Site, server_id: str) -> str:
    said = site.call("POST", f"/servers/{server_id}/action", {"os-getConsoleOutput": {}})
    return str(said["output"])


def domains(hypervisor: Hypervisor) -> dict[str, bool]:
    """Map the guests that libvirt knows to whether they run."""
    connection = libvirt.open(hypervisor.uri)
    try:
        return {each.UUIDString(): bool(each.isActive()) for each in connection.listAllDomains(0)}
    finally:
        connection.close()


def test_racing_schedulers_never_overcommit_a_host(
    database_server: DatabaseServer, rabbit_server: RabbitServer, tmp_path: Path
) -> None:
    """Eight processes place four times as many servers as there is room for."""
    url = database_server.make_database("race")
    database = Database(url)
    database.open(upgrade=True)
    config = tmp_path / "novalite.conf"
    config.write_text(
        f"[DEFAULT]\nstate_path = {tmp_path}\ncompute_driver = fake\ntransport_url = {rabbit_server.url}\n"
        f"redrive_interval = 0.2\nlease_seconds = 30\nservice_down_time = 600\n"
        f"[scheduler]\nhooks = capacity\n[database]\nconnection = {url}\n"
    )
    host = ComputeHost("", "nova", "fake", "1", "fake", "x86_64", vcpus=64, memory_mb=64000, disk_gb=EACH)
    for number in range(HOSTS):
        database.hosts.register(replace(host, name=f"h{number}"))
    log = (tmp_path / "log").open("ab")
    schedulers = [
        warm.start([BIN / "novalite-scheduler", "--config-file", config], stdout=log, stderr=log)
        for _ in range(SCHEDULERS)
    ]
    bus = Bus(rabbit_server.url)
    bus.open()
    try:
        said = tmp_path / "log"
        wait_for("all work", lambda: said.read_text().count("novalite-scheduler works") == SCHEDULERS)
        flavor = Flavor("f", "flavor", vcpus=1, memory_mb=10, disk_gb=1)
        server = Server("", name="vm", project="p", user="u", flavor=flavor, image=ImageInfo("i"))
        servers = [replace(server, id=str(uuid.uuid4())) for _ in range(HOSTS * EACH * 4)]
        database.servers.insert(servers, quota=UNLIMITED, minimum=1)
        for server in servers:
            bus.schedule(server.id)

        def decided() -> bool:
            found = database.servers.find(each.id for each in servers).values()
            return all(each.task_state != "scheduling" for each in found)

        wait_for("all are placed or refused", decided)
    finally:
        bus.close()
        for scheduler in schedulers:
            scheduler.terminate()
        ended = [scheduler.wait(60) for scheduler in schedulers]
        log.close()
    assert ended == [0] * SCHEDULERS
    hosts = database.hosts.list()
    assert [len(host.server_ids) for host in hosts] == [EACH] * HOSTS
    assert [host.disk_gb_used for host in hosts] == [EACH] * HOSTS
    found = database.servers.find(each.id for each in servers)
    placed = {each.id for each in found.values() if each.host is not None}
    assert placed == {server_id for host in hosts for server_id in host.server_ids}
    refused = [each for each in found.values() if each.id not in placed]
    assert {each.vm_state for each in refused} == {"error"}
    assert all(each.fault is not None and "disk" in each.fault.message for each in refused), refused[0].fault
    database.close()
    database_server.drop_database("race")


@pytest.fixture(scope="module")
def tls_broker(short_tls: Path) -> Iterator[tuple[RabbitServer, Path]]:
    """Run a broker that speaks TLS; give it with its authority's certificate."""
    if reason := RabbitServer.missing():
        pytest.skip(reason)
    authority = Authority(short_tls)
    certificate, key = authority.issue("broker")
    server = RabbitServer(short_tls / "rabbit", (authority.path, certificate, key))
    yield server, authority.path
    server.stop()


@pytest.fixture(scope="module")
def short_tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


def test_messages_go_over_tls_and_quorum_queues(tls_broker: tuple[RabbitServer, Path]) -> None:
    broker, authority = tls_broker
    secured = {"ssl": "true", "ssl_ca_file": str(authority), "rabbit_quorum_queue": "true"}
    serving = Bus(broker.tls_url, {"oslo_messaging_rabbit": secured}, response_timeout=30)
    seen: list[str] = []
    serving.open()
    try:
        serving.serve_compute(
            *("host", seen.append, lambda server_id, _: f"console of {server_id}"),
            *(lambda _: {}, seen.append),
        )
        serving.drive("host", "a")
        wait_for("the message is there", lambda: seen == ["a"])
        assert serving.console_output("host", "b", 1) == "console of b"
    finally:
        serving.close()
