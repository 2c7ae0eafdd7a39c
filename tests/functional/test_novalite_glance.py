"""The compute behind a real Glance: servers boot from its images, and images of servers go there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from novalite.config import GlanceSettings
from novalite.errors import ImageMissing
from novalite.images.http import HttpImages
from novalite.model import MIB, NewServer, Status
from novalite.testing import Cloud
from tests.compute_site import upload
from tests.glance_server import GlanceServer
from tests.waiting import wait_for

DATA = os.urandom(3 * MIB + 17)


@pytest.fixture(scope="module", name="glance")
def glance_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlanceServer]:
    server = GlanceServer(tmp_path_factory.mktemp("glance"), ("disk",), named=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(name="images")
def images_fixture(glance: GlanceServer) -> HttpImages:
    return HttpImages(GlanceSettings(glance.url, None, None, None, False, 30.0, 3))


def test_images_of_glance_are_shown_fetched_and_read_in_parts(
    glance: GlanceServer, images: HttpImages, tmp_path: Path
) -> None:
    image_id = upload(glance.url, DATA)
    caller = Cloud(tmp_path).admin
    images.open()
    try:
        image = images.show(image_id, caller)
        assert (image.size, image.hash_algo, image.status) == (len(DATA), "sha512", "active")
        images.fetch(image, tmp_path / "all")
        assert (tmp_path / "all").read_bytes() == DATA
        assert images.read_range(image, MIB - 1, 1000) == DATA[MIB - 1 : MIB + 999]
        images.tell_property(image, "novalite_boot_trace", "0-1")
        assert images.show(image_id, caller).properties["novalite_boot_trace"] == "0-1"
        images.delete(image_id)
        images.delete(image_id)
        with pytest.raises(ImageMissing):
            images.show(image_id, caller)
    finally:
        images.close()


def test_a_server_boots_from_glance_and_its_image_goes_there(
    glance: GlanceServer, images: HttpImages, tmp_path: Path
) -> None:
    image_id = upload(glance.url, DATA)
    with Cloud(tmp_path, images=images) as cloud:
        service = cloud.service
        (server,) = service.servers.create(cloud.admin, NewServer("vm", image_id, "42"))
        cloud.wait(server.id, Status.ACTIVE)
        made = service.changes.create_image(cloud.admin, server.id, "of it", {"purpose": "a test"})
        wait_for("the image is active", lambda: shown(glance, made)["status"] == "active")
        found = shown(glance, made)
        told = {name: found[name] for name in ("name", "purpose", "image_type", "base_image_ref", "owner")}
        assert told == {
            "name": "of it",
            "purpose": "a test",
            "image_type": "snapshot",
            "base_image_ref": image_id,
            "owner": cloud.admin.project,
        }
        # And a server boots from that.
        cloud.wait(server.id, Status.ACTIVE)
        (again,) = service.servers.create(cloud.admin, NewServer("vm", made, "42"))
        cloud.wait(again.id, Status.ACTIVE)


def shown(glance: GlanceServer, image_id: str) -> dict[str, str]:
    """Return Glance's record of an image."""
    with urllib3.PoolManager(retries=False, timeout=60) as http:
        answer = http.request("GET", f"{glance.url}/v2/images/{image_id}")
        found: dict[str, str] = json.loads(answer.data)
        return found
