"""Sharing over the API, seen by the owner, the member and others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server_fixtures import Api

V21 = "application/openstack-images-v2.1-json-patch"


@pytest.fixture
def path(api: Api) -> str:
    return f"/v2/images/{api.image(name='ours')}"


def test_share_accept_and_stop(api: Api, path: str) -> None:
    alice, bob = api.as_("alice"), api.as_("bob")
    made = alice.post(f"{path}/members", json={"member": "p-bob"})
    assert made.status_code == 200
    assert (made.json["member_id"], made.json["status"]) == ("p-bob", "pending")
    assert made.json["schema"] == "/v2/schemas/member"
    assert bob.get(path).status_code == 200
    assert bob.get("/v2/images").json["images"] == []
    pending = bob.get("/v2/images?member_status=pending").json["images"]
    assert [image["name"] for image in pending] == ["ours"]
    accepted = bob.put(f"{path}/members/p-bob", json={"status": "accepted"})
    assert (accepted.status_code, accepted.json["status"]) == (200, "accepted")
    assert [image["name"] for image in bob.get("/v2/images").json["images"]] == ["ours"]
    listed = alice.get(f"{path}/members").json
    assert [(each["member_id"], each["status"]) for each in listed["members"]] == [("p-bob", "accepted")]
    assert listed["schema"] == "/v2/schemas/members"
    assert alice.get(f"{path}/members/p-bob").json == listed["members"][0]
    assert alice.delete(f"{path}/members/p-bob").status_code == 204
    assert bob.get(path).status_code == 404


@pytest.mark.parametrize(
    ("user", "method", "suffix", "body", "status"),
    [
        ("bob", "GET", "", None, 404),
        ("bob", "POST", "", {"member": "p-x"}, 404),
        ("reader", "POST", "", {"member": "p-x"}, 403),
        ("alice", "POST", "", {"member": "p-carol"}, 409),
        ("alice", "POST", "", {"member": ""}, 400),
        ("alice", "POST", "", {"member": 5}, 400),
        ("alice", "POST", "", {"name": "p-x"}, 400),
        ("alice", "POST", "", [], 400),
        ("alice", "GET", "/p-x", None, 404),
        ("alice", "DELETE", "/p-x", None, 404),
        ("alice", "PUT", "/p-carol", {"status": "accepted"}, 403),
        ("admin", "PUT", "/p-x", {"status": "accepted"}, 404),
        ("admin", "PUT", "/p-carol", {"status": "maybe"}, 400),
        ("admin", "PUT", "/p-carol", {}, 400),
        ("admin", "PUT", "/p-carol", {"status": "rejected"}, 200),
    ],
)
def test_who_may_do_what(
    api: Api, path: str, user: str, method: str, suffix: str, body: Any, status: int
) -> None:
    assert api.as_("alice").post(f"{path}/members", json={"member": "p-carol"}).status_code == 200
    answer = api.as_(user).simulate_request(method, f"{path}/members{suffix}", json=body)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("visibility", ["private", "community", "public"])
def test_only_shared_images_have_members(api: Api, path: str, visibility: str) -> None:
    assert api.as_("alice").post(f"{path}/members", json={"member": "p-bob"}).status_code == 200
    change = json.dumps([{"op": "replace", "path": "/visibility", "value": visibility}])
    patched = api.as_("admin").patch(path, body=change, headers={"Content-Type": V21})
    assert patched.status_code == 200
    members, bob = f"{path}/members", f"{path}/members/p-bob"
    for method, where, body, status in (
        ("POST", members, {"member": "p-new"}, 403),
        ("GET", members, None, 403),
        ("GET", bob, None, 404),
        ("PUT", bob, {"status": "accepted"}, 403),
        ("DELETE", bob, None, 403),
    ):
        for user in ("alice", "admin"):
            answer = api.as_(user).simulate_request(method, where, json=body)
            assert answer.status_code == status, (method, where)
    back = json.dumps([{"op": "replace", "path": "/visibility", "value": "shared"}])
    api.as_("admin").patch(path, body=back, headers={"Content-Type": V21})
    kept = api.as_("bob").get(members).json["members"]
    assert [(member["member_id"], member["status"]) for member in kept] == [("p-bob", "pending")]


def test_a_member_knows_of_itself_only(api: Api, path: str) -> None:
    for project in ("p-bob", "p-carol"):
        assert api.as_("alice").post(f"{path}/members", json={"member": project}).status_code == 200
    bob = api.as_("bob")
    assert [each["member_id"] for each in bob.get(f"{path}/members").json["members"]] == ["p-bob"]
    assert bob.get(f"{path}/members/p-bob").status_code == 200
    for where in ("p-carol", "p-nobody"):
        assert bob.get(f"{path}/members/{where}").status_code == 404
        assert bob.put(f"{path}/members/{where}", json={"status": "accepted"}).status_code == 404
        assert bob.delete(f"{path}/members/{where}").status_code == 404
    assert bob.delete(f"{path}/members/p-bob").status_code == 403
    assert bob.post(f"{path}/members", json={"member": "p-x"}).status_code == 403


def test_members_are_limited(api: Api) -> None:
    small = Api(api.users, image_member_quota=1)
    path = f"/v2/images/{small.image()}/members"
    assert small.as_("alice").post(path, json={"member": "a"}).status_code == 200
    assert small.as_("alice").post(path, json={"member": "b"}).status_code == 413
    small.service.close()
