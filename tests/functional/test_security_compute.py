"""What guests and images did to the hosts of clouds before, with a real libvirtd and real guests.

Each test is named after a report; docs/security.md has them all.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import libvirt
import pytest

from novalite.errors import FlavorTooSmall, InvalidInput
from novalite.quickstart.libvirtd import Hypervisor, start_private
from novalite.virt import configdrive, qemuimg
from novalite.virt.base import BaseImage, InstanceSpec, PowerAction, PowerState
from novalite.virt.disks import ImageCache
from novalite.virt.libvirt import LibvirtDriver
from tests.libvirt_fixtures import make_driver, make_spec, tiny_disk

pytestmark = pytest.mark.libvirt

SECRET = b"a file of the host"
GIB = 1 << 30
MIB = 1 << 20


@pytest.fixture
def driver(private_libvirtd: Hypervisor, tmp_path: Path) -> Iterator[LibvirtDriver]:
    with opened(private_libvirtd, tmp_path) as driver:
        yield driver


@contextmanager
def opened(hypervisor: Hypervisor, folder: Path, **settings: object) -> Iterator[LibvirtDriver]:
    """Open a driver, whose guests end with it."""
    driver = make_driver(hypervisor, folder, **settings)
    driver.open()
    try:
        yield driver
    finally:
        for instance_id in driver.list_states():
            driver.destroy(instance_id)
        driver.close()


@pytest.fixture
def header(tmp_path: Path) -> bytes:
    """A qcow2 file whose backing file is one of the host, which is there and can be read."""
    secret, path = tmp_path / "secret", tmp_path / "evil.qcow2"
    secret.write_bytes(SECRET.ljust(MIB, b"\0"))
    qemuimg.overlay(path, secret, "raw", MIB)
    return path.read_bytes()


@pytest.fixture
def hostile(driver: LibvirtDriver, tiny_base: BaseImage, header: bytes, tmp_path: Path) -> InstanceSpec:
    """A guest, off, that has written that file to the begin of its disk."""
    spec = make_spec(tiny_base)
    driver.spawn(spec)
    driver.set_power(spec.id, PowerAction.FORCE_STOP)
    (tmp_path / "header").write_bytes(header)
    write = f"write -s {tmp_path / 'header'} 0 {len(header)}"
    done = subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", write, str(disk_of(driver, spec.id))],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return spec


def disk_of(driver: LibvirtDriver, instance_id: str) -> Path:
    return driver.instances_path / instance_id / "disk.qcow2"


def as_guests_see(disk: Path, size: int) -> bytes:
    """Return the first bytes of a disk, read while a guest may have it."""
    raw = disk.with_suffix(".seen")
    subprocess.run(["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", str(disk), str(raw)], check=True)
    try:
        return raw.read_bytes()[:size]
    finally:
        raw.unlink()


def described(hypervisor: Hypervisor, instance_id: str) -> tuple[str, ...]:
    """Return what libvirt knows of a guest: as it is defined, and as it runs."""
    connection = libvirt.open(hypervisor.uri)
    try:
        domain = connection.lookupByUUIDString(instance_id)
        return domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE), domain.XMLDesc()
    finally:
        connection.close()


def chains(xml: str) -> list[list[tuple[str, str]]]:
    """Return each disk's files with their formats, the disk itself first."""
    found = []
    for disk in ET.fromstring(xml).iter("disk"):
        link, told = disk.find("driver"), [(_source(disk), _type(disk.find("driver")))]
        assert link is not None
        behind = disk.find("backingStore")
        while behind is not None and behind.find("source") is not None:
            told.append((_source(behind), _type(behind.find("format"))))
            behind = behind.find("backingStore")
        found.append(told)
    return found


def _source(element: ET.Element) -> str:
    source = element.find("source")
    return "" if source is None else source.get("file", "")


def _type(element: ET.Element | None) -> str:
    return "" if element is None else element.get("type", "")


# -- what a guest writes to its own disk is data ------------------------------------


@pytest.mark.parametrize("running", [False, True], ids=["off", "running"])
def test_cve_2015_7548_a_snapshot_follows_no_header_that_the_guest_wrote(
    driver: LibvirtDriver, hostile: InstanceSpec, header: bytes, running: bool
) -> None:
    if running:
        driver.set_power(hostile.id, PowerAction.START)
    with driver.snapshot(hostile.id) as made:
        assert "backing-filename" not in qemuimg.info(made.path, "qcow2")
        assert as_guests_see(made.path, len(header)) == header
        assert SECRET not in made.path.read_bytes()


def test_cve_2014_0134_a_rescue_follows_no_header_that_the_guest_wrote(
    driver: LibvirtDriver, hostile: InstanceSpec, private_libvirtd: Hypervisor, header: bytes
) -> None:
    driver.rescue(hostile)
    folder = driver.instances_path / hostile.id
    _, xml = described(private_libvirtd, hostile.id)
    assert chains(xml) == [
        [(str(folder / "rescue/disk.qcow2"), "qcow2"), (str(folder / "rescue/base"), "raw")],
        [(str(folder / "disk.qcow2"), "qcow2"), (str(folder / "base"), "raw")],
    ]
    assert as_guests_see(disk_of(driver, hostile.id), len(header)) == header


def test_cve_2016_2140_neither_a_resize_nor_a_move_follows_a_header_that_the_guest_wrote(
    driver: LibvirtDriver,
    hostile: InstanceSpec,
    private_libvirtd: Hypervisor,
    header: bytes,
    tmp_path: Path,
) -> None:
    folder = driver.instances_path / hostile.id
    driver.resize(hostile.id, vcpus=1, memory_mb=64, root_bytes=2 * MIB)
    driver.set_power(hostile.id, PowerAction.START)
    _, xml = described(private_libvirtd, hostile.id)
    assert chains(xml) == [[(str(folder / "disk.qcow2"), "qcow2"), (str(folder / "base"), "raw")]]
    assert as_guests_see(disk_of(driver, hostile.id), len(header)) == header
    # What a move takes to the other host is a snapshot, which is the base there.
    with driver.snapshot(hostile.id) as made:
        base = BaseImage(made.path, made.format, made.virtual_size)
        moved = make_spec(base)
        driver.spawn(moved)
        _, xml = described(private_libvirtd, moved.id)
        there = driver.instances_path / moved.id
        assert chains(xml) == [[(str(there / "disk.qcow2"), "qcow2"), (str(there / "base"), "qcow2")]]
        assert as_guests_see(disk_of(driver, moved.id), len(header)) == header
        driver.destroy(moved.id)


def test_cve_2013_7130_cve_2020_17376_a_guest_that_moved_has_its_own_disk_and_nothing_of_the_old_host(
    driver: LibvirtDriver,
    hostile: InstanceSpec,
    private_libvirtd: Hypervisor,
    header: bytes,
    short_dir: Path,
) -> None:
    if "socket=" not in private_libvirtd.uri:
        pytest.skip("a second libvirtd needs root")
    driver.set_power(hostile.id, PowerAction.START)
    with start_private(short_dir / "lv", name="west") as second:
        settings = {"live_migration_inbound_uri": second.uri}
        with opened(second, short_dir / "west", **settings) as other:
            # What another guest had there under the same names is no guest's any more.
            disk_of(other, hostile.id).parent.mkdir(parents=True)
            disk_of(other, hostile.id).write_bytes(SECRET * 1000)
            left = driver.departure(hostile.id)
            arrival = other.make_ready(hostile, left.virtual_size, left.config_drive)
            driver.send(hostile.id, arrival, lambda: None, lambda: False)
            assert other.list_states() == {hostile.id: PowerState.RUNNING}
            assert driver.list_states() == {}
            for xml in described(second, hostile.id):
                assert str(driver.instances_path) not in xml
                assert chains(xml) == [[(str(disk_of(other, hostile.id)), "qcow2")]]
            assert as_guests_see(disk_of(other, hostile.id), len(header)) == header
            assert SECRET not in disk_of(other, hostile.id).read_bytes()
            # A reboot makes the guest of what is defined there, not of what its old host knew.
            other.set_power(hostile.id, PowerAction.HARD_REBOOT)
            assert chains(described(second, hostile.id)[1]) == [[(str(disk_of(other, hostile.id)), "qcow2")]]


@pytest.mark.parametrize("running", [False, True], ids=["off", "running"])
def test_cve_2013_7048_disks_and_snapshots_are_nobody_elses_to_read(
    driver: LibvirtDriver, tiny_base: BaseImage, running: bool
) -> None:
    old = os.umask(0)
    try:
        spec = make_spec(tiny_base)
        driver.spawn(spec)
        if not running:
            driver.set_power(spec.id, PowerAction.FORCE_STOP)
        with driver.snapshot(spec.id) as made:
            modes = {path.name: path.stat().st_mode & 0o077 for path in (made.path, disk_of(driver, spec.id))}
    finally:
        os.umask(old)
    assert modes == {"snapshot.qcow2": 0, "disk.qcow2": 0}


# -- images that take more than they say ----------------------------------------------


def bomb(folder: Path, fmt: str, *options: str) -> Path:
    """Make a small file that is a disk of 4 GiB, written all over and compressed."""
    path = folder / f"bomb.{fmt}"
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", str(folder / "full"), "4G"], check=True)
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", fmt, *options, str(folder / "full"), str(path)], check=True
    )
    assert path.stat().st_size < 2 * MIB
    return path


@pytest.mark.parametrize(
    ("fmt", "options"),
    [
        pytest.param("qcow2", ("-c",), id="cve_2013_4463"),
        pytest.param("vmdk", ("-o", "subformat=streamOptimized"), id="cve_2013_4469"),
    ],
)
def test_cve_2013_2096_cve_2013_4463_cve_2013_4469_a_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, fmt: str, options: tuple[str, ...]
) -> None:
    data = bomb(tmp_path, fmt, *options).read_bytes()
    cache = ImageCache(tmp_path / "_base")

    def fetch(path: Path) -> None:
        path.write_bytes(data)

    with pytest.raises(FlavorTooSmall, match=f"has {4 * GIB} bytes, the flavor's {GIB}"):
        cache.ensure("bomb", fmt, fetch, max_virtual_size=GIB)
    largest = max(path.stat().st_blocks * 512 for path in cache.directory.iterdir())
    assert largest <= len(data) + 4096, "what is kept is the image itself at most"


def copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def test_cve_2013_6437_properties_of_an_image_make_no_files_on_hosts(
    driver: LibvirtDriver, tiny_image: Path
) -> None:
    cache = ImageCache(driver.instances_path / "_base")
    for kind in ("linux", "windows", "../../etc", "x" * 200):
        base = cache.ensure("one", "raw", lambda path: copy(tiny_image, path))
        driver.spawn(make_spec(base, image_properties={"os_type": kind}, started=False))
    assert len([*cache.directory.glob("*.base")]) == 1
    assert {path.suffix for path in cache.directory.iterdir()} == {".base", ".json", ".lock"}


# -- what is put into a guest -----------------------------------------------------------


@pytest.mark.parametrize("name", ["../../../etc/cron.d/evil", "/etc/cron.d/evil", "a/../../b", ""])
def test_cve_2012_3360_a_file_for_a_guest_goes_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="is no path inside the drive"):
        configdrive.build({name: b"evil"}, tmp_path / "drive.iso")
    assert [*tmp_path.iterdir()] == []


def test_cve_2012_3361_cve_2012_3447_a_link_in_a_guests_disk_leads_nowhere(
    driver: LibvirtDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest's file system is the guest's alone: of all programs a boot starts none looks into it."""
    started: list[str] = []
    run: Callable[..., object] = subprocess.Popen.__init__

    def watched(self: object, args: object, *rest: object, **named: object) -> object:
        started.extend(map(str, args if isinstance(args, list | tuple) else [args]))
        return run(self, args, *rest, **named)

    target = tmp_path / "target"
    target.write_bytes(SECRET)
    tree, image = tmp_path / "tree", tmp_path / "fs.raw"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/hostname").symlink_to(target)
    (tree / "root").symlink_to(tmp_path)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(image), "8M"], check=True)
    image_bytes = image.read_bytes()
    image.write_bytes(tiny_disk()[:512] + image_bytes[512:])
    monkeypatch.setattr(subprocess.Popen, "__init__", watched)
    base = BaseImage(path=image, format="raw", virtual_size=image.stat().st_size)
    spec = make_spec(
        base, config_drive={"openstack/latest/user_data": b"evil"}, name="../../target", memory_mb=64
    )
    driver.spawn(spec)
    driver.set_power(spec.id, PowerAction.FORCE_STOP)
    driver.resize(spec.id, vcpus=1, memory_mb=64, root_bytes=16 * MIB)
    driver.confirm_resize(spec.id)
    driver.rescue(replace(spec, name="rescue"))
    driver.unrescue(spec.id)
    driver.destroy(spec.id)
    assert target.read_bytes() == SECRET
    assert [*tmp_path.glob("authorized_keys")] == []
    names = {Path(word).name for word in started}
    assert names & {"qemu-img", "cp"}, "they were watched"
    assert names & {"mount", "qemu-nbd", "guestmount", "guestfish", "losetup", "kpartx"} == set()
