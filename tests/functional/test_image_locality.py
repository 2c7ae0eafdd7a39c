"""Where servers go whose image is somewhere already."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from novalite.db.hosts import HostRecords
from novalite.errors import Forbidden, ImageMissing, NotFound
from novalite.model import ComputeHost, ImageInfo, NewServer, Status
from novalite.testing.cloud import Cloud
from tests.waiting import wait_for


def host_of_a_new(cloud: Cloud, image: ImageInfo, host: str | None = None) -> str | None:
    (server,) = cloud.service.servers.create(cloud.admin, NewServer("vm", image.id, "42", host=host))
    return cloud.wait(server.id, Status.ACTIVE).host


def await_told(cloud: Cloud, host: str, image: ImageInfo) -> None:
    """Wait until the scheduler knows that a host has an image."""
    scheduler = cloud.nodes["one"].scheduler
    assert scheduler is not None
    wait_for("the scheduler knows", lambda: image.id in scheduler._hosts.read()[host].state.images)


def test_a_server_goes_where_its_image_is(tmp_path: Path) -> None:
    options = {("scheduler", "image_locality_weight_multiplier"): 0.2}
    with Cloud(tmp_path, hosts=("one", "two"), options=options) as cloud:
        known, other = (cloud.images.add(bytes([n]) * 1024) for n in range(2))
        assert host_of_a_new(cloud, known, "two") == "two"
        await_told(cloud, "two", known)
        assert host_of_a_new(cloud, other) == "one", "the less loaded"
        assert host_of_a_new(cloud, known) == "two", "of two that are equally loaded the one that has it"
        assert host_of_a_new(cloud, other, "one") == "one"
        ahead = cloud.images.add(b"3" * 1024)
        assert cloud.service.aggregates.precache_on(cloud.admin, ["two"], [ahead.id]) == ("two",)
        await_told(cloud, "two", ahead)
        assert host_of_a_new(cloud, ahead) == "two"
        assert cloud.images.fetched.count(ahead.id) == 1


def test_a_host_has_heard_what_it_is_told_as_soon_as_it_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: set[str] = set()
    register = HostRecords.register

    def told_at_once(records: HostRecords, host: ComputeHost, images: Collection[str] = ()) -> None:
        register(records, host, images)
        if host.name == "two" and not told:
            told.update(cloud.service.aggregates.precache_on(cloud.admin, ["two"], [image.id]))
            wait_for("it is sent", lambda: cloud.nodes["one"].unsent == 0)

    monkeypatch.setattr(HostRecords, "register", told_at_once)
    cloud = Cloud(tmp_path, hosts=("one", "two"))
    image = cloud.images.add(b"1" * 1024)
    with cloud:
        assert told == {"two"}
        wait_for("it is fetched", lambda: cloud.images.fetched == [image.id])


def test_hosts_that_cant_hear_of_it_are_not_told(tmp_path: Path) -> None:
    with Cloud(tmp_path, hosts=("one", "two")) as cloud:
        image, aggregates = cloud.images.add(b"1"), cloud.service.aggregates
        rack = aggregates.create(cloud.admin, "rack")
        aggregates.add_host(cloud.admin, rack.id, "two")
        assert [aggregates.named(cloud.admin, told).hosts for told in ("rack", str(rack.id))] == [
            ("two",)
        ] * 2
        cloud.service.hosts.set_enabled(cloud.admin, "two", enabled=False, reason="r")
        assert aggregates.precache_on(cloud.admin, ["one", "two"], [image.id]) == ("one",)
        for call, error in (
            (lambda: aggregates.named(cloud.admin, "nowhere"), NotFound),
            (lambda: aggregates.precache_on(cloud.admin, ["one", "nowhere"], [image.id]), NotFound),
            (lambda: aggregates.precache_on(cloud.admin, ["one"], ["no-image"]), ImageMissing),
            (lambda: aggregates.precache_on(cloud.caller, ["one"], [image.id]), Forbidden),
        ):
            with pytest.raises(error):
                call()
