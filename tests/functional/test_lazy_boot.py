"""Guests that boot before their image is here: a real image service, libvirt and QEMU."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from glancelike.client import ImageClient
from novalite.bases import orders
from novalite.bases.keeper import connect
from novalite.bases.settings import BasesSettings
from novalite.config import GlanceSettings
from novalite.errors import StaleRecord
from novalite.images.http import HttpImages
from novalite.model import Fault, NewServer, Server, Status
from novalite.quickstart.libvirtd import Hypervisor
from novalite.testing import Cloud
from novalite.virt.base import PowerState, VirtDriver
from novalite.virt.domain import Layout
from tests import server_fixtures
from tests.lazy_fixtures import (
    BEGINS,
    DONE,
    FAILED,
    WRONG,
    end_process,
    ended,
    process_of,
    reading_disk,
    the_order,
)
from tests.processes import frozen
from tests.waiting import wait_for

pytestmark = pytest.mark.libvirt

SIZE = 32 << 20
NEVER = 3600.0


class Host:
    """A compute host on a real image service."""

    def __init__(self, cloud: Cloud, images: server_fixtures.Server, client: ImageClient) -> None:
        self.cloud = cloud
        self.images = images
        self.client = client
        self.settings = cloud.settings("host1")
        self.bases = self.settings.image_cache.directory

    @property
    def driver(self) -> VirtDriver:
        compute = self.cloud.nodes["host1"].compute
        assert compute is not None
        return compute._driver

    def upload(self, data: bytes, disk_format: str = "raw") -> str:
        values = {"name": "lazy", "disk_format": disk_format, "container_format": "bare"}
        image_id = str(self.client.create_image(values)["id"])
        self.client.upload(image_id, io.BytesIO(data), size=len(data))
        return image_id

    def stored(self, image_id: str) -> Path:
        """Return the file in which the image service keeps an image."""
        folder = self.images.config_file.parent / "images"
        (found,) = (path for path in folder.rglob(f"*{image_id}*") if path.is_file())
        return found

    def boot(self, image_id: str) -> Server:
        wanted = NewServer("vm", image_id, "42")
        (server,) = self.cloud.service.servers.create(self.cloud.admin, wanted)
        return self.cloud.wait(server.id, Status.ACTIVE)

    def show(self, server: Server) -> Server:
        return self.cloud.service.servers.show(self.cloud.admin, server.id)

    def console(self, server: Server) -> bytes:
        return self.driver.console_log(server.id)

    def await_marker(self, server: Server, times: int = 1) -> None:
        wait_for("the guest has read all", lambda: self.console(server).count(DONE) >= times)
        assert FAILED not in self.console(server)
        assert WRONG not in self.console(server)


Hosts = Callable[..., Host]


@pytest.fixture
def host(private_libvirtd: Hypervisor, short_dir: Path) -> Iterator[Hosts]:
    """Return a function that makes the host, with options of [image_cache]."""
    with hosting(private_libvirtd, short_dir) as make:
        yield make


@contextmanager
def hosting(hypervisor: Hypervisor, folder: Path) -> Iterator[Hosts]:
    (folder / "images").mkdir()
    images = server_fixtures.start(
        server_fixtures.write_config(folder / "images", extra="show_image_direct_url = true")
    )
    client = ImageClient(images.url)
    made: list[Host] = []

    def make(**options: object) -> Host:
        glance = GlanceSettings(images.url, None, None, None, False, 5.0, 0)
        told = {"lazy_boot_minimum_mb": 1, "lazy_fill_delay": NEVER, **options}
        cloud = Cloud(
            folder,
            images=HttpImages(glance),
            options={
                ("DEFAULT", "compute_driver"): "libvirt",
                ("DEFAULT", "force_config_drive"): False,
                ("glance", "endpoint_override"): images.url,
                ("glance", "timeout"): 5.0,
                ("glance", "num_retries"): 0,
                ("libvirt", "connection_uri"): hypervisor.uri,
                ("libvirt", "virt_type"): "qemu",
                ("network", "kind"): "none",
                **{("image_cache", name): value for name, value in told.items()},
            },
        )
        host = Host(cloud, images, client)
        cloud.open()
        made.append(host)
        return host

    try:
        yield make
    finally:
        for host in made:
            for instance_id in host.driver.list_states():
                host.driver.destroy(instance_id)
            host.cloud.close()
            end_process(host.bases)
        client.close()
        images.stop()


def there(path: Path) -> int:
    """Return the bytes of a sparse file that are there."""
    return path.stat().st_blocks * 512


def test_a_guest_reads_what_it_needs_while_the_rest_isnt_here(host: Hosts) -> None:
    node = host()
    server = node.boot(node.upload(reading_disk(SIZE, step=8192, count=6)))
    node.await_marker(server)
    _order, files = the_order(node.bases)
    assert there(files.lazy) < SIZE // 4
    assert not files.base.exists()
    told = subprocess.check_output(
        ["qemu-img", "info", "-U", "-f", "qcow2", str(disk_of(node, server))], text=True
    )
    assert "backing file: nbd+unix" in told
    assert "backing file format: raw" in told


def disk_of(node: Host, server: Server) -> Path:
    return Layout(node.settings.instances_path / server.id).disk


@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_a_filled_base_outlives_the_image_service(host: Hosts, tmp_path: Path, disk_format: str) -> None:
    node = host(lazy_fill_delay=0.5)
    data = reading_disk(SIZE, step=8192, count=6)
    if disk_format == "qcow2":
        data = converted(data + os.urandom(SIZE), tmp_path)
    image_id = node.upload(data, disk_format)
    server = node.boot(image_id)
    node.await_marker(server)
    order, files = the_order(node.bases)
    wait_for("the base is complete", lambda: files.base.exists() and not files.lazy.exists())
    assert files.base.read_bytes() == data
    assert node.client.show_image(image_id)["novalite_boot_trace"].startswith("1 65536 0+")
    second = node.boot(image_id)
    node.await_marker(second)
    assert "nbd" not in subprocess.check_output(
        ["qemu-img", "info", "-U", "-f", "qcow2", str(disk_of(node, second))], text=True
    )
    assert order.format == disk_format
    node.images.stop()
    # The first goes on by NBD, from the same file, also when it begins anew.
    node.cloud.service.servers.reboot(node.cloud.admin, server.id, hard=True)
    node.await_marker(server, 2)


def converted(raw: bytes, folder: Path) -> bytes:
    """Make a qcow2 of a raw disk."""
    (folder / "raw").write_bytes(raw)
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(folder / "raw"), str(folder / "qcow2")]
    subprocess.run(argv, check=True)
    return (folder / "qcow2").read_bytes()


def test_a_guest_waits_for_the_image_service_and_survives_the_process(host: Hosts) -> None:
    # An image service that is away doesn't say that there is no such image, however short its patience.
    node = host(lazy_read_timeout=0.5, lazy_missing_timeout=0)
    image_id = node.upload(reading_disk(SIZE, step=64, count=900))
    server = node.boot(image_id)
    wait_for("the guest reads", lambda: BEGINS in node.console(server))
    with frozen(node.images.process.pid):
        wait_for("the guest is paused", lambda: node.show(server).power_state == PowerState.PAUSED)
        os.kill(process_of(node.bases), signal.SIGKILL)
    node.await_marker(server)
    wait_for("the guest runs", lambda: node.show(server).power_state == PowerState.RUNNING)


def test_the_process_is_killed_while_it_fills(host: Hosts) -> None:
    node = host(lazy_fill_delay=0.0, lazy_fill_rate_mb=6)  # it takes five seconds
    data = reading_disk(SIZE, step=8192, count=6)
    server = node.boot(node.upload(data))
    _order, files = the_order(node.bases)
    wait_for("some of it is there", lambda: there(files.lazy) > 1 << 20)
    os.kill(process_of(node.bases), signal.SIGKILL)
    assert files.lazy.exists()
    node.await_marker(server)
    wait_for("the base is complete", lambda: files.base.exists() and not files.lazy.exists())
    assert files.base.read_bytes() == data


def test_a_wrong_byte_stops_the_guest_and_is_told(host: Hosts) -> None:
    node = host(lazy_fill_delay=0.5)
    image_id = node.upload(reading_disk(SIZE, step=8192, count=6))
    stored = node.stored(image_id)
    with stored.open("r+b") as file:
        file.seek(SIZE - 1)
        file.write(b"\1")
    server = node.boot(image_id)
    failed = node.cloud.wait(server.id, Status.ERROR)
    assert failed.fault is not None
    assert f"image {image_id} came with wrong data and was discarded" in failed.fault.message
    assert "digest isn't" in failed.fault.message
    wait_for("it is stopped", lambda: node.driver.list_states() == {server.id: PowerState.SHUTDOWN})
    wait_for("nothing is left of it", lambda: not list(node.bases.glob("*.bad-*")))
    assert not [each for kind in ("lazy", "order", "base") for each in node.bases.glob(f"*.{kind}")]


def test_a_guest_whose_image_is_deleted_is_told_so(host: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"lazy_fill_delay": 0.5, "lazy_fill_rate_mb": 1}  # it isn't here before it is gone there
    node = host(lazy_read_timeout=0.5, lazy_missing_timeout=1, **told)
    (compute,) = node.cloud.nodes.values()
    servers = compute._database.servers
    lost = servers.lost

    def noted(server: Server, fault: Fault) -> Server:
        """Have it noted that the guest is paused, before it's told why."""
        monkeypatch.setattr(servers, "lost", lost)
        with suppress(StaleRecord):  # somebody has done it indeed
            servers.change(servers.get(server.id), power_state="paused")
        with pytest.raises(StaleRecord):
            lost(server, fault)
        raise StaleRecord("noted")

    monkeypatch.setattr(servers, "lost", noted)
    server = node.boot(image_id := node.upload(reading_disk(SIZE, step=64, count=900)))
    node.client.delete_image(image_id)
    failed = node.cloud.wait(server.id, Status.ERROR)
    assert failed.fault is not None
    assert f"image {image_id} is gone, and isn't here as a whole" in failed.fault.message
    wait_for("it is stopped", lambda: node.driver.list_states() == {server.id: PowerState.SHUTDOWN})
    _order, files = the_order(node.bases)
    assert files.lazy.exists(), "it may come again, while there is somebody whom it's of use"
    node.cloud.service.servers.delete(node.cloud.admin, server.id)
    wait_for("nothing is left of it", lambda: not files.order.exists() and not files.lazy.exists())


def test_a_guest_boots_right_from_a_local_store(host: Hosts, short_dir: Path) -> None:
    node = host(local_stores={"disk": str(short_dir / "images" / "images")}, lazy_boot=False)
    data = reading_disk(SIZE, step=8192, count=6)
    image_id = node.upload(data)
    stored = node.stored(image_id)
    server = node.boot(image_id)
    layout = Layout(node.settings.instances_path / server.id)
    assert layout.base.stat().st_ino == stored.stat().st_ino
    node.await_marker(server)
    wait_for("it is verified", lambda: list(node.bases.glob("*.json")))
    node.client.delete_image(image_id)
    assert not stored.exists()
    node.cloud.service.servers.reboot(node.cloud.admin, server.id, hard=True)
    node.await_marker(server, 2)


def test_the_process_ends_when_its_directory_is_gone(short_dir: Path) -> None:
    bases = short_dir / "bases"
    cloud = Cloud(short_dir, options={("image_cache", "directory"): str(bases)})
    told = BasesSettings.of(cloud.settings("host1")).to_json()
    subprocess.run([sys.executable, "-m", "novalite.bases", "--told"], input=told, text=True, check=True)
    wait_for("it serves", lambda: (bases / orders.SOCKET).exists())
    process = process_of(bases)
    connection = connect(bases)
    assert connection is not None
    with connection:  # so that it has something to do
        shutil.rmtree(bases)
        wait_for("it has ended", lambda: ended(process))
