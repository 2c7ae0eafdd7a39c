"""Host aggregates by the Compute API, and the zones that they make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.compute_fixtures import Compute

PATH = "/v2.1/os-aggregates"


@pytest.fixture
def aggregates(compute: Compute) -> Iterator[Any]:
    """A client of the administrator's; all aggregates go at the end."""
    admin = compute.as_("admin", "2.41")
    yield admin
    for each in admin.get(PATH).json["aggregates"]:
        for host in each["hosts"]:
            admin.post(f"{PATH}/{each['id']}/action", json={"remove_host": {"host": host}})
        assert admin.delete(f"{PATH}/{each['id']}").status_code == 200


def make(admin: Any, name: str, zone: str | None = None) -> str:
    asked = {"name": name, "availability_zone": zone} if zone else {"name": name}
    made = admin.post(PATH, json={"aggregate": asked})
    assert made.status_code == 200, made.text
    return f"{PATH}/{made.json['aggregate']['id']}"


def act(admin: Any, path: str, action: str, **told: Any) -> Any:
    return admin.post(f"{path}/action", json={action: told})


def test_the_life_of_an_aggregate(compute: Compute, aggregates: Any) -> None:
    made = aggregates.post(PATH, json={"aggregate": {"name": " fast ", "availability_zone": "quick"}})
    first = made.json["aggregate"]
    assert (made.status_code, first["name"], "hosts" in first, len(first["uuid"])) == (200, "fast", False, 36)
    path = f"{PATH}/{first['id']}"
    shown = aggregates.get(path).json["aggregate"]
    assert (shown["hosts"], shown["metadata"], shown["updated_at"]) == (
        [],
        {"availability_zone": "quick"},
        None,
    )
    assert "uuid" not in compute.as_("admin").get(path).json["aggregate"]
    assert act(aggregates, path, "add_host", host="host1").json["aggregate"]["hosts"] == ["host1"]
    told = act(aggregates, path, "set_metadata", metadata={"disk": "nvme", "gone": None}).json["aggregate"]
    assert told["metadata"] == {"disk": "nvme", "availability_zone": "quick"}
    assert act(aggregates, path, "set_metadata", metadata={"disk": None}).json["aggregate"]["metadata"] == {
        "availability_zone": "quick"
    }
    renamed = aggregates.put(path, json={"aggregate": {"name": "faster"}}).json["aggregate"]
    assert (renamed["name"], renamed["availability_zone"], renamed["hosts"]) == ("faster", "quick", ["host1"])
    assert [each["name"] for each in aggregates.get(PATH).json["aggregates"]] == ["faster"]
    assert aggregates.delete(path).status_code == 400
    assert act(aggregates, path, "remove_host", host="host1").json["aggregate"]["hosts"] == []
    assert aggregates.delete(path).status_code == 200
    assert aggregates.get(path).status_code == 404


def test_what_is_refused(compute: Compute, aggregates: Any) -> None:
    path, other = make(aggregates, "one", "a"), make(aggregates, "two", "b")
    act(aggregates, path, "add_host", host="host1")
    for answer, status in (
        (aggregates.post(PATH, json={"aggregate": {"name": "one"}}), 409),
        (aggregates.post(PATH, json={"aggregate": {"name": "x" * 256}}), 400),
        (aggregates.post(PATH, json={"aggregate": {"name": "x", "availability_zone": "a:b"}}), 400),
        (aggregates.post(PATH, json={"aggregate": {"name": "x", "more": 1}}), 400),
        (aggregates.put(other, json={"aggregate": {"name": "one"}}), 409),
        (aggregates.put(path, json={"aggregate": {}}), 400),
        (aggregates.put(path, json={"aggregate": {"availability_zone": None}}), 400),
        (act(aggregates, path, "set_metadata", metadata={"availability_zone": None}), 400),
        (act(aggregates, path, "set_metadata", metadata={"ä": "1"}), 400),
        (act(aggregates, path, "add_host", host="host1"), 409),
        (act(aggregates, path, "add_host", host="unheard"), 404),
        (act(aggregates, path, "remove_host", host="host2"), 404),
        (act(aggregates, path, "explode"), 400),
        # host1 is in zone a already
        (act(aggregates, other, "add_host", host="host1"), 409),
        (aggregates.get(f"{PATH}/-1"), 404),
        (aggregates.get(f"{PATH}/one"), 400),
        (aggregates.delete(f"{PATH}/999999"), 404),
    ):
        assert answer.status_code == status, answer.text
    plain = make(aggregates, "without a zone")
    assert act(aggregates, plain, "add_host", host="host1").status_code == 200
    assert aggregates.put(plain, json={"aggregate": {"availability_zone": "b"}}).status_code == 400
    assert aggregates.put(plain, json={"aggregate": {"availability_zone": "a"}}).status_code == 200


def test_an_aggregate_makes_the_zone_of_its_hosts(compute: Compute, aggregates: Any) -> None:
    alice = compute.as_("alice")
    path = make(aggregates, "zoned", "east")
    body = {"name": "vm", "imageRef": compute.image.id, "flavorRef": "42", "availability_zone": "east"}
    assert alice.post("/v2.1/servers", json={"server": body}).status_code == 400
    act(aggregates, path, "add_host", host="host2")
    zones = alice.get("/v2.1/os-availability-zone").json["availabilityZoneInfo"]
    assert [each["zoneName"] for each in zones] == ["east", "nova"]
    services = aggregates.get("/v2.1/os-services").json["services"]
    assert {each["host"]: each["zone"] for each in services} == {"host1": "nova", "host2": "east"}
    made = [compute.server(f"vm{n}", availability_zone="east") for n in range(2)]
    for server_id in made:
        shown = compute.as_("admin").get(f"/v2.1/servers/{server_id}").json["server"]
        assert (shown["OS-EXT-SRV-ATTR:host"], shown["OS-EXT-AZ:availability_zone"]) == ("host2", "east")
    plain = make(aggregates, "plain")
    nova = make(aggregates, "nova again", "nova")
    for answer, status in (
        # the servers stay in their zone
        (act(aggregates, path, "remove_host", host="host2"), 409),
        (aggregates.put(path, json={"aggregate": {"availability_zone": "west"}}), 400),
        (act(aggregates, path, "set_metadata", metadata={"availability_zone": "west"}), 400),
        (act(aggregates, nova, "add_host", host="host2"), 409),
        # nothing changes for them by these
        (act(aggregates, plain, "add_host", host="host2"), 200),
        (act(aggregates, plain, "remove_host", host="host2"), 200),
        (act(aggregates, nova, "add_host", host="host1"), 200),
    ):
        assert answer.status_code == status, answer.text
    for server_id in made:
        alice.delete(f"/v2.1/servers/{server_id}")
        compute.wait(server_id, None)
    assert act(aggregates, path, "remove_host", host="host2").status_code == 200


def test_for_administrators_only(compute: Compute, aggregates: Any) -> None:
    path, alice = make(aggregates, "hidden"), compute.as_("alice")
    for answer, rule in (
        (alice.get(PATH), "index"),
        (alice.get(path), "show"),
        (alice.post(PATH, json={"aggregate": {"name": "x"}}), "create"),
        (alice.put(path, json={"aggregate": {"name": "x"}}), "update"),
        (alice.delete(path), "delete"),
        (act(alice, path, "add_host", host="host1"), "add_host"),
        (act(alice, path, "remove_host", host="host1"), "remove_host"),
        (act(alice, path, "set_metadata", metadata={}), "set_metadata"),
    ):
        assert (answer.status_code, f"os_compute_api:os-aggregates:{rule} " in answer.text) == (403, True)
