"""The fake hypervisor keeps the rules of virt drivers, and fails when told to."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from novalite.errors import HypervisorDown, InstanceNotFound
from novalite.testing import VirtConformance
from novalite.virt.base import BaseImage, InstanceSpec, PowerAction, PowerState, Snapshot, VirtDriver
from novalite.virt.fake import FakeDriver
from novalite.virt.fake_guests import EMPTY
from novalite.virt.fake_places import hand_over


class TestFakeDriver(VirtConformance):
    def make_driver(self, tmp_path: Path) -> VirtDriver:
        return FakeDriver({})

    def make_base(self, tmp_path: Path) -> BaseImage:
        return _base(tmp_path)

    def has_size(self, driver: VirtDriver, instance_id: str, **size: int) -> bool:
        assert isinstance(driver, FakeDriver)
        names = ("vcpus", "memory_mb", "root_bytes", "swap_bytes", "ephemeral_bytes")
        return driver._guests[instance_id].size == [size[name] for name in names]

    def check_ephemeral(self, copy: Snapshot, size: int) -> None:
        assert copy.path.read_bytes() == EMPTY


class TestFakeDriverThatKeeps(TestFakeDriver):
    def make_driver(self, tmp_path: Path) -> VirtDriver:
        return FakeDriver({"fake_directory": str(tmp_path / "kept")})

    def leftovers(self, tmp_path: Path, instance_id: str) -> list[str]:
        return [str(path) for path in (tmp_path / "kept").glob(f"{instance_id}*")]


def _base(folder: Path) -> BaseImage:
    path = folder / "base.raw"
    path.write_bytes(bytes(4096))
    return BaseImage(path=path, format="raw", virtual_size=4096)


def _spec(folder: Path, **changes: object) -> InstanceSpec:
    values = {"id": str(uuid.uuid4()), "name": "one", "vcpus": 1, "memory_mb": 64, "base": _base(folder)}
    return InstanceSpec(**{**values, **changes})  # type: ignore[arg-type]


def test_the_console_prints_what_the_config_drive_says(tmp_path: Path) -> None:
    driver = FakeDriver({})
    facts = json.dumps({"uuid": "told-by-drive", "name": "named-by-drive"}).encode()
    spec = _spec(tmp_path, config_drive={"openstack/latest/meta_data.json": facts})
    driver.spawn(spec)
    assert b"instance-id=told-by-drive name=named-by-drive" in driver.console_log(spec.id)


def test_the_console_prints_id_and_name_without_a_config_drive(tmp_path: Path) -> None:
    driver = FakeDriver({})
    spec = _spec(tmp_path)
    driver.spawn(spec)
    assert f"NOVALITE-GUEST instance-id={spec.id} name=one".encode() in driver.console_log(spec.id)


def test_failures_that_options_ask_for(tmp_path: Path) -> None:
    driver = FakeDriver({"fake_failures": ["spawn:2", "destroy"]})
    spec = _spec(tmp_path)
    for _ in range(2):
        with pytest.raises(HypervisorDown, match="spawn"):
            driver.spawn(spec)
        assert driver.list_states() == {}
    driver.spawn(spec)
    with pytest.raises(HypervisorDown, match="destroy"):
        driver.destroy(spec.id)
    assert spec.id in driver.list_states()


def test_a_delay_that_options_ask_for(tmp_path: Path) -> None:
    started = time.monotonic()
    FakeDriver({"fake_spawn_seconds": 0.2}).spawn(_spec(tmp_path))
    assert time.monotonic() - started >= 0.2


def test_a_guest_is_on_one_host_or_the_other_whoever_is_killed(tmp_path: Path) -> None:
    def host(name: str) -> FakeDriver:
        places = {"instances_path": str(tmp_path / name / "instances")}
        driver = FakeDriver({**places, "fake_directory": str(tmp_path / name / "kept")})
        driver.open()
        return driver

    def check() -> None:
        pass

    spec = _spec(tmp_path, config_drive={"openstack/latest/meta_data.json": b"{}"})
    there = host("new").make_ready(spec, 4096, None)
    old = host("old")
    old.spawn(spec)
    assert old.departure(spec.id).virtual_size == 0
    with pytest.raises(HypervisorDown, match="isn't expected"):
        old.send(spec.id, replace(there, instances_path=str(tmp_path)), check, lambda: False)
    assert host("old").list_states() == {spec.id: PowerState.RUNNING}
    new = host("new")  # another process, which knows of it all the same
    assert new.list_states() == {}
    with pytest.raises(InstanceNotFound):
        new.stop_sending(spec.id)
    # As a process that is killed when it is handed over leaves it.
    hand_over(spec.id, there.instances_path, tmp_path / "old" / "kept" / spec.id, {})
    assert host("old").list_states() == {}
    assert host("new").list_states() == {spec.id: PowerState.RUNNING}
    host("old").send(spec.id, there, check, lambda: False)
    assert [*tmp_path.glob(f"old/*/{spec.id}")] == []
    assert [*tmp_path.glob(f"new/*/{spec.id}")] == [tmp_path / "new" / "kept" / spec.id]


def test_guests_that_are_kept_outlive_the_driver(tmp_path: Path) -> None:
    first = FakeDriver({"fake_directory": str(tmp_path / "kept")})
    first.open()
    spec = _spec(tmp_path)
    first.spawn(spec)
    first.set_power(spec.id, PowerAction.STOP)
    # An earlier version's knows nothing of ephemeral disks.
    path = tmp_path / "kept" / spec.id / "guest.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "size": kept["size"][:4]}))
    second = FakeDriver({"fake_directory": str(tmp_path / "kept")})
    second.open()
    assert second.list_states() == {spec.id: PowerState.SHUTDOWN}
    with second.copy_ephemeral(spec.id) as copy:
        assert copy is None
    second.set_power(spec.id, PowerAction.START)
    assert second.console_log(spec.id).count(b"ready") == 2
    second.destroy(spec.id)
    assert list((tmp_path / "kept").iterdir()) == []
