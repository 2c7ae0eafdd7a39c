"""cloud-init's own code reads what we tell guests: config drive, OpenStack's form and EC2's."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from novalite.compute.build import spec_of
from novalite.guestdata.facts import mac_of
from novalite.model import Flavor, NewServer, Server, Status
from novalite.testing.cloud import Cloud
from novalite.virt import configdrive, domain
from novalite.virt.base import BaseImage
from tests.cloud_init_package import CloudInit, cloud_init  # noqa: F401 - a fixture
from tests.compute_fixtures import KEY
from tests.metadata_proxy import signing
from tests.server_fixtures import start

SECRET = "only proxies know"
USER_DATA = "#cloud-config\nfqdn: web.example.org\n"
CONFIG = f"""\
[DEFAULT]
compute_driver = fake
state_path = {{directory}}
metadata_listen_port = 0
[database]
connection = sqlite:///{{directory}}/novalite.sqlite
[neutron]
service_metadata_proxy = true
metadata_proxy_shared_secret = {SECRET}
[metadata]
require_token = {{require_token}}
"""
# The firmware of an instance of Amazon's, whose service cloud-init asks with tokens only.
AMAZON = dict.fromkeys(("system-uuid", "system-serial-number"), "ec2e1916-9099-7caf-fd21-012345abcdef")


@dataclass
class Site:
    """A server of a cloud, and what its guest would find."""

    cloud: Cloud
    server: Server
    directory: Path

    def expected(self, instance_id: str) -> dict[str, Any]:
        return {
            "instance_id": instance_id,
            "hostname": "web-1",
            "keys": [KEY],
            "user_data": USER_DATA,
            "zone": "nova",
        }

    def read(self, source: str, run: CloudInit, place: str, **values: Any) -> dict[str, Any]:
        told = {"settings": {}, "dmi": {"system-product-name": domain.PRODUCT}, **values}
        return run.read(source, self.directory / place, mac=mac_of(self.server.id), **told)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("cloud-init-site")
    with Cloud(directory) as cloud:
        cloud.service.keypairs.import_key(cloud.caller, "mine", KEY)
        image = cloud.images.add(b"\0" * 512).id
        user_data = base64.b64encode(USER_DATA.encode()).decode()
        large = Flavor("large", "large", 1, 128, 1, swap_mb=64, ephemeral_gb=1)
        cloud.service.flavors.create(cloud.admin, large)
        wanted = NewServer("web 1", image, large.id, key_name="mine", user_data=user_data)
        (server,) = cloud.service.servers.create(cloud.caller, wanted)
        yield Site(cloud, cloud.wait(server.id, Status.ACTIVE), directory)


@contextmanager
def service(site: Site, *, require_token: bool) -> Iterator[str]:
    """Run the service; yields the URL at which the guest asks it."""
    config_file = site.directory / f"novalite-{require_token}.conf"
    config_file.write_text(CONFIG.format(directory=site.directory, require_token=require_token))
    program = start(config_file, "novalite-metadata")
    try:
        with signing(program.url, SECRET, site.server.id) as url:
            yield url
    finally:
        assert program.stop() == 0


def dhcp(site: Site) -> dict[str, Any]:
    """The one card, as cloud-init's network configuration (version 1) says it."""
    return {
        "type": "physical",
        "name": "eth0",
        "mac_address": mac_of(site.server.id),
        "mtu": 1500,
        "subnets": [{"type": "dhcp4"}],
    }


@pytest.mark.skipif(shutil.which("isoinfo") is None, reason="isoinfo, of genisoimage, isn't installed")
def test_cloud_init_reads_the_config_drive(site: Site, cloud_init: CloudInit) -> None:  # noqa: F811
    spec = spec_of(site.server, BaseImage(Path("/base"), "raw", 512), site.cloud.settings("host1"))
    assert spec.config_drive is not None
    drive = site.directory / "config.iso"
    configdrive.build(spec.config_drive, drive)
    seed = site.directory / "drive" / "cloud" / "seed" / "config_drive"
    for name in spec.config_drive:
        (seed / name).parent.mkdir(parents=True, exist_ok=True)
        argv = ["isoinfo", "-R", "-i", str(drive), "-x", f"/{name}"]
        (seed / name).write_bytes(subprocess.run(argv, capture_output=True, check=True).stdout)
    found = site.read("ConfigDrive", cloud_init, "drive")
    assert found.items() >= site.expected(site.server.id).items()
    assert found["network"]["config"] == [dhcp(site)]
    assert (found["ephemeral0"], found["swap"]) == ("/dev/vdb", "/dev/vdc")


def test_cloud_init_reads_both_forms_of_the_service(site: Site, cloud_init: CloudInit) -> None:  # noqa: F811
    with service(site, require_token=False) as url:
        told = {"metadata_urls": [url], "max_wait": 60, "timeout": 30}
        openstack = site.read("OpenStack", cloud_init, "openstack", settings=told)
        ec2 = site.read("Ec2", cloud_init, "ec2", settings=told)
    assert openstack.items() >= site.expected(site.server.id).items()
    assert openstack["network"]["config"] == [dhcp(site)]
    digits = site.server.id.replace("-", "")[:17]
    assert ec2.items() >= site.expected(f"i-{digits}").items()
    # The other form has them only by asking for this one, at a fixed address.
    assert (ec2["ephemeral0"], ec2["swap"]) == ("/dev/vdb", "/dev/vdc")


def test_cloud_init_gets_tokens_where_they_are_demanded(site: Site, cloud_init: CloudInit) -> None:  # noqa: F811
    """It does so only where the firmware says that it is Amazon's machine."""
    with service(site, require_token=True) as url:
        told = {"metadata_urls": [url], "max_wait": 60, "timeout": 30}
        found = site.read("Ec2", cloud_init, "tokens", settings=told, dmi=AMAZON)
    assert found["keys"] == [KEY]
    assert found["user_data"] == USER_DATA
