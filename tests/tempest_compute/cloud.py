"""A small cloud for Tempest's compute tests: a Keystone, an image server, and novalite."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from keystoneauth1.adapter import Adapter

from novalite.api.compute.microversion import MAX, text
from tests import warm
from tests.keystone_fixtures import Keystone
from tests.rabbit_server import RabbitServer
from tests.server_fixtures import Server, command, start, write_config
from tests.tempest.cloud import TEMPEST
from tests.tempest.features import written

PACKAGE = "api/compute"
HOSTS = ("one", "two")
NOVALITE = """\
[DEFAULT]
host = {host}
state_path = {state}
transport_url = {queue}
osapi_compute_listen_port = 0
compute_driver = fake
report_interval = 0.5
redrive_interval = 0.5
sync_power_state_interval = 1
[api]
auth_strategy = keystone
[database]
auto_upgrade = true
connection = sqlite:///{directory}/novalite.sqlite
[scheduler]
hooks = capacity, image_properties, server_group, image_locality, affinity
[quota]
instances = 100
cores = 100
[glance]
endpoint_override = {glance}
"""
SECTIONS = {
    "service_available": {
        **dict.fromkeys(("neutron", "cinder", "swift", "horizon"), "False"),
        **dict.fromkeys(("glance", "nova"), "True"),
    },
    "network-feature-enabled": {"floating_ips": "False"},
    "image": {"build_timeout": "60"},
    "compute": {
        "image_ref": "{image}",
        "image_ref_alt": "{image_alt}",
        "flavor_ref": "42",
        "flavor_ref_alt": "84",
        "build_interval": "1",
        "build_timeout": "60",
        "hypervisor_type": "fake",
        "min_compute_nodes": "2",
        "min_microversion": "2.1",
        "max_microversion": text(MAX),
    },
    "enforce_scope": {"nova": "True"},
    "compute-feature-enabled": {
        "nova_policy_roles": "admin,manager,member,reader",
        "api_extensions": "all",
        "config_drive": "True",
        "console_output": "True",
        **dict.fromkeys(("pause", "suspend", "resize", "rescue", "shelve", "snapshot"), "True"),
        **dict.fromkeys(("change_password", "metadata_service"), "False"),
        **dict.fromkeys(("live_migration", "block_migration_for_live_migration"), "True"),
        "scheduler_enabled_filters": "all",
        "disk_config": "False",
        "hostname_fqdn_sanitization": "True",
        **dict.fromkeys(("vnc_console", "spice_console", "serial_console"), "False"),
        **dict.fromkeys(("attach_encrypted_volume", "interface_attach", "personality"), "False"),
        "cold_migration": "True",
        **dict.fromkeys(("swap_volume", "volume_backed_live_migration", "volume_multiattach"), "False"),
    },
}


@contextmanager
def cloud(directory: Path) -> Iterator[Server]:
    """Run everything that Tempest needs, write its tempest.conf into ``directory``, and end it."""
    with ExitStack() as stack:
        (directory / "keystone").mkdir()
        keystone = Keystone(directory / "keystone")
        stack.callback(keystone.stop)
        images = start(write_config(directory))
        stack.callback(images.stop)
        broker = Path(tempfile.mkdtemp(prefix="nl-", dir="/tmp"))  # short enough for a socket's path
        stack.callback(shutil.rmtree, broker, ignore_errors=True)
        rabbit = RabbitServer(broker)
        stack.callback(rabbit.stop)
        for host in HOSTS:
            (directory / host).mkdir()
            told = {"directory": directory, "state": directory / host, "host": host}
            config = NOVALITE.format(**told, glance=images.url, queue=rabbit.url)
            (directory / f"{host}.conf").write_text(config + keystone.authtoken())
        compute = start(directory / "one.conf", "novalite-all")
        stack.callback(compute.stop)
        with (directory / "two.log").open("wb") as log:
            second = warm.start(command(directory / "two.conf", "novalite-compute"), stdout=log, stderr=log)
        stack.callback(second.wait, 60)
        stack.callback(second.terminate)
        keystone.add_endpoint("image", images.url)
        keystone.add_endpoint("compute", f"{compute.url}/v2.1")
        places = {
            "directory": str(directory),
            "keystone": keystone.url,
            "image": add_image(keystone, images.url, "one"),
            "image_alt": add_image(keystone, images.url, "two"),
        }
        (directory / "tempest.conf").write_text(written({**TEMPEST, **SECTIONS}, **places))
        yield compute


def add_image(keystone: Keystone, url: str, name: str) -> str:
    """Upload a disk of a mebibyte that everybody sees, and return its id."""
    client = Adapter(keystone.session("admin", "admin"), endpoint_override=url)
    told = {"name": name, "disk_format": "raw", "container_format": "bare", "visibility": "public"}
    image_id = str(client.post("/v2/images", json=told).json()["id"])
    headers = {"Content-Type": "application/octet-stream"}
    client.put(f"/v2/images/{image_id}/file", data=os.urandom(1 << 20), headers=headers)
    return image_id
