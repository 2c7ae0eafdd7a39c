"""Rebuild, rescue, images, resize and shelving by the Compute API."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from novalite.db.unwanted import UnwantedImage
from novalite.errors import Forbidden, ImageServiceDown
from novalite.model import Caller
from tests.compute_fixtures import Compute
from tests.waiting import until


@pytest.fixture
def server(compute: Compute, request: pytest.FixtureRequest) -> Iterator[str]:
    """A server of alice that runs."""
    server_id = compute.server(request.node.name[:100])
    yield server_id
    if compute.as_("admin").delete(f"/v2.1/servers/{server_id}").status_code == 204:
        compute.wait(server_id, None)


def shown(compute: Compute, server_id: str, version: str = "2.52") -> dict[str, Any]:
    body: dict[str, Any] = compute.as_("admin", version).get(f"/v2.1/servers/{server_id}").json["server"]
    return body


def console(compute: Compute, server_id: str) -> str:
    output: str = compute.act(server_id, {"os-getConsoleOutput": {}}).json["output"]
    return output


def claimed(compute: Compute, host: str) -> tuple[int, int, int]:
    there = compute.cloud.service.hosts.show(Caller.administrator(), host)
    return there.vcpus_used, there.memory_mb_used, there.disk_gb_used


def failed(compute: Compute, server_id: str) -> str:
    """Return what the newest action of a server failed by."""
    path = f"/v2.1/servers/{server_id}/os-instance-actions"
    admin = compute.as_("admin", "2.51")
    action = admin.get(path).json["instanceActions"][0]
    assert action["message"] == "Error", action
    events = admin.get(f"{path}/{action['request_id']}").json["instanceAction"]["events"]
    return str(events[0]["traceback"])


def test_rebuild(compute: Compute, server: str) -> None:
    other = compute.cloud.images.add(b"other" * 100, name="other")
    asked = {"imageRef": other.id, "name": "rebuilt", "metadata": {"x": "y"}, "description": "anew"}
    asked |= {"adminPass": "secret", "accessIPv4": "192.0.2.1"}
    answer = compute.act(server, {"rebuild": asked}, version="2.19")
    assert answer.status_code == 202, answer.text
    body = answer.json["server"]
    assert (body["status"], body["adminPass"], body["image"]["id"]) == ("REBUILD", "secret", other.id)
    compute.wait(server, "ACTIVE")
    body = shown(compute, server)
    assert (body["name"], body["metadata"], body["description"]) == ("rebuilt", {"x": "y"}, "anew")
    assert body["accessIPv4"] == "192.0.2.1"
    assert other.id in compute.cloud.images.fetched
    assert console(compute, server).count("init") == 1
    compute.done(server, "os-stop", "SHUTOFF")
    compute.done(server, {"rebuild": {"imageRef": compute.image.id}}, "SHUTOFF")
    for change, status in (
        ({"imageRef": "none"}, 400),
        ({"imageRef": other.id, "accessIPv4": "nowhere"}, 400),
        ({"imageRef": other.id, "unheard": 1}, 400),
        ({}, 400),
    ):
        assert compute.act(server, {"rebuild": change}).status_code == status
    compute.act(server, "lock")
    assert compute.act(server, {"rebuild": {"imageRef": other.id}}).status_code == 409


def test_a_rebuild_that_fails_leaves_an_error_that_a_rebuild_mends(compute: Compute, server: str) -> None:
    bad = compute.cloud.images.add(b"x" * 512, disk_format="qcow2")
    compute.done(server, {"rebuild": {"imageRef": bad.id}}, "ERROR")
    assert "claims to be qcow2" in shown(compute, server)["fault"]["message"]
    compute.done(server, {"rebuild": {"imageRef": compute.image.id}}, "ACTIVE")
    assert "fault" not in shown(compute, server)


def test_rescue(compute: Compute, server: str) -> None:
    answer = compute.act(server, {"rescue": {"adminPass": "word"}})
    assert (answer.status_code, answer.json) == (200, {"adminPass": "word"})
    compute.wait(server, "RESCUE")
    assert "rescued" in console(compute, server)
    assert compute.act(server, "rescue").status_code == 409
    assert compute.act(server, "pause").status_code == 409
    compute.done(server, "unrescue", "ACTIVE")
    assert console(compute, server).count("rescued") == 1
    assert compute.act(server, {"rescue": {"rescue_image_ref": "none"}}).status_code == 400


@pytest.mark.parametrize("before", [None, "os-stop", "pause", "suspend"])
def test_an_image_of_a_server(compute: Compute, server: str, before: str | None) -> None:
    status = {None: "ACTIVE", "os-stop": "SHUTOFF", "pause": "PAUSED", "suspend": "SUSPENDED"}[before]
    if before is not None:
        compute.done(server, before, status)
    answer = compute.act(server, {"createImage": {"name": "shot", "metadata": {"mine": "yes"}}})
    assert answer.status_code == 202, answer.text
    image_id = answer.headers["location"].rpartition("/images/")[2]
    compute.wait(server, status)
    image = compute.cloud.images.show(image_id, Caller.administrator())
    assert (image.name, image.status, image.owner, image.visibility) == (
        "shot",
        "active",
        "p-alice",
        "private",
    )
    assert (image.disk_format, image.container_format, image.min_disk) == ("raw", "bare", 1)
    assert image.properties == {
        "mine": "yes",
        "image_type": "snapshot",
        "instance_uuid": server,
        "base_image_ref": compute.image.id,
        "user_id": "alice",
    }
    assert server.encode() in compute.cloud.images.data(image_id)


def test_a_server_boots_from_the_image_of_another(compute: Compute, server: str) -> None:
    answer = compute.act(server, {"createImage": {"name": "mother"}}, version="2.45")
    assert "location" not in answer.headers
    image_id = answer.json["image_id"]
    compute.wait(server, "ACTIVE")
    child = compute.server("child", imageRef=image_id)
    compute.as_("alice").delete(f"/v2.1/servers/{child}")
    compute.wait(child, None)


def test_backups_rotate(compute: Compute, server: str) -> None:
    made = []
    for number in range(3):
        asked = {"name": f"b{number}", "backup_type": "daily", "rotation": "2"}
        answer = compute.act(server, {"createBackup": asked}, version="2.45")
        made.append(answer.json["image_id"])
        compute.wait(server, "ACTIVE")
    images = compute.cloud.images
    assert images.with_properties(instance_uuid=server) == (made[2], made[1])
    other = {"createBackup": {"name": "w", "backup_type": "weekly", "rotation": 1}}
    compute.done(server, other, "ACTIVE")
    assert len(images.with_properties(instance_uuid=server, image_type="backup")) == 3
    none = {"createBackup": {"name": "n", "backup_type": "daily", "rotation": 0}}
    answer = compute.act(server, none, version="2.45")
    assert answer.content == b""
    compute.wait(server, "ACTIVE")
    assert images.with_properties(instance_uuid=server, backup_type="daily") == ()
    for bad in ({"rotation": -1}, {"rotation": "x"}, {"backup_type": 5}):
        asked = {"name": "n", "backup_type": "daily", "rotation": 1, **bad}
        assert compute.act(server, {"createBackup": asked}).status_code == 400


def test_resize(compute: Compute, server: str) -> None:
    host = shown(compute, server)["OS-EXT-SRV-ATTR:host"]
    before = claimed(compute, host)
    big = {"resize": {"flavorRef": "2"}}
    assert compute.act(server, big).status_code == 202
    compute.wait(server, "VERIFY_RESIZE")
    assert shown(compute, server)["flavor"]["original_name"] == "m1.small"
    assert "memory=2048" in console(compute, server)
    grown = (before[0], before[1] + 2048 - 128, before[2] + 20 - 1)
    assert claimed(compute, host) == grown
    assert compute.act(server, "pause").status_code == 409
    compute.done(server, "revertResize", "ACTIVE")
    assert shown(compute, server)["flavor"]["original_name"] == "m1.nano"
    assert claimed(compute, host) == before
    assert console(compute, server).endswith("ready uptime=0.00\r\n")
    compute.done(server, "os-stop", "SHUTOFF")
    compute.done(server, big, "VERIFY_RESIZE")
    confirmed = compute.act(server, "confirmResize")
    assert (confirmed.status_code, confirmed.content) == (204, b"")
    compute.wait(server, "SHUTOFF")
    assert claimed(compute, host) == grown
    assert shown(compute, server)["flavor"]["original_name"] == "m1.small"
    assert compute.act(server, "confirmResize").status_code == 409
    ways = compute.as_("admin", "2.23").get(f"/v2.1/os-migrations?instance_uuid={server}")
    names = ("migration_type", "status", "source_compute", "dest_compute")
    told = [tuple(each[name] for name in names) for each in ways.json["migrations"]]
    assert told == [("resize", "confirmed", host, host), ("resize", "reverted", host, host)]


@pytest.mark.parametrize(
    ("flavor", "status", "said"),
    [
        ("42", 400, "When resizing, instances must change flavor!"),
        ("none", 400, "Unable to locate requested flavor."),
        ("small-disk", 400, "Server disk was unable to be resized"),
        ("huge", 403, "Quota exceeded for cores"),
    ],
)
def test_a_resize_that_cannot_be(compute: Compute, server: str, flavor: str, status: int, said: str) -> None:
    for name, size in (("small-disk", {"vcpus": 1, "disk": 0}), ("huge", {"vcpus": 32, "disk": 9})):
        made = {"name": name, "id": name, "ram": 64, **size}
        assert compute.as_("admin").post("/v2.1/flavors", json={"flavor": made}).status_code in (200, 409)
    answer = compute.act(server, {"resize": {"flavorRef": flavor}})
    ((_, fault),) = answer.json.items()
    assert answer.status_code == status
    assert said in fault["message"]
    assert shown(compute, server)["OS-EXT-STS:task_state"] is None


def test_a_resize_without_room_leaves_the_server_as_it_was(compute: Compute, server: str) -> None:
    admin = compute.as_("admin")
    vast = {"name": "vast", "id": "vast", "ram": 64, "vcpus": 1, "disk": 5000}
    assert admin.post("/v2.1/flavors", json={"flavor": vast}).status_code == 200
    host = shown(compute, server)["OS-EXT-SRV-ATTR:host"]
    before = claimed(compute, host)
    compute.done(server, {"resize": {"flavorRef": "vast"}}, "ACTIVE")
    assert "too little disk" in failed(compute, server)
    assert claimed(compute, host) == before
    assert shown(compute, server)["flavor"]["original_name"] == "m1.nano"


def test_shelving(compute: Compute, server: str) -> None:
    host = shown(compute, server)["OS-EXT-SRV-ATTR:host"]
    compute.done(server, "shelve", "SHELVED_OFFLOADED")
    body = shown(compute, server)
    assert (body["OS-EXT-SRV-ATTR:host"], body["OS-EXT-STS:power_state"]) == (None, 0)
    images = compute.cloud.images
    (image_id,) = images.with_properties(instance_uuid=server)
    assert images.show(image_id, Caller.administrator()).name.endswith("-shelved")
    node = compute.cloud.nodes[host].compute
    assert node is not None
    assert server not in node._driver.list_states()
    assert compute.act(server, "shelve").status_code == 409
    compute.done(server, "unshelve", "ACTIVE")
    gone: Callable[[], bool] = lambda: not images.with_properties(instance_uuid=server)  # noqa: E731
    until(gone)
    assert image_id in images.fetched
    assert shown(compute, server)["image"]["id"] == compute.image.id
    compute.done(server, "shelve", "SHELVED_OFFLOADED")
    compute.as_("alice").delete(f"/v2.1/servers/{server}")
    assert images.with_properties(instance_uuid=server) == ()


def copies(compute: Compute, server_id: str) -> tuple[str, ...]:
    """Return the images that were made of a server."""
    return compute.cloud.images.with_properties(instance_uuid=server_id)


def unwanted(compute: Compute) -> tuple[UnwantedImage, ...]:
    """Return the images that are still to be removed."""
    return compute.cloud.nodes["host1"]._database.unwanted.take(seconds=0)


@pytest.mark.parametrize("how", ["delete", "reset", "delete what is shelved"])
def test_an_image_that_is_called_off_goes(
    compute: Compute, server: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    begun = threading.Event()

    def never(image_id: str, source: Path, values: Any, check: Callable[[], None]) -> None:
        begun.set()
        while True:
            check()
            time.sleep(0.01)

    monkeypatch.setattr(compute.cloud.images, "upload", never)
    asked = "shelve" if "shelved" in how else {"createImage": {"name": "shot"}}
    assert compute.act(server, asked).status_code == 202
    assert begun.wait(60)
    assert len(copies(compute, server)) == 1
    if how == "reset":
        assert compute.act(server, {"os-resetState": {"state": "active"}}, "admin").status_code == 202
    else:
        assert compute.as_("alice").delete(f"/v2.1/servers/{server}").status_code == 204
    until(lambda: not copies(compute, server))


def test_a_finished_image_outlives_its_server(
    compute: Compute, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order isn't recorded as done when the server goes, but its image is whole."""
    begun, images = threading.Event(), compute.cloud.images
    upload = images.upload

    def late(image_id: str, source: Path, values: Any, check: Callable[[], None]) -> None:
        upload(image_id, source, values, check)
        begun.set()
        while True:
            check()
            time.sleep(0.01)

    monkeypatch.setattr(images, "upload", late)
    assert compute.act(server, {"createImage": {"name": "shot"}}).status_code == 202
    assert begun.wait(60)
    assert compute.as_("alice").delete(f"/v2.1/servers/{server}").status_code == 204
    compute.wait(server, None)
    until(lambda: unwanted(compute) == ())
    (image_id,) = copies(compute, server)
    assert images.show(image_id, Caller.administrator()).status == "active"


def test_the_image_service_is_away_when_an_image_should_go(
    compute: Compute, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("novalite.unwanted._AGAIN_SECONDS", 0.1)
    images = compute.cloud.images
    delete, refusals = images.delete, [ImageServiceDown("away"), ImageServiceDown("away")]

    def away(image_id: str, **how: Any) -> None:
        if refusals:
            raise refusals[0]
        delete(image_id, **how)

    monkeypatch.setattr(images, "delete", away)
    compute.done(server, "shelve", "SHELVED_OFFLOADED")
    assert compute.as_("alice").delete(f"/v2.1/servers/{server}").status_code == 204
    compute.wait(server, None)
    assert len(copies(compute, server)) == 1
    refusals.clear()
    until(lambda: not copies(compute, server))


def test_an_image_that_its_owner_keeps_is_let_be(
    compute: Compute, server: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def protected(image_id: str, **_: Any) -> None:
        raise Forbidden(f"image {image_id} is protected")

    monkeypatch.setattr(compute.cloud.images, "delete", protected)
    compute.done(server, "shelve", "SHELVED_OFFLOADED")
    compute.done(server, "unshelve", "ACTIVE")
    (image_id,) = copies(compute, server)
    until(lambda: f"image {image_id}, which no server needs any more, stays" in caplog.text)
    until(lambda: unwanted(compute) == ())
