"""The rules of ``novalite.virt.base`` as tests that any virt driver can run.

::

    class TestMyDriver(VirtConformance):
        def make_driver(self, tmp_path):
            return MyDriver({"instances_path": str(tmp_path / "instances")})

        def make_base(self, tmp_path):
            return BaseImage(path=..., format="qcow2", virtual_size=...)

What a driver declares in ``capabilities`` is tested, and of what it does not
declare, the refusal.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from novalite.errors import (
    FlavorTooSmall,
    ImageUnusable,
    InstanceNotFound,
    InvalidInput,
    InvalidState,
    Unsupported,
)
from novalite.virt.base import (
    Arrival,
    BaseImage,
    HostInfo,
    InstanceSpec,
    Nic,
    PowerAction,
    PowerState,
    Snapshot,
    VirtCap,
    VirtDriver,
)
from novalite.virt.diagnostics import Diagnostics

_ID = "6f1d2a4e-9c3b-4f7a-8e5d-0b1c2d3e4f5a"
_STOPS = (PowerAction.STOP, PowerAction.FORCE_STOP)
_REBOOTS = (PowerAction.SOFT_REBOOT, PowerAction.HARD_REBOOT)


class VirtConformance:
    """Inherit, and implement the first two methods."""

    #: Seconds within which a fresh guest prints its first line.
    boot_seconds = 90.0

    def make_driver(self, tmp_path: Path) -> VirtDriver:
        """Return an unopened driver; each of a test's has its own instances."""
        pytest.fail("a conformance test implements make_driver")

    def make_base(self, tmp_path: Path) -> BaseImage:
        """Return an image that prints on its console when it boots."""
        pytest.fail("a conformance test implements make_base")

    def leftovers(self, tmp_path: Path, instance_id: str) -> list[str]:
        """Name what is still there of an instance: files, domains."""
        return []

    # -- fixtures -------------------------------------------------------------

    @pytest.fixture
    def driver(self, tmp_path: Path) -> Iterator[VirtDriver]:
        """An open driver, whose guests are gone when the test ends."""
        driver = self.make_driver(tmp_path)
        driver.open()
        yield driver
        for instance_id in driver.list_states():
            driver.destroy(instance_id)
        driver.close()

    @pytest.fixture
    def spec(self, tmp_path: Path) -> InstanceSpec:
        return InstanceSpec(
            id=str(uuid.uuid4()),
            name="näme <of> & \"a\" 'guest'",
            vcpus=1,
            memory_mb=64,
            base=self.make_base(tmp_path),
            config_drive={"openstack/latest/meta_data.json": b"{}"},
            nics=(Nic(mac="52:54:00:12:34:56"),),
        )

    # -- required methods -------------------------------------------------------

    def test_host_info(self, driver: VirtDriver) -> None:
        info = driver.host_info()
        assert isinstance(info, HostInfo)
        assert info.hostname
        assert info.virt_type in ("kvm", "qemu", "fake")
        assert min(info.vcpus, info.memory_mb, info.disk_gb) > 0

    def test_options_name_every_setting_once(self, driver: VirtDriver) -> None:
        names = [option.name for option in driver.options]
        assert len(names) == len(set(names))
        assert all(option.help for option in driver.options)

    def test_life(self, driver: VirtDriver, spec: InstanceSpec, tmp_path: Path) -> None:
        assert spec.id not in driver.list_states()
        driver.spawn(spec)
        assert driver.list_states() == {spec.id: PowerState.RUNNING}
        for stop in _STOPS:
            driver.set_power(spec.id, stop)
            assert driver.list_states()[spec.id] is PowerState.SHUTDOWN
            driver.set_power(spec.id, PowerAction.START)
            assert driver.list_states()[spec.id] is PowerState.RUNNING
        for reboot in _REBOOTS:
            driver.set_power(spec.id, reboot)
            assert driver.list_states()[spec.id] is PowerState.RUNNING
        driver.destroy(spec.id)
        assert spec.id not in driver.list_states()
        assert self.leftovers(tmp_path, spec.id) == []

    # -- rule 1: idempotent -------------------------------------------------------

    def test_spawning_what_runs_leaves_it_running(self, driver: VirtDriver, spec: InstanceSpec) -> None:
        driver.spawn(spec)
        before = self._boots(driver, spec.id, 1)
        driver.spawn(spec)
        assert driver.list_states() == {spec.id: PowerState.RUNNING}
        assert self._boots(driver, spec.id, 1) == before

    def test_spawning_what_is_stopped_starts_it(self, driver: VirtDriver, spec: InstanceSpec) -> None:
        driver.spawn(spec)
        driver.set_power(spec.id, PowerAction.FORCE_STOP)
        driver.spawn(spec)
        assert driver.list_states() == {spec.id: PowerState.RUNNING}

    def test_what_is_to_be_off_is_made_and_not_started(self, driver: VirtDriver, spec: InstanceSpec) -> None:
        off = dataclasses.replace(spec, started=False)
        for _ in range(2):
            driver.spawn(off)
            assert driver.list_states() == {spec.id: PowerState.SHUTDOWN}
        driver.set_power(spec.id, PowerAction.START)
        driver.spawn(off)
        assert driver.list_states() == {spec.id: PowerState.RUNNING}

    def test_destroying_what_is_gone_succeeds(self, driver: VirtDriver, spec: InstanceSpec) -> None:
        driver.destroy(spec.id)
        driver.spawn(spec)
        driver.destroy(spec.id)
        driver.destroy(spec.id)
        assert driver.list_states() == {}

    def test_a_power_state_that_holds_is_kept(self, driver: VirtDriver, spec: InstanceSpec) -> None:
        driver.spawn(spec)
        driver.set_power(spec.id, PowerAction.START)
        assert driver.list_states()[spec.id] is PowerState.RUNNING
        for stop in (PowerAction.FORCE_STOP, *_STOPS):
            driver.set_power(spec.id, stop)
            assert driver.list_states()[spec.id] is PowerState.SHUTDOWN

    # -- pausing and suspending -----------------------------------------------------

    def test_pausing(self, driver: VirtDriver, spec: InstanceSpec) -> None:
        driver.spawn(spec)
        if VirtCap.PAUSE not in driver.capabilities:
            self._refused(driver, spec, PowerAction.PAUSE, PowerAction.UNPAUSE)
            return
        for action, state in (
            (PowerAction.UNPAUSE, PowerState.RUNNING),
            (PowerAction.PAUSE, PowerState.PAUSED),
            (PowerAction.PAUSE, PowerState.PAUSED),
            (PowerAction.UNPAUSE, PowerState.RUNNING),
            (PowerAction.PAUSE, PowerState.PAUSED),
            (PowerAction.HARD_REBOOT, PowerState.RUNNING),
            (PowerAction.PAUSE, PowerState.PAUSED),
            (PowerAction.FORCE_STOP, PowerState.SHUTDOWN),
        ):
            driver.set_power(spec.id, action)
            assert driver.list_states() == {spec.id: state}
        with pytest.raises(InvalidState):
            driver.set_power(spec.id, PowerAction.PAUSE)

    def test_suspending_keeps_the_memory(self, driver: VirtDriver, spec: InstanceSpec) -> None:
        driver.spawn(spec)
        if VirtCap.SUSPEND not in driver.capabilities:
            self._refused(driver, spec, PowerAction.SUSPEND, PowerAction.RESUME)
            return
        self._boots(driver, spec.id, 1)
        for again in (PowerAction.RESUME, PowerAction.START):
            driver.set_power(spec.id, PowerAction.SUSPEND)
            driver.set_power(spec.id, PowerAction.SUSPEND)
            assert driver.list_states() == {spec.id: PowerState.SHUTDOWN}
            driver.set_power(spec.id, again)
            driver.set_power(spec.id, again)
            assert driver.list_states() == {spec.id: PowerState.RUNNING}
        if VirtCap.CONSOLE_LOG in driver.capabilities:
            log = driver.console_log(spec.id)
            assert log.count(log.split(b"\n")[0]) == 1, "the guest didn't boot again"

    def test_stopping_forgets_what_was_suspended(self, driver: VirtDriver, spec: InstanceSpec) -> None:
        driver.spawn(spec)
        if VirtCap.SUSPEND not in driver.capabilities:
            return
        self._boots(driver, spec.id, 1)
        driver.set_power(spec.id, PowerAction.SUSPEND)
        driver.set_power(spec.id, PowerAction.FORCE_STOP)
        with pytest.raises(InvalidState):
            driver.set_power(spec.id, PowerAction.SUSPEND)
        driver.set_power(spec.id, PowerAction.START)
        driver.set_power(spec.id, PowerAction.SUSPEND)
        driver.destroy(spec.id)
        assert driver.list_states() == {}

    def test_rebooting_what_is_stopped_starts_it(self, driver: VirtDriver, spec: InstanceSpec) -> None:
        driver.spawn(spec)
        for reboot in _REBOOTS:
            driver.set_power(spec.id, PowerAction.FORCE_STOP)
            driver.set_power(spec.id, reboot)
            assert driver.list_states()[spec.id] is PowerState.RUNNING

    # -- rule 2: all or nothing ---------------------------------------------------

    def test_a_flavor_too_small_leaves_nothing(
        self, driver: VirtDriver, spec: InstanceSpec, tmp_path: Path
    ) -> None:
        small = dataclasses.replace(spec, root_bytes=spec.base.virtual_size - 1)
        with pytest.raises(FlavorTooSmall):
            driver.spawn(small)
        assert driver.list_states() == {}
        assert self.leftovers(tmp_path, spec.id) == []

    def test_a_missing_base_leaves_nothing(
        self, driver: VirtDriver, spec: InstanceSpec, tmp_path: Path
    ) -> None:
        base = dataclasses.replace(spec.base, path=tmp_path / "absent")
        with pytest.raises(ImageUnusable, match="absent"):
            driver.spawn(dataclasses.replace(spec, base=base))
        assert driver.list_states() == {}
        assert self.leftovers(tmp_path, spec.id) == []

    @pytest.mark.parametrize(
        "change",
        [
            {"nics": (Nic(mac="52:54:00:12:34:56", kind="teleport"),)},
            {"nics": (Nic(mac="52:54:00:12:34:56", kind="bridge"),)},
            {"image_properties": {"hw_disk_bus": "<virtio/>"}},
            {"image_properties": {"hw_machine_type": "pdp11"}},
            {"image_properties": {"hw_vif_model": "../tap"}},
            {"vcpus": 0},
        ],
    )
    def test_a_value_no_guest_can_have_is_refused(
        self, driver: VirtDriver, spec: InstanceSpec, tmp_path: Path, change: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidInput):
            driver.spawn(dataclasses.replace(spec, **change))
        assert driver.list_states() == {}
        assert self.leftovers(tmp_path, spec.id) == []

    def test_a_spawn_that_failed_can_be_repeated(self, driver: VirtDriver, spec: InstanceSpec) -> None:
        with pytest.raises(FlavorTooSmall):
            driver.spawn(dataclasses.replace(spec, root_bytes=1))
        driver.spawn(spec)
        assert driver.list_states() == {spec.id: PowerState.RUNNING}

    # -- rule 3: ids and ownership ------------------------------------------------

    @pytest.mark.parametrize("bad", ["", "..", "../../etc", "x" * 36, _ID.upper(), "a/b"])
    def test_an_id_that_is_no_uuid_is_refused(self, driver: VirtDriver, spec: InstanceSpec, bad: str) -> None:
        calls: list[Callable[[], object]] = [
            lambda: driver.spawn(dataclasses.replace(spec, id=bad)),
            lambda: driver.destroy(bad),
            lambda: driver.set_power(bad, PowerAction.START),
        ]
        if VirtCap.CONSOLE_LOG in driver.capabilities:
            calls.append(lambda: driver.console_log(bad))
        if VirtCap.SERIAL in driver.capabilities:
            calls.append(lambda: driver.open_serial(bad))
        for call in calls:
            with pytest.raises(InvalidInput):
                call()

    def test_two_drivers_see_only_their_own(
        self, driver: VirtDriver, spec: InstanceSpec, tmp_path: Path
    ) -> None:
        elsewhere = tmp_path / "other"
        elsewhere.mkdir()
        other = self.make_driver(elsewhere)
        other.open()
        try:
            driver.spawn(spec)
            assert other.list_states() == {}
            second = dataclasses.replace(spec, id=str(uuid.uuid4()))
            other.spawn(second)
            assert driver.list_states() == {spec.id: PowerState.RUNNING}
            assert other.list_states() == {second.id: PowerState.RUNNING}
            other.destroy(second.id)
            assert driver.list_states() == {spec.id: PowerState.RUNNING}
        finally:
            other.destroy(str(uuid.uuid4()))
            other.close()

    def test_an_unknown_id_is_not_found(self, driver: VirtDriver) -> None:
        for action in PowerAction:
            with pytest.raises(InstanceNotFound):
                driver.set_power(str(uuid.uuid4()), action)

    # -- rule 4: capabilities -----------------------------------------------------

    def test_a_serial_terminal_lasts_as_long_as_the_guest_runs(
        self, driver: VirtDriver, spec: InstanceSpec
    ) -> None:
        if VirtCap.SERIAL not in driver.capabilities:
            with pytest.raises(Unsupported):
                driver.open_serial(spec.id)
            return
        with pytest.raises(InstanceNotFound):
            driver.open_serial(spec.id)
        driver.spawn(spec)
        terminal = driver.open_serial(spec.id)
        try:
            assert not os.get_blocking(terminal)
            assert os.write(terminal, b"\n") == 1
            driver.set_power(spec.id, PowerAction.FORCE_STOP)
            deadline = time.monotonic() + self.boot_seconds
            while not _ended(terminal):
                assert time.monotonic() < deadline, "the terminal outlives the guest"
                time.sleep(0.01)
        finally:
            os.close(terminal)
        with pytest.raises(InvalidState):
            driver.open_serial(spec.id)

    def test_the_console_tells_or_is_refused(self, driver: VirtDriver, spec: InstanceSpec) -> None:
        if VirtCap.CONSOLE_LOG not in driver.capabilities:
            with pytest.raises(Unsupported):
                driver.console_log(spec.id)
            return
        with pytest.raises(InstanceNotFound):
            driver.console_log(spec.id)
        driver.spawn(spec)
        self._boots(driver, spec.id, 1)
        driver.set_power(spec.id, PowerAction.FORCE_STOP)
        first = driver.console_log(spec.id)
        assert first
        assert driver.console_log(spec.id, tail_bytes=5) == first[-5:]
        assert driver.console_log(spec.id, tail_bytes=0) == b""
        driver.set_power(spec.id, PowerAction.START)
        deadline = time.monotonic() + self.boot_seconds
        while len(again := driver.console_log(spec.id)) <= len(first) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert again.startswith(first), "the log survives a power cycle"
        assert len(again) > len(first)
        driver.destroy(spec.id)
        with pytest.raises(InstanceNotFound):
            driver.console_log(spec.id)

    # -- snapshots, rescue, resize --------------------------------------------------

    def test_diagnostics(self, driver: VirtDriver, spec: InstanceSpec) -> None:
        if VirtCap.DIAGNOSTICS not in driver.capabilities:
            with pytest.raises(Unsupported):
                driver.diagnostics(spec.id)
            return
        with pytest.raises(InstanceNotFound):
            driver.diagnostics(spec.id)
        driver.spawn(spec)
        told = driver.diagnostics(spec.id)
        assert (told.state, told.memory_max_kib, len(told.cpus)) == (PowerState.RUNNING, 64 * 1024, 1)
        assert told.driver in ("libvirt", "xenapi", "vmwareapi", "ironic", "hyperv"), "as the API has it"
        assert told.disks[0].name == "vda"
        assert Diagnostics.of(json.loads(json.dumps(told.plain()))) == told
        driver.set_power(spec.id, PowerAction.FORCE_STOP)
        with pytest.raises(InvalidState):
            driver.diagnostics(spec.id)

    def test_snapshots(self, driver: VirtDriver, spec: InstanceSpec, tmp_path: Path) -> None:
        if VirtCap.SNAPSHOT not in driver.capabilities:
            with pytest.raises(Unsupported), driver.snapshot(spec.id):
                pass
            return
        with pytest.raises(InstanceNotFound), driver.snapshot(spec.id):
            pass
        driver.spawn(spec)
        self._boots(driver, spec.id, 1)
        for state in (PowerState.RUNNING, PowerState.SHUTDOWN):
            for _ in range(2):
                with driver.snapshot(spec.id) as made:
                    assert made.path.stat().st_size > 0
                    assert made.virtual_size >= spec.base.virtual_size
                    self.check_snapshot(made)
                assert not made.path.exists()
                assert driver.list_states() == {spec.id: state}
            driver.set_power(spec.id, PowerAction.FORCE_STOP)
        driver.destroy(spec.id)
        assert self.leftovers(tmp_path, spec.id) == []

    def test_copies_of_ephemeral_disks(self, driver: VirtDriver, spec: InstanceSpec, tmp_path: Path) -> None:
        if VirtCap.SNAPSHOT not in driver.capabilities:
            with pytest.raises(Unsupported), driver.copy_ephemeral(spec.id):
                pass
            return
        with pytest.raises(InstanceNotFound), driver.copy_ephemeral(spec.id):
            pass
        driver.spawn(dataclasses.replace(spec, started=False))
        with driver.copy_ephemeral(spec.id) as made:
            assert made is None
        driver.destroy(spec.id)
        linux = {"os_type": "linux"}
        driver.spawn(dataclasses.replace(spec, ephemeral_bytes=8 << 20, image_properties=linux))
        with pytest.raises(InvalidState), driver.copy_ephemeral(spec.id):
            pass
        driver.set_power(spec.id, PowerAction.FORCE_STOP)
        kept = tmp_path / "ephemeral"
        with driver.copy_ephemeral(spec.id) as made:
            assert made is not None
            shutil.copyfile(made.path, kept)
        assert not made.path.exists()
        # What was copied is what another guest of that name begins with.
        driver.destroy(spec.id)
        came = BaseImage(kept, made.format, made.virtual_size)
        spec = dataclasses.replace(spec, ephemeral_bytes=16 << 20, ephemeral_base=came, started=False)
        driver.spawn(spec)
        with driver.copy_ephemeral(spec.id) as again:
            assert again is not None
            self.check_ephemeral(again, spec.ephemeral_bytes)
        driver.destroy(spec.id)
        assert self.leftovers(tmp_path, spec.id) == []

    def check_ephemeral(self, copy: Snapshot, size: int) -> None:
        """Look at a copy of an empty ephemeral disk of ``size`` bytes; to be overridden."""

    def check_snapshot(self, snapshot: Snapshot) -> None:
        """Look at a snapshot; to be overridden."""

    def test_rescue(self, driver: VirtDriver, spec: InstanceSpec, tmp_path: Path) -> None:
        if VirtCap.RESCUE not in driver.capabilities:
            with pytest.raises(Unsupported):
                driver.rescue(spec)
            with pytest.raises(Unsupported):
                driver.unrescue(spec.id)
            return
        with pytest.raises(InstanceNotFound):
            driver.rescue(spec)
        driver.spawn(spec)
        driver.unrescue(spec.id)
        for _ in range(2):
            driver.rescue(spec)
            assert driver.list_states() == {spec.id: PowerState.RUNNING}
        driver.set_power(spec.id, PowerAction.FORCE_STOP)
        driver.rescue(spec)
        for _ in range(2):
            driver.unrescue(spec.id)
            assert driver.list_states() == {spec.id: PowerState.RUNNING}
        driver.rescue(spec)
        driver.destroy(spec.id)
        assert self.leftovers(tmp_path, spec.id) == []

    def test_resize(self, driver: VirtDriver, spec: InstanceSpec, tmp_path: Path) -> None:
        size: dict[str, Any] = {"vcpus": 2, "memory_mb": 96, "swap_bytes": 2 << 20}
        size |= {"root_bytes": spec.base.virtual_size + (1 << 20), "ephemeral_bytes": 8 << 20}
        linux = "linux"  # for which any driver has what it takes to make a file system
        if VirtCap.RESIZE not in driver.capabilities:
            with pytest.raises(Unsupported):
                driver.resize(spec.id, **size, os_type=linux)
            return
        with pytest.raises(InstanceNotFound):
            driver.resize(spec.id, **size, os_type=linux)
        driver.spawn(dataclasses.replace(spec, swap_bytes=1 << 20))
        with pytest.raises(InvalidState):
            driver.resize(spec.id, **size, os_type=linux)
        for end, expected in ((driver.revert_resize, False), (driver.confirm_resize, True)):
            driver.set_power(spec.id, PowerAction.FORCE_STOP)
            driver.resize(spec.id, **size, os_type=linux)
            driver.resize(spec.id, **size, os_type=linux)
            assert self.has_size(driver, spec.id, **size)
            driver.set_power(spec.id, PowerAction.START)
            end(spec.id)
            end(spec.id)
            driver.set_power(spec.id, PowerAction.START)
            assert driver.list_states() == {spec.id: PowerState.RUNNING}
            assert self.has_size(driver, spec.id, **size) is expected
        driver.set_power(spec.id, PowerAction.FORCE_STOP)
        more = {**size, "ephemeral_bytes": 16 << 20}
        driver.resize(spec.id, **more)
        assert self.has_size(driver, spec.id, **more)
        driver.revert_resize(spec.id)
        assert self.has_size(driver, spec.id, **size)
        driver.resize(spec.id, **more)
        driver.destroy(spec.id)
        assert self.leftovers(tmp_path, spec.id) == []

    def has_size(self, driver: VirtDriver, instance_id: str, **size: int) -> bool:
        """Tell whether the guest has vcpus, memory_mb, root_bytes, swap_bytes and ephemeral_bytes.

        To be implemented for RESIZE.
        """
        pytest.fail("a conformance test of a driver with RESIZE implements has_size")

    def test_live_migration_is_refused_where_there_is_none(
        self, driver: VirtDriver, spec: InstanceSpec
    ) -> None:
        """What it does where there is, it takes two drivers to see."""
        if VirtCap.LIVE_MIGRATION in driver.capabilities:
            for ask in (driver.departure, driver.stop_sending):
                with pytest.raises(InstanceNotFound):
                    ask(spec.id)
            return
        calls: list[Callable[[], object]] = [
            lambda: driver.departure(spec.id),
            lambda: driver.make_ready(spec, 1 << 20, None),
            lambda: driver.send(spec.id, Arrival("", "", ""), lambda: None, lambda: False),
            lambda: driver.stop_sending(spec.id),
        ]
        for call in calls:
            with pytest.raises(Unsupported):
                call()

    # -- rule 5: threads ------------------------------------------------------------

    def test_many_threads_spawn_one_instance(self, driver: VirtDriver, spec: InstanceSpec) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _turn: driver.spawn(spec), range(4)))
        assert driver.list_states() == {spec.id: PowerState.RUNNING}

    def test_spawn_and_destroy_race_to_all_or_nothing(
        self, driver: VirtDriver, spec: InstanceSpec, tmp_path: Path
    ) -> None:
        start = threading.Barrier(2)

        def act(method: Callable[[], None]) -> None:
            start.wait()
            method()

        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(act, lambda: driver.spawn(spec))]
            jobs.append(pool.submit(act, lambda: driver.destroy(spec.id)))
            for job in jobs:
                job.result()
        if spec.id in driver.list_states():
            driver.destroy(spec.id)
        assert self.leftovers(tmp_path, spec.id) == []

    # -- helpers --------------------------------------------------------------------

    @staticmethod
    def _refused(driver: VirtDriver, spec: InstanceSpec, *actions: PowerAction) -> None:
        for action in actions:
            with pytest.raises(Unsupported):
                driver.set_power(spec.id, action)
        assert driver.list_states() == {spec.id: PowerState.RUNNING}

    def _boots(self, driver: VirtDriver, instance_id: str, least: int) -> int:
        """Wait for the console's first output; return how many bytes there are."""
        if VirtCap.CONSOLE_LOG not in driver.capabilities:
            return 0
        deadline = time.monotonic() + self.boot_seconds
        while len(driver.console_log(instance_id)) < least:
            if time.monotonic() > deadline:
                pytest.fail(f"the guest printed nothing within {self.boot_seconds} s")
            time.sleep(0.05)
        time.sleep(0.2)  # the rest of what it prints at once
        return len(driver.console_log(instance_id))


def _ended(terminal: int) -> bool:
    """Read what there is; tell whether that was the end."""
    try:
        return not os.read(terminal, 4096)
    except BlockingIOError:
        return False
    except OSError:  # what a terminal says whose other end is closed
        return True
