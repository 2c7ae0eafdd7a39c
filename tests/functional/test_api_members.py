"""Sharing over the API, seen by the owner, the member and others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server_fixtures import Api


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


def test_only_shared_images_have_members(api: Api) -> None:
    path = f"/v2/images/{api.image(visibility='private')}/members"
    assert api.as_("alice").post(path, json={"member": "p-bob"}).status_code == 403


def test_members_are_limited(api: Api) -> None:
    small = Api(api.users, image_member_quota=1)
    path = f"/v2/images/{small.image()}/members"
    assert small.as_("alice").post(path, json={"member": "a"}).status_code == 200
    assert small.as_("alice").post(path, json={"member": "b"}).status_code == 413
    small.service.close()
