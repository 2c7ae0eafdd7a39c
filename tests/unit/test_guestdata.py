"""What a guest learns about itself, in both forms."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from novalite.guestdata import ec2, openstack
from novalite.guestdata.drive import drive_files
from novalite.guestdata.facts import GuestFacts, GuestNetwork

FACTS = GuestFacts(
    uuid="6f1d2a4e-9c3b-4f7a-8e5d-0b1c2d3e4f5a",
    name='na"mé',
    hostname="name",
    project_id="p1",
    public_keys={"key one": "ssh-ed25519 AAAA me@here"},
    meta={"role": "web"},
    user_data=b"#cloud-config\n\xff",
    vendor_data={"vendor": 1},
    networks=(
        GuestNetwork(
            mac="52:54:00:00:00:01",
            ip_address="10.0.0.5",
            netmask="255.255.255.0",
            gateway="10.0.0.1",
            dns=("10.0.0.2",),
        ),
        GuestNetwork(mac="52:54:00:00:00:02"),
    ),
    random_seed=b"seed",
    reservation_id="r-1",
    image_id="0b1c2d3e-9c3b-4f7a-8e5d-6f1d2a4e9c3b",
    flavor="m1.tiny",
)


def read(name: str) -> dict[str, object]:
    content: dict[str, object] = json.loads(drive_files(FACTS)[name])
    return content


def test_meta_data_is_what_cloud_init_reads() -> None:
    told = read("openstack/latest/meta_data.json")
    assert (told["uuid"], told["name"], told["hostname"]) == (FACTS.uuid, FACTS.name, "name")
    assert told["public_keys"] == {"key one": "ssh-ed25519 AAAA me@here"}
    assert told["keys"] == [{"name": "key one", "type": "ssh", "data": "ssh-ed25519 AAAA me@here"}]
    certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
    keyed = openstack.meta_data(replace(FACTS, public_keys={"c": certificate}))
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
    files = drive_files(FACTS)
    told = read("ec2/latest/meta-data.json")
    assert (told["instance-id"], told["local-ipv4"]) == ("i-6f1d2a4e9c3b4f7a8", "10.0.0.5")
    assert told["public-keys"] == {"0": {"openssh-key": "ssh-ed25519 AAAA me@here"}}
    assert files["openstack/latest/user_data"] == files["ec2/latest/user-data"] == b"#cloud-config\n\xff"
    assert read("openstack/latest/vendor_data.json") == {"vendor": 1}


def test_what_isnt_given_isnt_there() -> None:
    bare = drive_files(GuestFacts(uuid="u", name="n", hostname="h"))
    assert "openstack/latest/user_data" not in bare
    told = json.loads(bare["openstack/latest/meta_data.json"])
    assert "public_keys" not in told
    assert "random_seed" not in told
    assert "ec2/latest/user-data" not in bare


# Versions


def names(version: str) -> set[str]:
    return set(openstack.documents(FACTS, version))


def test_openstack_versions_have_what_they_brought() -> None:
    first = {"meta_data.json", "user_data"}
    assert names("2012-08-10") == names("2013-04-04") == first
    assert names("2013-10-17") == first | {"vendor_data.json"}
    assert names("2016-06-30") == first | {"vendor_data.json", "network_data.json"}
    assert names("2016-10-06") == names("latest") == set(openstack.documents(FACTS))
    assert json.loads(openstack.documents(FACTS)["vendor_data2.json"]) == {}
    members = [
        set(json.loads(openstack.documents(FACTS, version)["meta_data.json"]))
        for version in (*openstack.VERSIONS, "latest")
    ]
    for earlier, later in pairwise(members):
        assert earlier <= later
    assert members[1] - members[0] == {"random_seed"}
    assert {"project_id", "devices", "dedicated_cpus"}.isdisjoint(members[1])
    assert {"project_id", "devices", "dedicated_cpus"} <= members[-1]


def test_ec2_versions_have_what_they_brought() -> None:
    assert set(ec2.tree(FACTS, "1.0")["meta-data"]) == {
        *("ami-id", "ami-launch-index", "hostname", "instance-id", "local-ipv4", "public-keys"),
        "reservation-id",
    }
    assert set(ec2.tree(FACTS, "2009-04-04")["meta-data"]) == set(ec2.tree(FACTS)["meta-data"])


@pytest.mark.parametrize("version", ["", "2012-08-11", "2030-01-01", "Latest", ".."])
def test_there_are_no_other_versions(version: str) -> None:
    assert openstack.documents(FACTS, version) == {}
    assert ec2.tree(FACTS, version) == {}


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("", "meta-data/\nuser-data"),
        ("user-data", FACTS.user_data),
        ("meta-data/instance-id", "i-6f1d2a4e9c3b4f7a8"),
        ("meta-data/ami-id", "ami-0b1c2d3e9c3b4f7a8"),
        ("meta-data/ami-launch-index", "0"),
        ("meta-data/block-device-mapping", "ami\nroot"),
        ("meta-data/block-device-mapping/root", "/dev/vda"),
        ("meta-data/instance-type", "m1.tiny"),
        ("meta-data/placement", "availability-zone"),
        ("meta-data/placement/availability-zone", "nova"),
        ("meta-data/public-keys", "0=key one"),
        ("meta-data/public-keys/0", "openssh-key"),
        ("meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA me@here"),
        ("meta-data/public-keys/1", None),
        ("meta-data/instance-id/0", None),
        ("meta-data/absent", None),
        ("user-data/0", None),
    ],
)
def test_ec2_items_and_listings(path: str, told: Any) -> None:
    found = ec2.item(ec2.tree(FACTS), [part for part in path.split("/") if part])
    assert found == (told.encode() if isinstance(told, str) else told)


def test_ec2_lists_branches_with_a_slash() -> None:
    listed = (ec2.item(ec2.tree(FACTS), ["meta-data"]) or b"").decode().split("\n")
    assert {"hostname", "placement/", "public-keys/"} <= set(listed)
    assert listed == sorted(listed)
