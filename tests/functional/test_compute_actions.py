"""Actions on servers by the Compute API, what is told of them, and tags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from novalite.api.compute.microversion import text
from novalite.model import Caller
from tests.compute_fixtures import Compute

TAG_PATHS = ("tags", "tags/x")


@pytest.fixture(scope="module")
def server(compute: Compute) -> Iterator[str]:
    """A server of alice, active before and after each test that uses it well."""
    server_id = compute.server("acted")
    yield server_id
    compute.as_("admin").delete(f"/v2.1/servers/{server_id}")
    compute.wait(server_id, None)


def told(answer: Any) -> str:
    ((_, fault),) = answer.json.items()
    message: str = fault["message"]
    return message


@pytest.mark.parametrize(
    ("there", "status", "number", "back"),
    [
        ("pause", "PAUSED", 3, "unpause"),
        ("suspend", "SUSPENDED", 4, "resume"),
        ("pause", "PAUSED", 3, {"reboot": {"type": "HARD"}}),
        ("suspend", "SUSPENDED", 4, {"reboot": {"type": "HARD"}}),
    ],
)
def test_there_and_back(
    compute: Compute, server: str, there: str, status: str, number: int, back: Any
) -> None:
    compute.done(server, there, status)
    shown = compute.as_("alice").get(f"/v2.1/servers/{server}").json["server"]
    assert shown["OS-EXT-STS:power_state"] == number
    assert shown["OS-EXT-STS:vm_state"] == status.lower()
    listed = compute.as_("alice").get(f"/v2.1/servers?status={status}").json["servers"]
    assert [each["id"] for each in listed] == [server]
    refused = compute.act(server, there)
    assert refused.status_code == 409
    assert told(refused) == f"Cannot '{there}' instance {server} while it is in vm_state {status.lower()}"
    compute.done(server, back, "ACTIVE")


@pytest.mark.parametrize("action", ["unpause", "resume", "os-start"])
def test_what_an_active_server_does_not_do(compute: Compute, server: str, action: str) -> None:
    answer = compute.act(server, action)
    assert answer.status_code == 409
    assert told(answer).endswith("while it is in vm_state active")


def test_a_lock_keeps_all_but_administrators_out(compute: Compute, server: str) -> None:
    path = f"/v2.1/servers/{server}"
    alice, admin = compute.as_("alice", "2.9"), compute.as_("admin", "2.9")
    assert compute.act(server, "lock").status_code == 202
    assert alice.get(path).json["server"]["locked"] is True
    for answer in (
        compute.act(server, "os-stop"),
        compute.act(server, "pause"),
        alice.delete(path),
        alice.post(f"{path}/metadata", json={"metadata": {"a": "b"}}),
    ):
        assert (answer.status_code, told(answer)) == (409, f"Instance {server} is locked")
    compute.done(server, "pause", "PAUSED", user="admin")
    assert compute.act(server, "unlock").status_code == 202
    compute.done(server, "unpause", "ACTIVE")
    # An administrator's lock isn't the owner's to take away, nor to take over.
    assert compute.act(server, "lock", user="admin").status_code == 202
    assert compute.act(server, "lock").status_code == 202
    refused = compute.act(server, "unlock")
    assert refused.status_code == 403
    assert "unlock_override" in told(refused)
    assert admin.get(path).json["server"]["locked"] is True
    assert compute.act(server, "unlock", user="admin").status_code == 202
    assert alice.get(path).json["server"]["locked"] is False


def test_resetting_the_state(compute: Compute, server: str) -> None:
    reset = {"os-resetState": {"state": "error"}}
    assert compute.act(server, reset).status_code == 403
    assert compute.act(server, {"os-resetState": {"state": "gone"}}, user="admin").status_code == 400
    compute.done(server, reset, "ERROR", user="admin")
    assert compute.act(server, "pause").status_code == 409
    compute.done(server, {"os-resetState": {"state": "active"}}, "ACTIVE", user="admin")


def test_what_was_ordered_is_told(compute: Compute) -> None:
    server_id = compute.server("told")
    alice, admin = compute.as_("alice", "2.51"), compute.as_("admin", "2.21")
    compute.done(server_id, "os-stop", "SHUTOFF")
    compute.act(server_id, "lock")
    compute.act(server_id, "unlock")
    started = compute.act(server_id, "os-start")
    compute.wait(server_id, "ACTIVE")
    path = f"/v2.1/servers/{server_id}/os-instance-actions"
    listed = compute.as_("alice").get(path).json["instanceActions"]
    assert [each["action"] for each in listed] == ["start", "unlock", "lock", "stop", "create"]
    request_id = started.headers["x-openstack-request-id"]
    assert started.headers["x-compute-request-id"] == request_id
    assert {name: listed[0][name] for name in ("request_id", "user_id", "project_id", "message")} == {
        "request_id": request_id,
        "user_id": "alice",
        "project_id": "p-alice",
        "message": None,
    }
    assert "events" not in compute.as_("alice").get(f"{path}/{request_id}").json["instanceAction"]
    shown = alice.get(f"{path}/{request_id}").json["instanceAction"]
    (event,) = shown["events"]
    assert (event["event"], event["result"]) == ("compute_start_instance", "Success")
    assert event["start_time"] < event["finish_time"]
    assert "traceback" not in event
    made = admin.get(f"{path}/{listed[-1]['request_id']}").json["instanceAction"]["events"]
    assert [each["event"] for each in made] == [
        "compute__do_build_and_run_instance",
        "conductor_schedule_and_build_instances",
    ]
    assert compute.as_("bob").get(path).status_code == 404
    assert alice.get(f"{path}/req-none").status_code == 404
    alice.delete(f"/v2.1/servers/{server_id}")
    compute.wait(server_id, None)
    assert compute.as_("alice").get(path).status_code == 404
    assert alice.get(path).json["instanceActions"][0]["action"] == "delete"


def test_an_action_that_failed_says_so(compute: Compute) -> None:
    bad = compute.cloud.images.add(b"x" * 512, name="bad", disk_format="qcow2")
    body = {"name": "bad", "imageRef": bad.id, "flavorRef": "42"}
    server_id = compute.as_("alice").post("/v2.1/servers", json={"server": body}).json["server"]["id"]
    compute.wait(server_id, "ERROR")
    path = f"/v2.1/servers/{server_id}/os-instance-actions"
    (action,) = compute.as_("alice").get(path).json["instanceActions"]
    assert action["message"] == "Error"
    shown = compute.as_("admin").get(f"{path}/{action['request_id']}").json["instanceAction"]
    assert shown["events"][0]["result"] == "Error"
    assert "claims to be qcow2" in shown["events"][0]["traceback"]
    compute.as_("alice").delete(f"/v2.1/servers/{server_id}")


def test_tags(compute: Compute, server: str) -> None:
    path = f"/v2.1/servers/{server}"
    alice = compute.as_("alice", "2.26")
    assert alice.get(f"{path}/tags").json == {"tags": []}
    added = alice.put(f"{path}/tags/blue")
    assert (added.status_code, added.headers["location"].partition("/v2.1")[2]) == (
        201,
        f"/servers/{server}/tags/blue",
    )
    assert alice.put(f"{path}/tags/blue").status_code == 204
    assert alice.get(f"{path}/tags/blue").status_code == 204
    assert alice.get(f"{path}/tags/red").status_code == 404
    assert alice.put(f"{path}/tags", json={"tags": ["red", "green"]}).json == {"tags": ["green", "red"]}
    assert alice.get(path).json["server"]["tags"] == ["green", "red"]
    assert "tags" not in compute.as_("alice", "2.25").get(path).json["server"]
    assert alice.delete(f"{path}/tags/red").status_code == 204
    assert alice.delete(f"{path}/tags/red").status_code == 404
    for tags in (["a,b"], [""], ["x" * 61], [str(n) for n in range(51)], ["a", "a"]):
        assert alice.put(f"{path}/tags", json={"tags": tags}).status_code == 400, tags
    assert alice.put(f"{path}/tags/{'x' * 61}").status_code == 400
    assert alice.put(f"{path}/tags", json={"tags": [str(n) for n in range(50)]}).status_code == 200
    full = alice.put(f"{path}/tags/more")
    assert (full.status_code, told(full)) == (400, "The number of tags exceeded the per-server limit 50")
    assert alice.delete(f"{path}/tags").status_code == 204
    assert alice.get(f"{path}/tags").json == {"tags": []}
    assert compute.as_("bob", "2.26").get(f"{path}/tags").status_code == 404
    for below in TAG_PATHS:
        assert compute.as_("alice", "2.25").get(f"{path}/{below}").status_code == 404


def test_listing_by_tags(compute: Compute) -> None:
    colours = {"one": ["red", "blue"], "two": ["red"], "three": []}
    ids = {name: compute.server(f"tagged-{name}") for name in colours}
    alice = compute.as_("alice", "2.26")
    for name, tags in colours.items():
        alice.put(f"/v2.1/servers/{ids[name]}/tags", json={"tags": tags})
    for query, found in (
        ("tags=red", {"one", "two"}),
        ("tags=red,blue", {"one"}),
        ("tags-any=blue,green", {"one"}),
        ("not-tags=red,blue", {"two", "three"}),
        ("not-tags-any=red,blue", {"three"}),
        ("tags=red&not-tags=blue", {"two"}),
    ):
        listed = alice.get(f"/v2.1/servers?name=tagged&{query}").json["servers"]
        assert {each["name"].removeprefix("tagged-") for each in listed} == found, query
    for server_id in ids.values():
        alice.delete(f"/v2.1/servers/{server_id}")
        compute.wait(server_id, None)


def test_descriptions_and_tags_at_birth(compute: Compute) -> None:
    body = {"name": "born", "imageRef": compute.image.id, "flavorRef": "42", "networks": "none"}
    body |= {"description": "a word", "tags": ["young"]}
    alice = compute.as_("alice", "2.52")
    made = alice.post("/v2.1/servers", json={"server": body})
    assert made.status_code == 202, made.text
    server_id = made.json["server"]["id"]
    compute.wait(server_id, "ACTIVE")
    path = f"/v2.1/servers/{server_id}"
    shown = alice.get(path).json["server"]
    assert (shown["description"], shown["tags"]) == ("a word", ["young"])
    assert shown["flavor"] == {
        "original_name": "m1.nano",
        "vcpus": 1,
        "ram": 128,
        "disk": 1,
        "ephemeral": 0,
        "swap": 0,
        "extra_specs": {},
    }
    changed = alice.put(path, json={"server": {"description": None}}).json["server"]
    assert (changed["description"], changed["name"]) == (None, "born")
    assert compute.as_("alice", "2.18").put(path, json={"server": {"description": ""}}).status_code == 400
    assert "description" not in compute.as_("alice", "2.18").get(path).json["server"]
    for change in ({"networks": None}, {"networks": "all"}, {"networks": [{"uuid": "x"}]}):
        answer = alice.post("/v2.1/servers", json={"server": {**body, **change}})
        assert (answer.status_code, "networks" in told(answer)) == (400, True)
    alice.delete(path)
    compute.wait(server_id, None)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("vm_state=active", True),
        ("vm_state=stopped", False),
        ("task_state=spawning", False),
        ("power_state=1", True),
        ("power_state=4", False),
        ("config_drive=True", False),
        ("config_drive=0", True),
        ("launch_index=0", True),
        ("uuid=none", False),
        ("created_at=2000-01-01", True),
        ("launched_at=2999-01-01", False),
        ("terminated_at=2000-01-01", False),
        ("display_name=ACT", True),
        ("description=word", False),
        ("status=ACTIVE&status=PAUSED", True),
        ("status=ERROR&status=PAUSED", False),
        ("status=ACTIVE&sort_key=display_name&sort_key=launched_at&sort_dir=asc", True),
    ],
)
def test_more_filters(compute: Compute, server: str, query: str, found: bool) -> None:
    listed = compute.as_("admin").get(f"/v2.1/servers?all_tenants=1&{query}").json["servers"]
    assert (server in [each["id"] for each in listed]) is found


def test_a_wrong_status_is_an_error_from_2_38_on(compute: Compute) -> None:
    path = "/v2.1/servers?status=WELL"
    assert compute.as_("alice", "2.37").get(path).json == {"servers": []}
    assert compute.as_("alice", "2.38").get(path).status_code == 400


def test_pages_of_hypervisors_from_2_33_on(compute: Compute) -> None:
    old, new = compute.as_("admin", "2.32"), compute.as_("admin", "2.33")
    assert len(old.get("/v2.1/os-hypervisors?limit=1").json["hypervisors"]) == 2
    url, found = "/v2.1/os-hypervisors/detail?limit=1", []
    while url:
        body = new.get(url).json
        found += [each["hypervisor_hostname"] for each in body["hypervisors"]]
        assert all(isinstance(each["cpu_info"], dict) for each in body["hypervisors"])
        links = body.get("hypervisors_links", [])
        url = links[0]["href"].partition("falconframework.org")[2] if links else ""
    assert sorted(found) == ["host1", "host2"]
    assert new.get("/v2.1/os-hypervisors?marker=7").status_code == 400


def test_orders_without_a_request_have_an_id_of_their_own(compute: Compute, server: str) -> None:
    caller = Caller("alice", "p-alice", frozenset({"member", "reader"}))
    actions = compute.cloud.service.actions
    actions.pause(caller, server)
    compute.wait(server, "PAUSED")
    actions.unpause(caller, server)
    compute.wait(server, "ACTIVE")
    path = f"/v2.1/servers/{server}/os-instance-actions"
    listed = compute.as_("alice", text((2, 51))).get(path).json["instanceActions"][:2]
    assert [each["action"] for each in listed] == ["unpause", "pause"]
    assert all(each["request_id"].startswith("req-") for each in listed)
