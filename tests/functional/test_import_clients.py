"""Import and stores by OpenStack's own commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.test_clients import Client, openstack_client
from tests.functional.test_import import ANYWHERE, DATA, QUICK, Peer, peer
from tests.functional.test_import import Client as Api
from tests.server_fixtures import BIN, Server

__all__ = ["peer"]
pytestmark = pytest.mark.clients


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(DATA)
    return path


def test_openstackclient_imports(run_server: Callable[..., Server], peer: Peer, disk: Path) -> None:
    server = run_server(extra=QUICK + ANYWHERE)
    openstack, api = openstack_client(server), Api(server)
    assert "web-download" in openstack("image", "import", "info")
    made = json.loads(
        openstack(
            *("image", "create", "--import", "--file", str(disk), "-f", "json"),
            *("--disk-format", "raw", "--container-format", "bare", "by create"),
        )
    )
    api.until(made["id"], "active")
    assert api.is_good(made["id"])
    staged = api.create()
    openstack("image", "stage", "--file", str(disk), staged)
    openstack("image", "import", "--method", "glance-direct", "--all-stores", staged)
    assert api.until(staged, "active")["stores"] == "disk,ram"
    fetched = api.create()
    openstack("image", "import", fetched, "--method", "web-download", "--uri", peer.url, "--store", "ram")
    assert api.until(fetched, "active")["stores"] == "ram"
    for image_id in (made["id"], staged, fetched):
        api.ended(image_id)
    assert openstack("image", "task", "list", "-f", "value", "-c", "Status").split() == ["success"] * 3


def test_glanceclient_imports(run_server: Callable[..., Server], peer: Peer) -> None:
    server = run_server(extra=f"{QUICK}[quota]\nimage_count_total = 10\n{ANYWHERE}")
    glance = Client([str(BIN / "glance"), "--os-auth-token", "none", "--os-image-url", server.url], {})
    api = Api(server)
    image_id = api.create()
    glance("image-import", "--import-method", "web-download", "--uri", peer.url, image_id)
    api.until(image_id, "active")
    assert api.is_good(image_id)
    api.ended(image_id)
    assert "success" in glance("image-tasks", image_id)
    glance("image-import", "--import-method", "copy-image", "--all-stores", "true", image_id)
    assert api.until(image_id, "active")["stores"] == "disk,ram"
    assert '"type": "memory"' in glance("stores-info", "--detail")
    glance("stores-delete", "--store", "ram", image_id)
    assert api.image(image_id)["stores"] == "disk"
    glance("image-deactivate", image_id)
    assert api.image(image_id)["status"] == "deactivated"
    row = next(line for line in glance("usage").splitlines() if "image_count_total" in line)
    assert row.split("|")[2:4] == [" 10    ", " 1     "]
