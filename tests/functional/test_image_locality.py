"""Where servers go whose image is somewhere already."""

from __future__ import annotations

from pathlib import Path

from novalite.model import ImageInfo, NewServer, Status
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
        cloud.service.aggregates.precache_on(cloud.admin, ["two"], [ahead.id])
        await_told(cloud, "two", ahead)
        assert host_of_a_new(cloud, ahead) == "two"
        assert cloud.images.fetched.count(ahead.id) == 1
