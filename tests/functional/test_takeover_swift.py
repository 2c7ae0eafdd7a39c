"""What a real Glance has put into a real Swift: read and deleted here, segments and all."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import swiftclient

from glancelike.cli import main
from glancelike.config import build, load
from glancelike.model import Caller
from tests.glance_server import GlanceServer
from tests.keystone_fixtures import DEFAULT_DOMAIN, PASSWORD, REGION, Keystone
from tests.swift_server import SwiftServer

pytest.importorskip("glancelike_store_swift")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]
MIB = 1 << 20
# By the number of segments that Glance cuts it into: none where it is told the size ahead.
DATA = {0: b"small", 1: b"of unknown size", 4: os.urandom(3 * MIB + 5)}
# The section of Glance's configuration serves here, too.
SECTION = """\
swift_store_auth_version = 3
swift_store_auth_address = {url}
swift_store_user = {user}
swift_store_key = {key}
swift_store_region = {region}
swift_store_container = images
swift_store_create_container_on_put = true
swift_store_large_object_size = 1
swift_store_large_object_chunk_size = 1
"""
OWN = """\
[DEFAULT]
state_path = {directory}
enabled_backends = objects:swift
[objects]
{section}
"""


@pytest.fixture(name="swift", scope="module")
def swift_fixture(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    keystone.grant("keeper", "pictures", "member")
    server = SwiftServer(tmp_path_factory.mktemp("swift"), keystone=(keystone.url, PASSWORD))
    keystone.add_endpoint("object-store", f"{server.url}/v1/AUTH_%(project_id)s")
    yield server
    server.stop()


def test_images_in_swift(
    keystone: Keystone, swift: SwiftServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = "pictures:keeper"
    section = SECTION.format(url=keystone.url, user=user, key=PASSWORD, region=REGION)
    references = tmp_path / "swift.conf"
    references.write_text(
        f"[ref1]\nuser = {user}\nkey = {PASSWORD}\nauth_address = {keystone.url}\nauth_version = 3\n"
        f"user_domain_id = {DEFAULT_DOMAIN}\nproject_domain_id = {DEFAULT_DOMAIN}\n"
    )
    of_glance = f"{section}swift_store_config_file = {references}\ndefault_swift_reference = ref1\n"
    glance = GlanceServer(tmp_path / "glance", (), more={"objects": ("swift", of_glance)})
    glance.start()
    ids = {}
    try:
        client = glance.client()
        for segments, data in DATA.items():
            image = client.images.create(disk_format="raw", container_format="bare")
            if segments:
                client.images.upload(image.id, io.BytesIO(data))
            else:
                headers = {"Content-Type": "application/octet-stream"}
                client.http_client.session.put(
                    f"{glance.url}/v2/images/{image.id}/file", data=data, headers=headers
                )
            ids[image.id] = data
    finally:
        glance.stop()
    config_file = tmp_path / "glancelike.conf"
    config_file.write_text(OWN.format(directory=tmp_path, section=section))
    config = ["--config-file", str(config_file)]
    assert main([*config, "db", "upgrade"]) == 0
    assert main([*config, "db", "import-glance", glance.connection]) == 0
    told = capsys.readouterr()
    assert "images: 3 taken over" in told.out
    assert PASSWORD not in told.out + told.err
    connection = swiftclient.Connection(session=keystone.session("keeper", "pictures"))
    kept = {each["name"] for each in connection.get_container("images", full_listing=True)[1]}
    assert len(kept) == len(DATA) + sum(DATA)
    administrator = Caller.administrator("admin")
    with build(load(config)) as service:
        for image_id, data in ids.items():
            assert b"".join(service.read(administrator, image_id).chunks()) == data
        assert list(service.gc(grace_seconds=0)) == []
        with service.open_image(administrator, max(ids, key=lambda each: len(ids[each]))) as file:
            file.seek(2 * MIB - 2)
            assert file.read(MIB) == DATA[4][2 * MIB - 2 : 3 * MIB - 2]
        for image_id in ids:
            service.delete_image(administrator, image_id)
    assert connection.get_container("images")[1] == []
    connection.close()
