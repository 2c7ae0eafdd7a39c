"""The libvirt driver with a real libvirtd and real guests."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import libvirt
import pytest
from websocket import create_connection

from novalite.api.serial.proxy import SerialProxy
from novalite.config import ConsoleSettings
from novalite.errors import ConfigError, HypervisorDown, ImageUnusable, InvalidState
from novalite.guestdata.drive import drive_files
from novalite.guestdata.facts import GuestFacts
from novalite.quickstart.libvirtd import Hypervisor
from novalite.testing import VirtConformance
from novalite.virt import domain, formatting, qemuimg
from novalite.virt.base import BaseImage, Nic, PowerAction, PowerState, Snapshot, VirtDriver
from novalite.virt.connection import Connection
from novalite.virt.disks import ImageCache
from novalite.virt.libvirt import LibvirtDriver
from tests.libvirt_fixtures import BOOT_SECONDS, TINY_MARKER, make_driver, make_spec, qemu_of, tiny_disk
from tests.waiting import wait_for

pytestmark = pytest.mark.libvirt

KVM = os.access("/dev/kvm", os.R_OK | os.W_OK)


@pytest.fixture
def driver(private_libvirtd: Hypervisor, tmp_path: Path) -> Iterator[LibvirtDriver]:
    driver = make_driver(private_libvirtd, tmp_path)
    driver.open()
    yield driver
    for instance_id in driver.list_states():
        driver.destroy(instance_id)
    driver.close()


class TestLibvirtDriver(VirtConformance):
    """All rules, with guests that boot in half a second."""

    @pytest.fixture(autouse=True)
    def _hypervisor(self, private_libvirtd: Hypervisor) -> None:
        self.hypervisor = private_libvirtd

    def make_driver(self, tmp_path: Path) -> VirtDriver:
        return make_driver(self.hypervisor, tmp_path)

    def make_base(self, tmp_path: Path) -> BaseImage:
        path = tmp_path / "base.raw"
        path.write_bytes(tiny_disk())
        return BaseImage(path=path, format="raw", virtual_size=path.stat().st_size)

    def leftovers(self, tmp_path: Path, instance_id: str) -> list[str]:
        return leftovers(self.hypervisor, tmp_path, instance_id)

    def check_snapshot(self, snapshot: Snapshot) -> None:
        told = qemuimg.info(snapshot.path, snapshot.format)
        assert told["virtual-size"] == snapshot.virtual_size
        assert "backing-filename" not in told
        raw = snapshot.path.with_suffix(".raw")
        qemuimg.run(["convert", "-f", snapshot.format, "-O", "raw", str(snapshot.path), str(raw)])
        assert raw.read_bytes()[:512] == tiny_disk()[:512]
        raw.unlink()

    def has_size(self, driver: VirtDriver, instance_id: str, **size: int) -> bool:
        connection = libvirt.open(self.hypervisor.uri)
        dom = connection.lookupByUUIDString(instance_id)
        _, memory, _, vcpus, _ = dom.info()
        sources = ET.fromstring(dom.XMLDesc()).iterfind("devices/disk[driver]/source")
        used = [Path(path.get("file", "")) for path in sources]
        connection.close()
        assert isinstance(driver, LibvirtDriver)
        folder = driver.instances_path / instance_id
        for path in folder.glob("disk.swap.*"):
            assert path.read_bytes()[4086:4096] == b"SWAPSPACE2"
        found = {"vcpus": vcpus, "memory_mb": memory >> 10, "swap_bytes": 0, "ephemeral_bytes": 0}
        for path in used:
            # the guest has it open, but nobody resizes it meanwhile
            told = subprocess.run(
                ["qemu-img", "info", "-U", "--output=json", str(path)], capture_output=True, check=True
            )
            kind = {"disk.qcow2": "root", "disk.eph0": "ephemeral"}.get(path.name, "swap")
            if path.name != "config.iso":
                found[f"{kind}_bytes"] = json.loads(told.stdout)["virtual-size"]
        assert (
            (folder / "disk.eph0").exists()
            is (folder / "base.eph0").exists()
            is bool(found["ephemeral_bytes"])
        )
        return found == size

    def check_ephemeral(self, copy: Snapshot, size: int) -> None:
        told = qemuimg.info(copy.path, copy.format)
        assert (told["virtual-size"], "backing-filename" in told) == (size, False)
        raw = copy.path.with_suffix(".raw")
        qemuimg.run(["convert", "-f", copy.format, "-O", "raw", str(copy.path), str(raw)])
        superblock = raw.read_bytes()[1024:2048]
        assert (superblock[0x38:0x3A], superblock[0x78:0x82]) == (b"\x53\xef", b"ephemeral0"), (
            "ext4 has these"
        )
        raw.unlink()


def leftovers(hypervisor: Hypervisor, folder: Path, instance_id: str) -> list[str]:
    left = [str(path) for path in folder.rglob(f"*{instance_id}*")]
    connection = libvirt.open(hypervisor.uri)
    left += [dom.name() for dom in connection.listAllDomains(0) if dom.UUIDString() == instance_id]
    connection.close()
    return left


def test_a_connection_that_is_given_up_is_good_for_calls_under_way(private_libvirtd: Hypervisor) -> None:
    """As when one thread finds it lost while others are within libvirt, which crashed the process."""
    connection, inside, given_up = Connection(private_libvirtd.uri), threading.Event(), threading.Event()

    def named(live: libvirt.virConnect) -> tuple[libvirt.virConnect, str]:
        inside.set()
        assert given_up.wait(60)
        return live, live.getHostname()

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(connection.call, "a long call", named)
        assert inside.wait(60)
        connection.close()
        given_up.set()
        old, name = asked.result()
    new, again = connection.call("the next call", lambda live: (live, live.getHostname()))
    connection.close()
    assert name == again
    assert new is not old


def test_a_guest_whose_file_system_cant_be_made_leaves_nothing(
    driver: LibvirtDriver, tmp_path: Path, tiny_base: BaseImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formatting, "find", lambda _: None)
    spec = make_spec(tiny_base, ephemeral_bytes=8 << 20)
    with pytest.raises(ConfigError, match=r"ephemeral disk with vfat needs mkfs\.vfat; install dosfstools"):
        driver.spawn(spec)
    assert driver.list_states() == {}
    assert [*(tmp_path / "instances").iterdir()] == []


# -- a real guest ---------------------------------------------------------------


@pytest.mark.timeout(600)
def test_a_guest_learns_who_it_is_and_obeys_the_power_button(
    private_libvirtd: Hypervisor, tmp_path: Path, guest_image: Path
) -> None:
    driver = make_driver(private_libvirtd, tmp_path, shutdown_timeout=120)
    cache = ImageCache(tmp_path / "instances" / "_base")
    base = cache.ensure("demo", "qcow2", lambda path: _copy(guest_image, path))
    instance_id = str(uuid.uuid4())
    facts = GuestFacts(uuid=instance_id, name="first-guest", hostname="first")
    spec = make_spec(
        base,
        id=instance_id,
        memory_mb=128,
        root_bytes=64 << 20,
        config_drive=drive_files(facts),
        nics=(Nic(mac="52:54:00:12:34:57"),),
        ephemeral_bytes=32 << 20,
        image_properties={"os_type": "linux"},
    )

    def printed(marker: str, times: int = 1) -> Callable[[], bool]:
        return lambda: driver.console_log(instance_id).count(marker.encode()) >= times

    driver.open()
    try:
        driver.spawn(spec)
        wait_for(
            "instance id", printed(f"NOVALITE-GUEST instance-id={instance_id} name=first-guest"), BOOT_SECONDS
        )
        wait_for("readiness", printed("NOVALITE-GUEST ready"))
        wait_for("an address", printed("NOVALITE-GUEST address=10.0.2.15"))
        with websockets_to(driver, instance_id) as url, closing(create_connection(url, timeout=60)) as client:
            said = b""
            while b"42 of them" not in said:  # a shell, and no echo alone
                client.send_binary(b"echo $((6*7)) of them\n")
                said += client.recv_data()[1]
            # It has an ephemeral disk, with a file system, which it finds by its name.
            client.send_binary(b"findfs LABEL=ephemeral0; cat /sys/block/vdb/size\n")
            while not re.search(rb"/dev/vdb\r\n65536\r\n", said):
                said += client.recv_data()[1]
        wait_for("what was typed is in the log", printed("42 of them"))
        driver.set_power(instance_id, PowerAction.SOFT_REBOOT)
        assert printed("NOVALITE-GUEST power-button")(), "the guest was asked, not killed"
        wait_for("readiness after reboot", printed("NOVALITE-GUEST ready", 2), BOOT_SECONDS)
        driver.set_power(instance_id, PowerAction.STOP)
        assert driver.list_states() == {instance_id: PowerState.SHUTDOWN}
        assert printed("NOVALITE-GUEST power-button", 2)()
        assert cache.prune(set()) == [], "a guest's base is in use"
    finally:
        driver.destroy(instance_id)
        driver.close()
    assert leftovers(private_libvirtd, tmp_path, instance_id) == []
    assert cache.prune(set()) == [base.path]


@contextmanager
def websockets_to(driver: LibvirtDriver, instance_id: str) -> Iterator[str]:
    """Serve a guest's terminal by the proxy; yields the URL."""
    told = ConsoleSettings("ws://127.0.0.1/", "127.0.0.1", 0, frozenset(), 600)
    proxy = SerialProxy(told, redeem=lambda _token: instance_id, open_serial=driver.open_serial)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(60)
    try:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/?token=any"
    finally:
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(server.wait_closed(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def test_many_kinds_of_devices_are_accepted(driver: LibvirtDriver, tiny_base: BaseImage) -> None:
    for hints in (
        {"hw_machine_type": "q35", "hw_disk_bus": "sata", "hw_vif_model": "e1000e"},
        {"hw_disk_bus": "ide", "hw_vif_model": "rtl8139"},
        {"hw_disk_bus": "scsi"},
        {"hw_machine_type": "q35"},
    ):
        spec = make_spec(
            tiny_base,
            image_properties={**hints, "os_type": "linux"},
            swap_bytes=1 << 20,
            ephemeral_bytes=8 << 20,
            config_drive={"a/b": b"c"},
            nics=(Nic(mac="52:54:00:00:00:09"),),
        )
        driver.spawn(spec)
        wait_for(f"boot with {hints}", lambda spec=spec: TINY_MARKER in driver.console_log(spec.id))  # type: ignore[misc]
        driver.destroy(spec.id)


def test_disks_are_of_the_size_asked_for(driver: LibvirtDriver, tiny_base: BaseImage) -> None:
    for asked, size in ((0, tiny_base.virtual_size), (64 << 20, 64 << 20)):
        spec = make_spec(tiny_base, root_bytes=asked)
        driver.spawn(spec)
        disk = domain.Layout(driver.instances_path / spec.id).disk
        told = subprocess.check_output(["qemu-img", "info", "-U", "--output=json", "-f", "qcow2", str(disk)])
        assert json.loads(told)["virtual-size"] == size
        assert json.loads(told)["backing-filename-format"] == "raw"


def test_a_base_that_isnt_what_it_claims_leaves_nothing(
    driver: LibvirtDriver, tiny_image: Path, private_libvirtd: Hypervisor, tmp_path: Path
) -> None:
    spec = make_spec(BaseImage(path=tiny_image, format="qcow2", virtual_size=1 << 20))
    with pytest.raises(ImageUnusable):
        driver.spawn(spec)
    assert leftovers(private_libvirtd, tmp_path, spec.id) == []


def test_a_start_that_libvirt_refuses_leaves_nothing(
    driver: LibvirtDriver, tiny_base: BaseImage, private_libvirtd: Hypervisor, tmp_path: Path
) -> None:
    spec = make_spec(tiny_base, nics=(Nic(mac="52:54:00:00:00:01", kind="network", source="absent-net"),))
    with pytest.raises(HypervisorDown, match="absent-net"):
        driver.spawn(spec)
    assert leftovers(private_libvirtd, tmp_path, spec.id) == []


def test_a_guest_that_ran_keeps_its_disk_when_it_cant_start(
    driver: LibvirtDriver, tiny_base: BaseImage
) -> None:
    spec = make_spec(tiny_base, config_drive={"a": b"b"})
    driver.spawn(spec)
    driver.set_power(spec.id, PowerAction.FORCE_STOP)
    layout = domain.Layout(driver.instances_path / spec.id)
    layout.config_drive.rename(layout.folder / "away")
    with pytest.raises(HypervisorDown):
        driver.spawn(spec)
    assert layout.disk.exists()
    assert driver.list_states() == {spec.id: PowerState.SHUTDOWN}


def test_others_domains_are_not_touched(
    driver: LibvirtDriver, tiny_base: BaseImage, private_libvirtd: Hypervisor
) -> None:
    theirs = str(uuid.uuid4())
    xml = f"<domain type='qemu'><name>theirs-{theirs}</name><uuid>{theirs}</uuid><memory>32768</memory>"
    connection = libvirt.open(private_libvirtd.uri)
    foreign = connection.defineXML(xml + "<os><type>hvm</type></os></domain>")
    foreign.create()
    try:
        assert theirs not in driver.list_states()
        calls: list[Callable[[], None]] = [
            lambda: driver.destroy(theirs),
            lambda: driver.set_power(theirs, PowerAction.FORCE_STOP),
            lambda: driver.spawn(make_spec(tiny_base, id=theirs)),
        ]
        for call in calls:
            with pytest.raises(InvalidState, match="belongs to"):
                call()
        assert foreign.isActive()
    finally:
        foreign.destroy()
        foreign.undefine()
        connection.close()


def test_a_guest_whose_qemu_dies_has_crashed_and_starts_again(
    driver: LibvirtDriver, tiny_base: BaseImage, private_libvirtd: Hypervisor
) -> None:
    spec = make_spec(tiny_base)
    driver.spawn(spec)
    os.kill(qemu_of(spec.id), signal.SIGKILL)
    wait_for("crash", lambda: driver.list_states() == {spec.id: PowerState.CRASHED})
    driver.set_power(spec.id, PowerAction.START)
    assert driver.list_states() == {spec.id: PowerState.RUNNING}


def test_a_chatty_guest_doesnt_fill_the_disk(driver: LibvirtDriver, tiny_base: BaseImage) -> None:
    spec = make_spec(tiny_base)
    driver.spawn(spec)
    wait_for("boot", lambda: TINY_MARKER in driver.console_log(spec.id))
    log = domain.Layout(driver.instances_path / spec.id).console
    with log.open("ab") as chatter:
        for _ in range(64):
            chatter.write(b"x" * (256 << 10))
        chatter.write(b"the end")
    driver.list_states()
    assert log.stat().st_blocks * 512 < 4 << 20
    tail = driver.console_log(spec.id, tail_bytes=8 << 20)
    assert tail.endswith(b"xthe end")
    assert b"\0" not in tail
    driver.set_power(spec.id, PowerAction.HARD_REBOOT)
    wait_for("more output", lambda: TINY_MARKER in driver.console_log(spec.id, tail_bytes=1000))


def test_auto_takes_kvm_only_where_a_guest_runs_on_it(
    private_libvirtd: Hypervisor, tmp_path: Path, tiny_base: BaseImage
) -> None:
    driver = make_driver(private_libvirtd, tmp_path, virt_type="auto")
    driver.open()
    verdict = json.loads((tmp_path / "kvm-probe.json").read_text())["verdict"] if KVM else {"works": False}
    assert driver.host_info().virt_type == ("kvm" if verdict["works"] else "qemu")
    spec = make_spec(tiny_base)
    driver.spawn(spec)
    try:
        wait_for("boot", lambda: TINY_MARKER in driver.console_log(spec.id))
    finally:
        driver.destroy(spec.id)
        driver.close()


# -- spawn killed at any moment ---------------------------------------------------

KILLED_SPAWN = """
import sys
from pathlib import Path
from novalite.virt.base import BaseImage, InstanceSpec
from novalite.virt.libvirt import LibvirtDriver
uri, instances, base, instance_id = sys.argv[1:]
driver = LibvirtDriver({"connection_uri": uri, "instances_path": instances, "virt_type": "qemu"})
driver.open()
spec = InstanceSpec(id=instance_id, name="x", vcpus=1, memory_mb=32, config_drive={"a": b"b"},
                    base=BaseImage(Path(base), "raw", 1 << 20))
print("go", flush=True)
driver.spawn(spec)
print("done", flush=True)
"""


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_spawn_killed_at_any_moment_is_repeated_or_cleaned(
    driver: LibvirtDriver, tiny_base: BaseImage, private_libvirtd: Hypervisor, tmp_path: Path, seconds: float
) -> None:
    for repeat in (True, False):
        instance_id = str(uuid.uuid4())
        argv = [sys.executable, "-c", KILLED_SPAWN, private_libvirtd.uri, str(driver.instances_path)]
        with subprocess.Popen(
            [*argv, str(tiny_base.path), instance_id], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "go\n"
            time.sleep(seconds)
            child.kill()
        if repeat:
            driver.spawn(make_spec(tiny_base, id=instance_id, config_drive={"a": b"b"}))
            assert driver.list_states() == {instance_id: PowerState.RUNNING}
            wait_for("boot", lambda: TINY_MARKER in driver.console_log(instance_id))  # noqa: B023
        driver.destroy(instance_id)
        assert leftovers(private_libvirtd, tmp_path, instance_id) == []
