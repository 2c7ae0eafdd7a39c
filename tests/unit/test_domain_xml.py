"""The domain XML: what guests are made of, and that no value escapes its place."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novalite.errors import InvalidInput
from novalite.virt import domain, living, resizing
from novalite.virt.base import BaseImage, BootFiles, InstanceSpec, Nic

BASE = BaseImage(path=Path("/cache/x.base"), format="qcow2", virtual_size=1 << 20)
LAYOUT = domain.Layout(Path("/instances/one"))


def build(owner: str = "/instances", **changes: object) -> ET.Element:
    values = {"id": str(uuid.uuid4()), "name": "one", "vcpus": 2, "memory_mb": 256, "base": BASE}
    spec = InstanceSpec(**{**values, **changes})  # type: ignore[arg-type]
    return ET.fromstring(domain.build(spec, LAYOUT, virt_type="qemu", cpu="maximum", owner=owner))


def targets(root: ET.Element) -> list[tuple[str | None, str | None, str | None]]:
    found = []
    for disk in root.iterfind("devices/disk"):
        target = disk.find("target")
        assert target is not None
        found.append((disk.get("device"), target.get("dev"), target.get("bus")))
    return found


def test_the_essentials() -> None:
    instance_id = str(uuid.uuid4())
    root = build(id=instance_id, nics=(Nic(mac="52:54:00:00:00:01"),))
    assert root.findtext("uuid") == instance_id
    assert root.findtext("name") == f"novalite-{instance_id}"
    assert root.findtext("title") == "one"
    assert (root.findtext("vcpu"), root.findtext("memory")) == ("2", "256")
    assert targets(root) == [("disk", "vda", "virtio")]
    driver = root.find("devices/disk/driver")
    assert driver is not None
    assert driver.get("type") == "qcow2", "the format is named, never probed"
    log = root.find("devices/serial/log")
    assert log is not None
    assert log.attrib == {"file": "/instances/one/console.log", "append": "on"}


@pytest.mark.parametrize(
    ("bus", "expected"),
    [
        ("virtio", [("disk", "vda", "virtio"), ("disk", "vdb", "virtio")]),
        ("scsi", [("disk", "sda", "scsi"), ("disk", "sdb", "scsi")]),
        ("sata", [("disk", "sda", "sata"), ("cdrom", "sdb", "sata")]),
        ("ide", [("disk", "hda", "ide"), ("cdrom", "hdb", "ide")]),
    ],
)
def test_the_config_drive_is_on_the_root_disks_bus(bus: str, expected: list[tuple[str, str, str]]) -> None:
    root = build(config_drive={"a": b"b"}, image_properties={"hw_disk_bus": bus})
    assert targets(root) == expected
    assert root.find("devices/disk[2]/readonly") is not None


def sources(root: ET.Element) -> list[str | None]:
    return [source.get("file") for source in root.iterfind("devices/disk/source")]


@pytest.mark.parametrize("drive", [None, {"a": b"b"}])
def test_further_disks_are_after_the_first_and_come_and_go_with_the_size(
    drive: dict[str, bytes] | None,
) -> None:
    def resized(root: ET.Element, sizes: tuple[int, int]) -> ET.Element:
        for number, disk in enumerate(root.iterfind("devices/disk")):
            ET.SubElement(disk, "address", type="pci", slot=str(number))
        xml = ET.tostring(root, encoding="unicode")
        swap, ephemeral = sizes
        told = resizing.resized(
            xml, LAYOUT, vcpus=1, memory_mb=64, swap_bytes=swap << 20, ephemeral_bytes=ephemeral << 30
        )
        return ET.fromstring(told)

    def made(sizes: tuple[int, int]) -> ET.Element:
        swap, ephemeral = sizes
        return build(config_drive=drive, swap_bytes=swap << 20, ephemeral_bytes=ephemeral << 30)

    config = ["/instances/one/config.iso"] if drive else []
    expected = {
        (0, 0): [],
        (64, 0): ["/instances/one/disk.swap.64"],
        (128, 0): ["/instances/one/disk.swap.128"],
        (64, 1): ["/instances/one/disk.eph0", "/instances/one/disk.swap.64"],
        (0, 2): ["/instances/one/disk.eph0"],
    }
    for sizes, further in expected.items():
        before = made(sizes)
        assert sources(before) == ["/instances/one/disk.qcow2", *further, *config]
        for others, later in expected.items():
            after = made(others)
            kept = further == later
            found = resized(before, others)
            assert (sources(found), targets(found)) == (sources(after), targets(after))
            formats = [each.get("type") for each in found.iterfind("devices/disk/driver")]
            assert formats == [each.get("type") for each in after.iterfind("devices/disk/driver")]
            places = [disk.find("address") is not None for disk in found.iterfind("devices/disk")]
            assert places == [True] + [kept] * (len(places) - 1)
            for each in before.iterfind("devices/disk"):
                each.remove(each.findall("address")[-1])


@pytest.mark.parametrize(
    ("nic", "kind", "source"),
    [
        (Nic(mac="52:54:00:00:00:01"), "user", None),
        (Nic(mac="52:54:00:00:00:01", kind="network", source="private"), "network", {"network": "private"}),
        (Nic(mac="52:54:00:00:00:01", kind="bridge", source="br0"), "bridge", {"bridge": "br0"}),
    ],
)
def test_network_cards(nic: Nic, kind: str, source: dict[str, str] | None) -> None:
    interface = build(nics=(nic,)).find("devices/interface")
    assert interface is not None
    assert interface.get("type") == kind
    found = interface.find("source")
    assert (None if found is None else found.attrib) == source


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "not-a-uuid"},
        {"memory_mb": 0},
        {"vcpus": -1},
        {"image_properties": {"hw_machine_type": "isapc"}},
        {"image_properties": {"hw_disk_bus": "floppy"}},
        {"image_properties": {"hw_disk_bus": "ide", "hw_machine_type": "q35"}},
        {"image_properties": {"hw_vif_model": "none"}, "nics": (Nic(mac="52:54:00:00:00:01"),)},
        {"nics": (Nic(mac="52:54:00:00:00:01", kind="direct", source="eth0"),)},
        {"nics": (Nic(mac="52:54:00:00:00:01", kind="network"),)},
        {"nics": (Nic(mac="no mac"),)},
    ],
)
def test_values_no_guest_can_have(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        build(owner="/instances", **changes)


@given(st.text(), st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_any_name_and_path_stay_in_their_place(name: str, owner: str) -> None:
    owner = domain.writable(owner)
    root = build(owner=owner, name=name)
    assert [child.tag for child in root][:3] == ["name", "uuid", "title"]
    assert "\n" not in (root.findtext("title") or "")
    metadata = root.find("metadata")
    assert metadata is not None
    assert domain.read_owner(ET.tostring(metadata[0], encoding="unicode")) == owner


def test_the_owner_is_read_as_libvirt_tells_it() -> None:
    assert domain.read_owner('<instance><owner path="/a b"/></instance>') == "/a b"
    assert domain.read_owner("<instance/>") == ""
    assert domain.read_owner("no xml") == ""


def test_a_kernel_of_its_own_is_loaded_with_ramdisk_and_command_line() -> None:
    boot = BootFiles(Path("/cache/kernel.base"), Path("/cache/ramdisk.base"), 'root=LABEL="a&b"\nquiet')
    root = build(base=replace(BASE, boot=boot))
    assert root.findtext("os/kernel") == "/instances/one/kernel"
    assert root.findtext("os/initrd") == "/instances/one/ramdisk"
    assert root.findtext("os/cmdline") == 'root=LABEL="a&b" quiet'
    root = build(base=replace(BASE, boot=BootFiles(Path("/k"))), image_properties={"hw_disk_bus": "scsi"})
    assert root.find("os/initrd") is None
    assert root.findtext("os/cmdline") == "root=/dev/sda console=tty0 console=ttyS0"
    assert build().find("os/kernel") is None


def test_all_files_of_a_guest_that_goes_are_on_its_new_host() -> None:
    boot = BootFiles(
        Path("/cache/kernel.base"), Path("/cache/ramdisk.base"), "quiet file=/instances/one/kernel"
    )
    there = living.moved(
        ET.tostring(build(base=replace(BASE, boot=boot)), encoding="unicode"),
        *(Path("/instances"), Path("/elsewhere"), "one"),
    )
    assert there.count("/instances/one") == 1, "the command line is the image's"
    root = ET.fromstring(there)
    assert root.findtext("os/kernel") == "/elsewhere/one/kernel"
    assert root.findtext("os/initrd") == "/elsewhere/one/ramdisk"
    assert root.findtext("os/cmdline") == "quiet file=/instances/one/kernel"
    source = root.find("devices/disk/source")
    assert source is not None
    assert source.get("file") == "/elsewhere/one/disk.qcow2"
