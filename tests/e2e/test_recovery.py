"""kill -9 in the middle of a boot, on a real libvirt; then start again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from novalite.quickstart.libvirtd import Hypervisor
from tests import warm
from tests.server_fixtures import Server
from tests.waiting import wait_for

pytestmark = [pytest.mark.libvirt, pytest.mark.timeout(600)]

BIN = Path(sys.executable).parent
CONF = """[DEFAULT]
osapi_compute_listen_port = 0
state_path = {state}
reserved_host_memory_mb = 0
redrive_interval = 1
sync_power_state_interval = 1
lease_seconds = 10
[database]
auto_upgrade = true
[glance]
endpoint_override = {images}
[libvirt]
connection_uri = {uri}
virt_type = qemu
shutdown_timeout = 1
"""


class Compute:
    """A ``novalite-all`` that can be killed and started again."""

    def __init__(self, state: Path, images: str, uri: str) -> None:
        self.state = state
        self.conf = state / "novalite.conf"
        self.conf.write_text(CONF.format(state=state, images=images, uri=uri))
        self.process: warm.Process | None = None
        self.url = ""
        self.http = requests.Session()
        self.http.trust_env = False

    def start(self) -> None:
        log = self.state / f"log-{time.monotonic_ns()}"
        with log.open("wb") as output:
            argv = [str(BIN / "novalite-all"), "--config-file", str(self.conf)]
            self.process = warm.start(argv, stdout=output, stderr=output)

        def ready() -> bool:
            assert self.process
            assert self.process.poll() is None, log.read_text()
            for line in log.read_text().splitlines():
                if "listens on http://" in line:
                    self.url = line.rsplit(" ", 1)[1] + "/v2.1"
            try:
                return bool(self.url) and self.http.get(self.url + "/flavors", timeout=10).ok
            except requests.ConnectionError:
                return False

        self.url = ""
        wait_for("novalite-all answers", ready)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        self.http.close()

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        answer = self.http.request(method, self.url + path, timeout=30, **kwargs)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def boot(self, image_id: str) -> str:
        flavors = self.call("GET", "/flavors/detail")["flavors"]
        flavor = min(flavors, key=lambda f: (f["ram"], f["disk"]))["id"]
        body = {"server": {"name": "phoenix", "imageRef": image_id, "flavorRef": flavor}}
        return str(self.call("POST", "/servers", json=body)["server"]["id"])

    def server(self, server_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/servers/{server_id}")["server"]
        return found

    def allocations(self) -> list[str]:
        with sqlite3.connect(self.state / "novalite.sqlite") as database:
            return [row[0] for row in database.execute("select server_id from allocations")]

    def instances(self) -> list[str]:
        """Directories of instances that are on the disk."""
        folder = self.state / "instances"
        return (
            [p.name for p in folder.iterdir() if not p.name.startswith(("_", "."))] if folder.exists() else []
        )


def domains(uri: str) -> list[str]:
    said = subprocess.run(["virsh", "-c", uri, "list", "--all", "--uuid"], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return said.stdout.split()


@pytest.fixture
def compute(
    private_libvirtd: Hypervisor, run_server: Callable[..., Server]
) -> Iterator[tuple[Compute, Hypervisor, Server]]:
    images = run_server()
    state = Path(tempfile.mkdtemp(prefix="nl-", dir="/tmp"))
    node = Compute(state, images.url, private_libvirtd.uri)
    node.start()
    yield node, private_libvirtd, images
    node.stop()
    shutil.rmtree(state)


def upload(images: Server, path: Path) -> str:
    url = f"{images.url}/v2/images"
    values = {"name": "guest", "disk_format": "qcow2", "container_format": "bare"}
    image_id = requests.post(url, json=values, timeout=30).json()["id"]
    headers = {"Content-Type": "application/octet-stream"}
    with path.open("rb") as data:
        assert (
            requests.put(f"{url}/{image_id}/file", data=data, headers=headers, timeout=60).status_code == 204
        )
    return str(image_id)


def test_a_boot_survives_kill_9_at_any_time(
    compute: tuple[Compute, Hypervisor, Server], guest_image: Path
) -> None:
    node, libvirt, images = compute
    image_id = upload(images, guest_image)
    delays = [0.05, 0.3, 0.6, 1.0, random.uniform(0.0, 1.5)]
    for delay in delays:
        server_id = node.boot(image_id)
        time.sleep(delay)
        node.kill()
        node.start()
        wait_for(
            f"killed after {delay:.2f} s, then ACTIVE or ERROR",
            lambda server_id=server_id: node.server(server_id)["status"] in ("ACTIVE", "ERROR"),  # type: ignore[misc]
            120,
        )
        server = node.server(server_id)
        if server["status"] == "ERROR":
            assert server["fault"]["message"]
        else:
            assert domains(libvirt.uri).count(server_id) == 1
        # What is there is this server's, and nobody else's.
        assert set(domains(libvirt.uri)) <= {server_id}
        assert set(node.instances()) <= {server_id}
        assert set(node.allocations()) <= {server_id}
        node.call("DELETE", f"/servers/{server_id}")
        wait_for("all is gone", lambda: not (domains(libvirt.uri) or node.instances() or node.allocations()))


def test_kill_9_during_a_delete_and_after_a_boot(
    compute: tuple[Compute, Hypervisor, Server], guest_image: Path
) -> None:
    node, libvirt, images = compute
    image_id = upload(images, guest_image)
    server_id = node.boot(image_id)
    wait_for("ACTIVE", lambda: node.server(server_id)["status"] == "ACTIVE")
    node.kill()
    # The guest runs on while nobody looks after it, and is found again.
    assert domains(libvirt.uri) == [server_id]
    node.start()
    assert node.server(server_id)["status"] == "ACTIVE"
    node.call("DELETE", f"/servers/{server_id}")
    node.kill()
    node.start()
    wait_for("all is gone", lambda: not (domains(libvirt.uri) or node.instances() or node.allocations()))


def test_sigterm_leaves_guests_running(
    compute: tuple[Compute, Hypervisor, Server], guest_image: Path
) -> None:
    node, libvirt, images = compute
    server_id = node.boot(upload(images, guest_image))
    wait_for("ACTIVE", lambda: node.server(server_id)["status"] == "ACTIVE")
    assert node.process
    os.kill(node.process.pid, signal.SIGTERM)
    assert node.process.wait(30) == 0
    assert domains(libvirt.uri) == [server_id]
    node.start()
    assert node.server(server_id)["status"] == "ACTIVE"
    node.call("DELETE", f"/servers/{server_id}")
    wait_for("all is gone", lambda: not domains(libvirt.uri))
