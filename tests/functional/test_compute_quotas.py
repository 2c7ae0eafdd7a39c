"""Quotas, extra specs of flavors and access to them by the Compute API."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from novalite.model import Status
from tests.compute_fixtures import KEY, Compute

SETS = "/v2.1/os-quota-sets"


@pytest.fixture
def quotas(compute: Compute) -> Iterator[str]:
    """The path of alice's project's quotas, which are the configured ones before and after."""
    yield f"{SETS}/p-alice"
    compute.as_("admin").delete(f"{SETS}/p-alice")


def test_what_is_configured(compute: Compute, quotas: str) -> None:
    alice = compute.as_("alice")
    own = alice.get(quotas).json["quota_set"]
    assert (own["id"], own["instances"], own["cores"], own["ram"]) == ("p-alice", 10, 20, 51200)
    assert own == alice.get(f"{quotas}/defaults").json["quota_set"]
    assert {"fixed_ips", "injected_files", "server_groups"} <= own.keys()
    newer = compute.as_("alice", "2.36").get(quotas).json["quota_set"]
    assert "fixed_ips" not in newer
    assert compute.as_("bob").get(quotas).status_code == 403
    detail = alice.get(f"{quotas}/detail").json["quota_set"]["instances"]
    assert detail == {"limit": 10, "in_use": 0, "reserved": 0}


def test_what_is_set_for_a_project_holds(compute: Compute, quotas: str) -> None:
    admin, alice = compute.as_("admin"), compute.as_("alice")
    changed = admin.put(quotas, json={"quota_set": {"instances": 1, "metadata_items": "1", "key_pairs": 0}})
    assert (changed.status_code, changed.json["quota_set"]["instances"]) == (200, 1)
    server_id = compute.server("only")
    body = {"name": "more", "imageRef": compute.image.id, "flavorRef": "42"}
    refused = alice.post("/v2.1/servers", json={"server": body})
    assert (refused.status_code, "instances" in refused.text) == (403, True)
    many = {"metadata": {"a": "", "b": ""}}
    assert alice.post(f"/v2.1/servers/{server_id}/metadata", json=many).status_code == 403
    pair = {"keypair": {"name": "k", "public_key": KEY}}
    assert alice.post("/v2.1/os-keypairs", json=pair).status_code == 403
    limits = alice.get("/v2.1/limits").json["limits"]["absolute"]
    assert (limits["maxTotalInstances"], limits["maxServerMeta"], limits["maxTotalKeypairs"]) == (1, 1, 0)
    low = admin.put(quotas, json={"quota_set": {"instances": 0}})
    assert low.status_code == 400
    assert "must be greater than or equal to already used and reserved 1" in low.text
    assert admin.put(quotas, json={"quota_set": {"instances": 0, "force": True}}).status_code == 200
    assert admin.delete(quotas).status_code == 202
    assert alice.get(quotas).json["quota_set"]["instances"] == 10
    alice.delete(f"/v2.1/servers/{server_id}")
    compute.wait(server_id, None)


@pytest.mark.parametrize(
    ("user", "asked", "status"),
    [
        ("alice", {"instances": 5}, 403),
        ("admin", {"instances": -2}, 400),
        ("admin", {"instances": "many"}, 400),
        ("admin", {"unheard": 5}, 400),
    ],
)
def test_what_cannot_be_set(
    compute: Compute, quotas: str, user: str, asked: dict[str, object], status: int
) -> None:
    assert compute.as_(user).put(quotas, json={"quota_set": asked}).status_code == status


def test_what_is_set_for_all(compute: Compute, quotas: str) -> None:
    admin, path = compute.as_("admin", "2.50"), "/v2.1/os-quota-class-sets/default"
    told = admin.get(path).json["quota_class_set"]
    assert (told["id"], told["cores"]) == ("default", 20)
    try:
        assert admin.put(path, json={"quota_class_set": {"cores": 7}}).json["quota_class_set"]["cores"] == 7
        assert compute.as_("alice").get(quotas).json["quota_set"]["cores"] == 7
        admin.put(quotas, json={"quota_set": {"cores": 9}})
        assert compute.as_("alice").get(quotas).json["quota_set"]["cores"] == 9
    finally:
        admin.put(path, json={"quota_class_set": {"cores": 20}})
    assert compute.as_("alice").put(path, json={"quota_class_set": {"cores": 7}}).status_code == 403


def test_a_quota_is_exact_when_eight_ask_at_once(compute: Compute, quotas: str) -> None:
    compute.as_("admin").put(quotas, json={"quota_set": {"instances": 3}})
    start = threading.Barrier(8)
    body = {"name": "raced", "imageRef": compute.image.id, "flavorRef": "42"}

    def ask(_: int) -> int:
        client = compute.as_("alice")
        start.wait()
        return client.post("/v2.1/servers", json={"server": body}).status_code

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(ask, range(8)))
    assert answers == [202] * 3 + [403] * 5
    listed = compute.as_("alice").get("/v2.1/servers?name=raced").json["servers"]
    for server in listed:
        compute.wait(server["id"], Status.ACTIVE)
        compute.as_("alice").delete(f"/v2.1/servers/{server['id']}")
        compute.wait(server["id"], None)
    assert len(listed) == 3


def test_extra_specs(compute: Compute) -> None:
    admin, alice, path = compute.as_("admin"), compute.as_("alice"), "/v2.1/flavors/84/os-extra_specs"
    added = admin.post(path, json={"extra_specs": {"hw:a": "1", "b c": 2}})
    assert added.json == {"extra_specs": {"hw:a": "1", "b c": "2"}}
    assert alice.get(path).json == added.json
    assert alice.get(f"{path}/hw:a").json == {"hw:a": "1"}
    assert admin.put(f"{path}/hw:a", json={"hw:a": "3"}).json == {"hw:a": "3"}
    assert admin.delete(f"{path}/b%20c").status_code == 200
    assert alice.get(path).json == {"extra_specs": {"hw:a": "3"}}
    for answer, status in (
        (admin.put(f"{path}/hw:a", json={"other": "3"}), 400),
        (admin.post(path, json={"extra_specs": {"ä": "3"}}), 400),
        (admin.post(path, json={"extra_specs": {"a": None}}), 400),
        (admin.delete(f"{path}/none"), 404),
        (alice.get(f"{path}/none"), 404),
        (admin.get("/v2.1/flavors/none/os-extra_specs"), 404),
        (alice.post(path, json={"extra_specs": {"a": "3"}}), 403),
        (alice.delete(f"{path}/hw:a"), 403),
    ):
        assert answer.status_code == status, answer.text
    admin.delete(f"{path}/hw:a")


def test_access_to_flavors(compute: Compute) -> None:
    admin, alice = compute.as_("admin", "2.7"), compute.as_("alice")
    hidden = {"name": "own", "id": "own", "ram": 64, "vcpus": 1, "disk": 1}
    hidden["os-flavor-access:is_public"] = "False"
    assert admin.post("/v2.1/flavors", json={"flavor": hidden}).status_code == 200
    path, act = "/v2.1/flavors/own/os-flavor-access", "/v2.1/flavors/own/action"
    assert admin.get(path).json == {"flavor_access": []}
    assert alice.get("/v2.1/flavors/own").status_code == 404
    give, take = ({f"{word}TenantAccess": {"tenant": "p-alice"}} for word in ("add", "remove"))
    given = {"flavor_access": [{"flavor_id": "own", "tenant_id": "p-alice"}]}
    assert admin.post(act, json=give).json == given
    assert admin.get(path).json == given
    assert "own" in [
        each["id"] for each in alice.get("/v2.1/flavors?sort_key=name&sort_dir=desc").json["flavors"]
    ]
    server_id = compute.server("with-own", flavorRef="own")
    for answer, status in (
        (admin.post(act, json=give), 409),
        (alice.post(act, json=take), 403),
        (compute.as_("bob").get("/v2.1/flavors/own"), 404),
        (admin.get("/v2.1/flavors/1/os-flavor-access"), 404),
        (admin.post("/v2.1/flavors/1/action", json=give), 409),
        (admin.post(act, json={}), 400),
    ):
        assert answer.status_code == status, answer.text
    assert admin.post(act, json=take).json == {"flavor_access": []}
    assert admin.post(act, json=take).status_code == 404
    assert alice.get("/v2.1/flavors/own").status_code == 404
    assert admin.delete("/v2.1/flavors/own").status_code == 202
    alice.delete(f"/v2.1/servers/{server_id}")
    compute.wait(server_id, None)
