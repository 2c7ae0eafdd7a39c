"""Config drives: what a guest reads from them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from novalite.errors import InvalidInput, Unavailable
from novalite.virt import configdrive

needs_tool = pytest.mark.skipif(shutil.which("genisoimage") is None, reason="genisoimage isn't installed")

FACTS = configdrive.GuestFacts(
    uuid="6f1d2a4e-9c3b-4f7a-8e5d-0b1c2d3e4f5a",
    name='na"mé',
    hostname="name",
    project_id="p1",
    public_keys={"key one": "ssh-ed25519 AAAA me@here"},
    meta={"role": "web"},
    user_data=b"#cloud-config\n\xff",
    vendor_data={"vendor": 1},
    networks=(
        configdrive.GuestNetwork(
            mac="52:54:00:00:00:01",
            ip_address="10.0.0.5",
            netmask="255.255.255.0",
            gateway="10.0.0.1",
            dns=("10.0.0.2",),
        ),
        configdrive.GuestNetwork(mac="52:54:00:00:00:02"),
    ),
    random_seed=b"seed",
    ec2_id="i-00000001",
)


def read(name: str) -> dict[str, object]:
    content: dict[str, object] = json.loads(configdrive.openstack_files(FACTS)[name])
    return content


def test_meta_data_is_what_cloud_init_reads() -> None:
    told = read("openstack/latest/meta_data.json")
    assert (told["uuid"], told["name"], told["hostname"]) == (FACTS.uuid, FACTS.name, "name")
    assert told["public_keys"] == {"key one": "ssh-ed25519 AAAA me@here"}
    assert told["keys"] == [{"name": "key one", "type": "ssh", "data": "ssh-ed25519 AAAA me@here"}]
    certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
    keyed = configdrive.meta_data(replace(FACTS, public_keys={"c": certificate}))
    assert keyed["keys"] == [{"name": "c", "type": "x509", "data": certificate}]
    assert told["meta"] == {"role": "web"}
    assert (told["availability_zone"], told["launch_index"], told["project_id"]) == ("nova", 0, "p1")
    assert base64.b64decode(str(told["random_seed"])) == b"seed"


def test_network_data_names_static_and_dhcp_cards() -> None:
    told = read("openstack/latest/network_data.json")
    assert told == {
        "links": [
            {
                "id": "tap0",
                "type": "phy",
                "ethernet_mac_address": "52:54:00:00:00:01",
                "mtu": 1500,
                "vif_id": None,
            },
            {
                "id": "tap1",
                "type": "phy",
                "ethernet_mac_address": "52:54:00:00:00:02",
                "mtu": 1500,
                "vif_id": None,
            },
        ],
        "networks": [
            {
                "id": "network0",
                "link": "tap0",
                "network_id": "",
                "type": "ipv4",
                "ip_address": "10.0.0.5",
                "netmask": "255.255.255.0",
                "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}],
            },
            {"id": "network1", "link": "tap1", "network_id": "", "type": "ipv4_dhcp"},
        ],
        "services": [{"type": "dns", "address": "10.0.0.2"}],
    }


def test_the_ec2_form_and_raw_files() -> None:
    files = configdrive.openstack_files(FACTS)
    told = read("ec2/latest/meta-data.json")
    assert (told["instance-id"], told["local-ipv4"]) == ("i-00000001", "10.0.0.5")
    assert told["public-keys"] == {"0": {"_name": "0=key one", "openssh-key": "ssh-ed25519 AAAA me@here"}}
    assert files["openstack/latest/user_data"] == files["ec2/latest/user-data"] == b"#cloud-config\n\xff"
    assert read("openstack/latest/vendor_data.json") == {"vendor": 1}


def test_what_isnt_given_isnt_there() -> None:
    bare = configdrive.openstack_files(configdrive.GuestFacts(uuid="u", name="n", hostname="h"))
    assert "openstack/latest/user_data" not in bare
    told = json.loads(bare["openstack/latest/meta_data.json"])
    assert "public_keys" not in told
    assert "random_seed" not in told


@needs_tool
def test_the_drive_is_an_iso_with_the_label_and_the_bytes(tmp_path: Path) -> None:
    files = {"openstack/latest/meta_data.json": b'{"a": 1}', "openstack/latest/user_data": os.urandom(5000)}
    target = tmp_path / "config.iso"
    configdrive.build(files, target)
    image = target.read_bytes()
    # the primary volume descriptor is sector 16; its label is at 40, its root directory's record at 156
    descriptor = image[16 * 2048 : 17 * 2048]
    assert descriptor[1:6] == b"CD001"
    assert descriptor[40:72].rstrip() == b"config-2"
    assert struct.unpack("<I", descriptor[80:84])[0] * 2048 <= len(image)
    for content in files.values():
        assert content in image
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]


@needs_tool
def test_building_again_replaces_the_drive(tmp_path: Path) -> None:
    target = tmp_path / "config.iso"
    configdrive.build({"a": b"first-content"}, target)
    configdrive.build({"a": b"second-content"}, target)
    assert b"second-content" in target.read_bytes()
    assert b"first-content" not in target.read_bytes()


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../up", "a/../../b", "nul\0"])
@needs_tool
def test_a_path_out_of_the_drive_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        configdrive.build({name: b""}, tmp_path / "config.iso")
    assert list(tmp_path.iterdir()) == []


@needs_tool
def test_a_missing_directory_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="absent"):
        configdrive.build({"a": b""}, tmp_path / "absent" / "config.iso")
