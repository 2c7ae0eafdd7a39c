"""The private libvirtd: what dies with whom, and what is found again."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from novalite.errors import ConfigError, HypervisorDown, InstanceNotFound
from novalite.quickstart import libvirtd
from novalite.quickstart.libvirtd import Hypervisor, choose, start_private
from novalite.virt.base import BaseImage, PowerAction, PowerState
from novalite.virt.libvirt import LibvirtDriver
from tests.libvirt_fixtures import make_driver, make_spec, qemu_of
from tests.processes import children
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.skipif(os.geteuid() != 0, reason="a private libvirtd needs root"),
]


@pytest.fixture
def own_libvirtd(short_dir: Path) -> Iterator[Hypervisor]:
    with start_private(short_dir / "lv") as hypervisor:
        yield hypervisor


def libvirtd_pid(folder: Path) -> int:
    return int((folder / "lv" / "libvirtd.pid").read_text())


def test_a_killed_libvirtd_is_reported_and_found_again(
    own_libvirtd: Hypervisor, short_dir: Path, tiny_base: BaseImage
) -> None:
    driver = make_driver(own_libvirtd, short_dir)
    driver.open()
    spec = make_spec(tiny_base)
    driver.spawn(spec)
    qemu = qemu_of(spec.id)
    os.kill(libvirtd_pid(short_dir), signal.SIGKILL)
    with pytest.raises(HypervisorDown):
        driver.list_states()
    assert driver.console_log(spec.id) is not None, "the log is read without libvirt"
    wait_for("reconnection", lambda: _states_or_none(driver) == {spec.id: PowerState.RUNNING})
    assert qemu_of(spec.id) == qemu, "the guest ran on"
    driver.set_power(spec.id, PowerAction.HARD_REBOOT)
    driver.destroy(spec.id)
    driver.close()


def _states_or_none(driver: LibvirtDriver) -> dict[str, PowerState] | None:
    try:
        return driver.list_states()
    except HypervisorDown:
        return None


def test_stop_leaves_no_process(short_dir: Path, tiny_base: BaseImage) -> None:
    hypervisor = start_private(short_dir / "lv")
    driver = make_driver(hypervisor, short_dir)
    driver.open()
    driver.spawn(make_spec(tiny_base))
    driver.close()
    hypervisor.stop()
    assert processes_of(short_dir) == []


def processes_of(folder: Path) -> list[str]:
    """Name every living process that was started for a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if bytes(folder) in words and state != "Z":
                found.append(words.replace(b"\0", b" ").decode())
    return found


PARENT = """
import sys, time
from pathlib import Path
from novalite.quickstart.libvirtd import start_private
from novalite.virt.base import BaseImage, InstanceSpec
from novalite.virt.libvirt import LibvirtDriver
folder, base, instance_id, outlive = sys.argv[1:]
hypervisor = start_private(Path(folder, "lv"), guests_outlive=outlive == "yes")
settings = {"connection_uri": hypervisor.uri, "instances_path": folder + "/instances", "virt_type": "qemu"}
driver = LibvirtDriver(settings)
driver.open()
driver.spawn(InstanceSpec(id=instance_id, name="x", vcpus=1, memory_mb=32,
                          base=BaseImage(Path(base), "raw", 1 << 20)))
print("up", flush=True)
time.sleep(1000)
"""


def run_and_kill_parent(folder: Path, base: BaseImage, instance_id: str, *, outlive: str) -> None:
    argv = [sys.executable, "-c", PARENT, str(folder), str(base.path), instance_id, outlive]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        parent.kill()


def test_a_killed_parent_takes_all_along(short_dir: Path, tiny_base: BaseImage) -> None:
    run_and_kill_parent(short_dir, tiny_base, str(uuid.uuid4()), outlive="no")
    wait_for("the end of all processes", lambda: processes_of(short_dir) == [])


def test_guests_that_outlive_a_killed_parent_are_found_again(short_dir: Path, tiny_base: BaseImage) -> None:
    instance_id = str(uuid.uuid4())
    run_and_kill_parent(short_dir, tiny_base, instance_id, outlive="yes")
    wait_for(
        "the end of libvirtd", lambda: not any("supervisor" in one for one in processes_of(short_dir)), 30
    )
    qemu = qemu_of(instance_id)
    with start_private(short_dir / "lv") as hypervisor:
        driver = make_driver(hypervisor, short_dir)
        driver.open()
        assert driver.list_states() == {instance_id: PowerState.RUNNING}
        assert qemu_of(instance_id) == qemu
        driver.spawn(dataclasses.replace(make_spec(tiny_base), id=instance_id))
        assert qemu_of(instance_id) == qemu
        second = make_spec(tiny_base)
        driver.spawn(second)
        driver.destroy(second.id)
        driver.close()
    assert processes_of(short_dir) == [], "a guest taken over ends with the rest"


def test_a_killed_supervisor_takes_libvirtd_along(short_dir: Path, tiny_base: BaseImage) -> None:
    hypervisor = start_private(short_dir / "lv")
    driver = make_driver(hypervisor, short_dir)
    driver.open()
    spec = make_spec(tiny_base)
    driver.spawn(spec)
    supervisor = next(pid for pid in children(os.getpid()) if f"supervisor {short_dir}" in cmdline(pid))
    os.kill(supervisor, signal.SIGKILL)
    wait_for("the end of libvirtd", lambda: not Path(f"/proc/{libvirtd_pid(short_dir)}/exe").exists())
    hypervisor.stop()
    with start_private(short_dir / "lv"):
        assert driver.list_states() == {spec.id: PowerState.RUNNING}
        driver.destroy(spec.id)
        with pytest.raises(InstanceNotFound):
            driver.console_log(spec.id)
    driver.close()
    assert processes_of(short_dir) == []


def cmdline(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_a_second_start_in_the_same_place_is_refused(
    own_libvirtd: Hypervisor, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libvirtd, "_START_SECONDS", 1.0)
    with pytest.raises(HypervisorDown, match="another one is in charge"):
        start_private(short_dir / "lv")
    choose(short_dir / "x", uri=own_libvirtd.uri).stop()
    assert choose(short_dir / "x", uri=own_libvirtd.uri).uri == own_libvirtd.uri, "not ours to stop"


def test_a_place_too_deep_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long"):
        start_private(tmp_path / ("d" * 100))


def test_an_explicit_uri_that_doesnt_answer_is_refused(short_dir: Path) -> None:
    with pytest.raises(HypervisorDown):
        choose(short_dir / "lv", uri=f"qemu+unix:///system?socket={short_dir}/absent")
    assert not (short_dir / "lv").exists()


CAPABILITIES = """<capabilities><host>
  <secmodel><model>apparmor</model></secmodel>
  <secmodel><model>dac</model>
    <baselabel type='kvm'>+{uid}:+{uid}</baselabel><baselabel type='qemu'>+{uid}:+{uid}</baselabel>
  </secmodel></host></capabilities>"""


@pytest.mark.parametrize(
    ("uid", "mode", "usable"),
    [(0, 0o700, True), (4711, 0o700, False), (4711, 0o711, True), (4711, 0o710, False)],
)
def test_a_directory_that_guests_cannot_enter_is_found_out(
    tmp_path: Path, uid: int, mode: int, usable: bool
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(mode)
        place = Path(folder) / "not" / "there" / "yet"
        capabilities = ElementTree.fromstring(CAPABILITIES.format(uid=uid))
        if usable:
            libvirtd._check_reachable(place, capabilities)
        else:
            with pytest.raises(HypervisorDown, match=f"user {uid}, who can't enter {folder}"):
                libvirtd._check_reachable(place, capabilities)
