"""Scheduler and compute manager: what goes wrong ends well, or says why."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from novalite.compose import build_all
from novalite.compute import build
from novalite.compute.build import spec_of
from novalite.errors import ConfigError, ServerNotFound
from novalite.guestdata.facts import facts_of, mac_of
from novalite.model import Flavor, ImageInfo, NewServer, Server, Status, TaskState
from novalite.rpc import Bus
from novalite.testing import Cloud
from novalite.testing.cloud import MemoryImages
from novalite.virt import fake
from novalite.virt.base import BaseImage, PowerAction, PowerState, VirtDriver
from tests.leases import go_silent
from tests.waiting import until

FAILURES = ("fake", "fake_failures")


def driver_of(cloud: Cloud, host: str = "host1") -> VirtDriver:
    compute = cloud.nodes[host].compute
    assert compute is not None
    return compute._driver


def order(cloud: Cloud, **values: Any) -> Server:
    wanted = NewServer("vm", cloud.images.add(b"\0" * 512).id, "42")
    return cloud.service.servers.create(cloud.admin, replace(wanted, **values))[0]


def boot(cloud: Cloud, **values: Any) -> Server:
    return cloud.wait(order(cloud, **values).id, Status.ACTIVE)


def fault_of(server: Server) -> str:
    assert server.fault is not None
    return server.fault.message


def nothing_left(cloud: Cloud, host: str = "host1") -> bool:
    return (
        not driver_of(cloud, host).list_states()
        and not cloud.service.hosts.show(cloud.admin, host).server_ids
    )


# Building


def test_compute_a_passing_failure_is_tried_again(tmp_path: Path) -> None:
    with Cloud(tmp_path, options={FAILURES: ["spawn:2"]}) as cloud:
        server = boot(cloud)
        assert server.attempts == 0
        assert server.fault is None
        assert set(driver_of(cloud).list_states()) == {server.id}


def test_compute_a_lasting_failure_ends_in_error_with_its_reason(tmp_path: Path) -> None:
    with Cloud(tmp_path, options={FAILURES: ["spawn"]}) as cloud:
        server = cloud.wait(order(cloud).id, Status.ERROR)
        assert "spawn fails because" in fault_of(server)
        assert server.host is None
        assert nothing_left(cloud)
        cloud.service.servers.delete(cloud.admin, server.id)
        with pytest.raises(ServerNotFound):
            cloud.service.servers.show(cloud.admin, server.id)


def test_compute_a_server_that_fails_on_one_host_goes_to_another(tmp_path: Path) -> None:
    failing = {"bad": {FAILURES: ["spawn"]}}
    with Cloud(tmp_path, hosts=("bad", "good"), host_options=failing) as cloud:
        servers = [order(cloud) for _ in range(4)]
        assert {cloud.wait(server.id, Status.ACTIVE).host for server in servers} == {"good"}
        assert nothing_left(cloud, "bad")
        assert set(driver_of(cloud, "good").list_states()) == {server.id for server in servers}


def test_compute_attempts_on_other_hosts_are_limited_and_told(tmp_path: Path) -> None:
    hosts = ("a", "b", "c")
    options = {FAILURES: ["spawn"], ("scheduler", "max_attempts"): 2}
    with Cloud(tmp_path, hosts=hosts, options=options) as cloud:
        server = cloud.wait(order(cloud).id, Status.ERROR, seconds=30)
        assert "spawn fails" in fault_of(server)
        assert len(server.tried_hosts) == 1
        assert all(nothing_left(cloud, host) for host in hosts)


def test_compute_no_other_host_left_tells_both_reasons(tmp_path: Path) -> None:
    small = {"small": {("fake", "fake_memory_mb"): 64}, "bad": {FAILURES: ["spawn"]}}
    with Cloud(tmp_path, hosts=("bad", "small"), host_options=small) as cloud:
        server = cloud.wait(order(cloud).id, Status.ERROR)
        told = fault_of(server)
        assert "bad: was tried already" in told
        assert "small: too little memory: needs 128 MiB" in told
        assert "before that: spawn fails" in told


def test_compute_a_forced_host_is_the_only_one(tmp_path: Path) -> None:
    failing = {"bad": {FAILURES: ["spawn"]}}
    with Cloud(tmp_path, hosts=("good", "bad"), host_options=failing) as cloud:
        server = cloud.wait(order(cloud, host="bad").id, Status.ERROR)
        assert "spawn fails" in fault_of(server)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda cloud, image: cloud.images.remove(image.id), "not found"),
        (lambda cloud, image: cloud.images.add(b"other".ljust(512), id=image.id), "digest"),
    ],
)
def test_compute_a_hopeless_image_is_not_tried_again(
    tmp_path: Path, spoil: Callable[[Cloud, ImageInfo], None], told: str
) -> None:
    with Cloud(tmp_path, hosts=("a", "b")) as cloud:
        image = cloud.images.add(b"\0" * 512)
        scheduler = cloud.nodes["a"].scheduler
        assert scheduler is not None
        scheduler.close()  # so that the order waits
        (server,) = cloud.service.servers.create(cloud.admin, NewServer("vm", image.id, "42"))
        spoil(cloud, image)
        scheduler.open()
        failed = cloud.wait(server.id, Status.ERROR)
        assert told in fault_of(failed)
        assert failed.tried_hosts == ()
        assert nothing_left(cloud, "a")
        assert nothing_left(cloud, "b")


def test_compute_the_image_is_fetched_once_for_all(tmp_path: Path) -> None:
    with Cloud(tmp_path) as cloud:
        image = cloud.images.add(b"\0" * 512)
        servers = cloud.service.servers.create(
            cloud.admin, NewServer("vm", image.id, "42", None, max_count=6)
        )
        for server in servers:
            cloud.wait(server.id, Status.ACTIVE)
        assert cloud.images.fetched == [image.id]


def test_compute_unused_bases_are_removed_after_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[float] = []
    monkeypatch.setattr(build, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + sum(moved)))
    options = {
        ("image_cache", "manager_interval"): 0.05,
        ("image_cache", "remove_unused_original_minimum_age_seconds"): 3600,
    }
    with Cloud(tmp_path, options=options) as cloud:
        boot(cloud)
        folder = cloud.settings("host1").image_cache.directory
        assert len(list(folder.glob("*.base"))) == 1
        moved.append(3600.0)
        until(lambda: not list(folder.glob("*.base")))


# Deleting and interrupting


@pytest.fixture
def spawning(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Return two events: a guest is being spawned, and will be there."""
    entered, go_on = threading.Event(), threading.Event()

    def spawn(_seconds: float) -> None:
        entered.set()
        go_on.wait(60)

    monkeypatch.setattr(fake, "time", SimpleNamespace(sleep=spawn))
    yield entered, go_on
    go_on.set()


def test_compute_delete_during_a_build_leaves_nothing(
    tmp_path: Path, spawning: tuple[threading.Event, threading.Event]
) -> None:
    entered, go_on = spawning
    with Cloud(tmp_path) as cloud:
        server = order(cloud)
        assert entered.wait(60)
        assert cloud.service.servers.show(cloud.admin, server.id).task_state == TaskState.SPAWNING
        cloud.service.servers.delete(cloud.admin, server.id)
        go_on.set()
        cloud.wait(server.id, None)
        assert nothing_left(cloud)


class SlowImages(MemoryImages):
    """Images whose bytes never end, until the reader is told to stop."""

    def fetch(self, image: ImageInfo, target: Path, check: Callable[[], None] = lambda: None) -> None:
        self.fetched.append(image.id)
        while True:
            check()
            time.sleep(0.01)


def test_compute_delete_ends_a_download(tmp_path: Path) -> None:
    images = SlowImages()
    with Cloud(tmp_path, images=images) as cloud:
        image = images.add(b"\0" * 512)
        (server,) = cloud.service.servers.create(cloud.admin, NewServer("vm", image.id, "42"))
        until(lambda: images.fetched)
        cloud.service.servers.delete(cloud.admin, server.id)
        cloud.wait(server.id, None)
        assert nothing_left(cloud)


def test_compute_closing_ends_a_download_and_gives_the_work_back(tmp_path: Path) -> None:
    images = SlowImages()
    cloud = Cloud(tmp_path, images=images)
    with cloud:
        image = images.add(b"\0" * 512)
        (server,) = cloud.service.servers.create(cloud.admin, NewServer("vm", image.id, "42"))
        until(lambda: images.fetched)
    again = Cloud(tmp_path, images=MemoryImages())
    again.nodes["host1"]._images._images[image.id] = (image, b"\0" * 512)  # type: ignore[attr-defined]
    with again:
        assert again.wait(server.id, Status.ACTIVE).attempts == 0


def test_compute_closing_does_not_wait_for_a_slow_spawn(
    tmp_path: Path, spawning: tuple[threading.Event, threading.Event]
) -> None:
    entered, go_on = spawning
    cloud = Cloud(tmp_path)
    with cloud:
        server = order(cloud)
        assert entered.wait(60)
    assert not driver_of(cloud).list_states()
    # What still goes on holds the host: the next one begins when it is over.
    again = Cloud(tmp_path, images=cloud.images)
    threading.Timer(1.0, go_on.set).start()
    with again:
        assert set(driver_of(cloud).list_states()) == {server.id}
        assert again.wait(server.id, Status.ACTIVE).attempts == 0


def test_compute_a_delete_that_fails_is_tried_until_it_works(tmp_path: Path) -> None:
    with Cloud(tmp_path, options={FAILURES: ["destroy:6"]}) as cloud:
        server = boot(cloud)
        cloud.service.servers.delete(cloud.admin, server.id)
        cloud.wait(server.id, None)
        assert nothing_left(cloud)


def test_compute_a_power_action_that_fails_tells_why(tmp_path: Path) -> None:
    with Cloud(tmp_path, options={FAILURES: ["set_power"]}) as cloud:
        server = boot(cloud)
        cloud.service.servers.stop(cloud.admin, server.id)
        until(lambda: cloud.service.servers.show(cloud.admin, server.id).task_state is None)
        after = cloud.service.servers.show(cloud.admin, server.id)
        assert (after.status, after.power_state) == (Status.ACTIVE, "running")
        assert "set_power fails" in fault_of(after)


def test_compute_deleting_what_is_on_a_dead_host(tmp_path: Path) -> None:
    with Cloud(tmp_path, hosts=("alive", "dead")) as cloud:
        server = boot(cloud, host="dead")
        driver = driver_of(cloud, "dead")
        cloud.nodes["dead"].close()
        go_silent(f"sqlite:///{tmp_path / 'novalite.sqlite'}", "dead")
        assert not cloud.service.hosts.show(cloud.admin, "dead").up
        cloud.service.servers.delete(cloud.admin, server.id)
        with pytest.raises(ServerNotFound):
            cloud.service.servers.show(cloud.admin, server.id)
        assert cloud.service.hosts.show(cloud.admin, "dead").server_ids == frozenset()
        assert set(driver.list_states()) == {server.id}
        cloud.nodes["dead"].open()  # and when it comes back:
        until(lambda: not driver.list_states())


# What happens by itself


def test_compute_a_guest_that_shuts_down_is_shutoff(tmp_path: Path) -> None:
    with Cloud(tmp_path) as cloud:
        server = boot(cloud)
        driver_of(cloud).set_power(server.id, PowerAction.FORCE_STOP)
        assert cloud.wait(server.id, Status.SHUTOFF).power_state == "shutdown"


def test_compute_a_stopped_guest_that_somebody_started_is_stopped_again(tmp_path: Path) -> None:
    with Cloud(tmp_path) as cloud:
        server = boot(cloud)
        cloud.service.servers.stop(cloud.admin, server.id)
        cloud.wait(server.id, Status.SHUTOFF)
        driver = driver_of(cloud)
        driver.set_power(server.id, PowerAction.START)
        until(lambda: driver.list_states()[server.id] == PowerState.SHUTDOWN)
        assert cloud.service.servers.show(cloud.admin, server.id).status == Status.SHUTOFF


def test_compute_a_guest_that_is_gone_is_in_error(tmp_path: Path) -> None:
    with Cloud(tmp_path) as cloud:
        server = boot(cloud)
        driver_of(cloud).destroy(server.id)
        failed = cloud.wait(server.id, Status.ERROR)
        assert fault_of(failed) == "the instance is gone from host host1"
        cloud.service.servers.delete(cloud.admin, server.id)
        cloud.wait(server.id, None)


def test_compute_what_a_server_left_behind_is_removed(tmp_path: Path) -> None:
    with Cloud(tmp_path) as cloud:
        server, gone = boot(cloud), boot(cloud)
        cloud.service.servers.delete(cloud.admin, gone.id)
        cloud.wait(gone.id, None)
        settings, driver = cloud.settings("host1"), driver_of(cloud)
        path = next(settings.image_cache.directory.glob("*.base"))
        driver.spawn(spec_of(gone, BaseImage(path, "raw", 512), settings))
        until(lambda: set(driver.list_states()) == {server.id})


def test_compute_an_instance_no_record_tells_of_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # It would be all guests of the host, were the database the wrong one.
    with Cloud(tmp_path) as cloud:
        server = boot(cloud)
        settings, driver = cloud.settings("host1"), driver_of(cloud)
        path = next(settings.image_cache.directory.glob("*.base"))
        stray = replace(server, id=str(uuid.uuid4()))
        driver.spawn(spec_of(stray, BaseImage(path, "raw", 512), settings))
        until(lambda: f"instance {stray.id} is in no record" in caplog.text)
        time.sleep(0.5)
        assert set(driver.list_states()) == {server.id, stray.id}
        assert caplog.text.count("is in no record") == 1


# Messages and places


def test_compute_all_works_when_every_message_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    monkeypatch.setattr(Bus, "schedule", lambda _, server_id: lost.append(server_id))
    monkeypatch.setattr(Bus, "drive", lambda _, host, server_id: lost.append(server_id))
    with Cloud(tmp_path) as cloud:
        server = boot(cloud)
        cloud.service.servers.stop(cloud.admin, server.id)
        cloud.wait(server.id, Status.SHUTOFF)
        cloud.service.servers.delete(cloud.admin, server.id)
        cloud.wait(server.id, None)
        assert nothing_left(cloud)
    assert len(lost) == 4


def test_compute_all_works_when_every_message_comes_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule, drive = Bus.schedule, Bus.drive

    def thrice(send: Callable[..., None]) -> Callable[..., None]:
        return lambda *told: [send(*told) for _ in range(3)] and None

    monkeypatch.setattr(Bus, "schedule", thrice(schedule))
    monkeypatch.setattr(Bus, "drive", thrice(drive))
    with Cloud(tmp_path, hosts=("a", "b")) as cloud:
        servers = [order(cloud) for _ in range(6)]
        placed = {server.id: cloud.wait(server.id, Status.ACTIVE).host for server in servers}
        for host in ("a", "b"):
            here = {server_id for server_id, where in placed.items() if where == host}
            assert set(driver_of(cloud, host).list_states()) == here
            assert cloud.service.hosts.show(cloud.admin, host).server_ids == here


def test_compute_two_schedulers_do_not_overfill_a_host(tmp_path: Path) -> None:
    options = {
        ("fake", "fake_memory_mb"): 128 * 5,
        ("quota", "instances"): -1,
    }
    with Cloud(tmp_path, options=options) as cloud:
        second = build_all(cloud.settings("other"), roles=frozenset({"scheduler"}), images=cloud.images)
        with second:
            servers = [order(cloud) for _ in range(8)]
            until(lambda: all(_settled(cloud, server) for server in servers))
        ends = [cloud.service.servers.show(cloud.admin, server.id).status for server in servers]
        assert sorted(ends) == [Status.ACTIVE] * 5 + [Status.ERROR] * 3
        assert cloud.service.hosts.show(cloud.admin, "host1").memory_mb_used == 128 * 5


def _settled(cloud: Cloud, server: Server) -> bool:
    return cloud.service.servers.show(cloud.admin, server.id).task_state is None


def test_compute_zones_are_kept(tmp_path: Path) -> None:
    zone = ("DEFAULT", "default_availability_zone")
    zones = {"a": {zone: "east"}, "b": {zone: "west"}}
    with Cloud(tmp_path, hosts=("a", "b"), host_options=zones) as cloud:
        assert {boot(cloud, zone="west").host for _ in range(3)} == {"b"}
        cloud.service.hosts.set_enabled(cloud.admin, "b", False)
        failed = cloud.wait(order(cloud, zone="west").id, Status.ERROR)
        assert "a: is in zone east, not west" in fault_of(failed)
        assert "b: is disabled (no reason given)" in fault_of(failed)


def test_compute_a_host_has_one_manager(tmp_path: Path) -> None:
    with Cloud(tmp_path):
        began = time.monotonic()
        second = Cloud(tmp_path)
        with pytest.raises(ConfigError, match=r"host host1 is served by another process \(pid \d+\)"):
            second.open()
        second.close()
        assert time.monotonic() - began > 1  # an earlier one on its way out was waited for


def test_compute_closing_twice_and_without_opening_is_harmless(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    cloud.close()
    with cloud:
        boot(cloud)
    cloud.close()
    assert threading.active_count() < 50


# What a guest is told


def test_compute_what_a_guest_learns(tmp_path: Path) -> None:
    settings = replace(Cloud(tmp_path).settings("host1"), force_config_drive=False)
    server = Server(
        str(uuid.uuid4()),
        "My VM",
        "project",
        "user",
        Flavor("f", "m1.flavor", 2, 256, 3),
        ImageInfo("image", properties={"hw_disk_bus": "scsi"}),
        zone="nova",
        key_name="key",
        public_key="ssh-ed25519 AAAA",
        metadata={"a": "b"},
        user_data="IyEvYmluL3No",
        launch_index=2,
    )
    base = BaseImage(tmp_path / "base", "raw", 512)
    spec = spec_of(server, base, settings)
    assert (spec.vcpus, spec.memory_mb, spec.root_bytes) == (2, 256, 3 << 30)
    assert spec.config_drive is None
    assert spec.image_properties == {"hw_disk_bus": "scsi"}
    (nic,) = spec.nics
    assert nic.mac == mac_of(server.id) != mac_of(str(uuid.uuid4()))
    drive = spec_of(replace(server, config_drive=True), base, settings).config_drive
    assert drive is not None
    told = json.loads(drive["openstack/latest/meta_data.json"])
    assert (told["uuid"], told["hostname"], told["launch_index"]) == (server.id, "my-vm", 2)
    assert told["public_keys"] == {"key": "ssh-ed25519 AAAA"}
    assert drive["openstack/latest/user_data"] == b"#!/bin/sh"
    assert facts_of(server, settings.network).flavor == "m1.flavor"
    none = replace(settings, network=replace(settings.network, kind="none"))
    assert spec_of(server, base, none).nics == ()
