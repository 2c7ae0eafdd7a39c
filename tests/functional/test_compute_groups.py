"""Server groups by the Compute API, and where they have their servers placed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from novalite.groupings import GroupPolicy
from novalite.model import NewServer, Status
from novalite.testing.cloud import Cloud
from tests.compute_fixtures import Compute
from tests.waiting import wait_for

PATH = "/v2.1/os-server-groups"


@pytest.fixture
def groups(compute: Compute) -> Iterator[Any]:
    """A client of alice's; all her servers and groups go at the end."""
    alice = compute.as_("alice", "2.64")
    yield alice
    servers = [each["id"] for each in alice.get("/v2.1/servers").json["servers"]]
    for server_id in servers:
        alice.delete(f"/v2.1/servers/{server_id}")
    for server_id in servers:
        compute.wait(server_id, None)
    for each in alice.get(PATH).json["server_groups"]:
        assert alice.delete(f"{PATH}/{each['id']}").status_code == 204


def make(client: Any, policy: str, name: str = "g", **told: Any) -> str:
    made = client.post(PATH, json={"server_group": {"name": name, "policy": policy, **told}})
    assert made.status_code == 200, made.text
    group_id: str = made.json["server_group"]["id"]
    return group_id


def order(compute: Compute, group: Any, **more: Any) -> Any:
    """Ask for servers in a group."""
    server = {"name": "vm", "imageRef": compute.image.id, "flavorRef": "42", **more}
    body = {"server": server, "os:scheduler_hints": {"group": group}}
    return compute.as_("alice").post("/v2.1/servers", json=body)


def hosts(compute: Compute, status: str = "ACTIVE") -> list[str]:
    """Wait for all of alice's servers, and tell on which hosts they are."""
    admin = compute.as_("admin")
    ids = [each["id"] for each in compute.as_("alice").get("/v2.1/servers").json["servers"]]
    for server_id in ids:
        compute.wait(server_id, status)
    shown = [admin.get(f"/v2.1/servers/{server_id}").json["server"] for server_id in ids]
    return sorted(each["OS-EXT-SRV-ATTR:host"] for each in shown)


def test_what_each_microversion_shows(compute: Compute, groups: Any) -> None:
    old, newer = compute.as_("alice"), compute.as_("alice", "2.15")
    asked = {"server_group": {"name": " old ", "policies": ["affinity"]}}
    made = old.post(PATH, json=asked).json["server_group"]
    assert made == {
        "id": made["id"],
        "name": "old",
        "policies": ["affinity"],
        "members": [],
        "metadata": {},
    }
    soft = newer.post(PATH, json={"server_group": {"name": "soft", "policies": ["soft-affinity"]}})
    assert (soft.status_code, soft.json["server_group"]["project_id"]) == (200, "p-alice")
    newest = groups.get(f"{PATH}/{made['id']}").json["server_group"]
    assert newest == {
        "id": made["id"],
        "name": "old",
        "policy": "affinity",
        "rules": {},
        "members": [],
        "project_id": "p-alice",
        "user_id": "alice",
    }
    two = make(groups, "anti-affinity", rules={"max_server_per_host": 2})
    assert groups.get(f"{PATH}/{two}").json["server_group"]["rules"] == {"max_server_per_host": 2}
    listed = [each["id"] for each in groups.get(PATH).json["server_groups"]]
    assert len(listed) == 3
    assert [each["id"] for each in groups.get(f"{PATH}?limit=1&offset=1").json["server_groups"]] == listed[
        1:2
    ]
    limits = groups.get("/v2.1/limits").json["limits"]["absolute"]
    assert (limits["maxServerGroups"], limits["maxServerGroupMembers"], limits["totalServerGroupsUsed"]) == (
        10,
        10,
        3,
    )
    for answer, status in (
        (old.post(PATH, json={"server_group": {"name": "x", "policies": ["soft-affinity"]}}), 400),
        (old.post(PATH, json={"server_group": {"name": "x", "policies": []}}), 400),
        (newer.post(PATH, json={"server_group": {"name": "x", "policy": "affinity"}}), 400),
        (groups.post(PATH, json=asked), 400),
        (groups.post(PATH, json={"server_group": {"name": "", "policy": "affinity"}}), 400),
        (
            groups.post(
                PATH,
                json={
                    "server_group": {"name": "x", "policy": "affinity", "rules": {"max_server_per_host": 2}}
                },
            ),
            400,
        ),
        (compute.as_("bob").get(f"{PATH}/{two}"), 404),
        (compute.as_("bob").delete(f"{PATH}/{two}"), 404),
        (groups.get(f"{PATH}/none"), 404),
        (compute.as_("admin").get(f"{PATH}/{two}"), 200),
    ):
        assert answer.status_code == status, answer.text
    assert compute.as_("bob").get(f"{PATH}?all_projects=1").json["server_groups"] == []
    assert len(compute.as_("admin").get(f"{PATH}?all_projects=1").json["server_groups"]) == 3


def test_anti_affinity(compute: Compute, groups: Any) -> None:
    apart = make(groups, "anti-affinity")
    assert order(compute, apart, min_count=2).status_code == 202
    assert hosts(compute) == ["host1", "host2"]
    members = groups.get(f"{PATH}/{apart}").json["server_group"]["members"]
    assert len(members) == 2
    third = order(compute, apart).json["server"]["id"]
    compute.wait(third, "ERROR")
    fault = compute.as_("alice").get(f"/v2.1/servers/{third}").json["server"]["fault"]["message"]
    assert "host1: has 1 of the server's group, which wants at most 1 on a host" in fault
    # Where a member was there is room for another, whose place a deleted one doesn't take.
    compute.as_("alice").delete(f"/v2.1/servers/{members[0]}")
    compute.wait(members[0], None)
    assert members[0] not in groups.get(f"{PATH}/{apart}").json["server_group"]["members"]
    assert compute.as_("alice").delete(f"/v2.1/servers/{third}").status_code == 204
    assert order(compute, apart).status_code == 202
    assert hosts(compute) == ["host1", "host2"]
    # Without its group a server stays as it is.
    assert groups.delete(f"{PATH}/{apart}").status_code == 204
    assert hosts(compute) == ["host1", "host2"]


def test_a_scheduler_without_the_hook_breaks_no_policy(tmp_path: Path) -> None:
    with Cloud(tmp_path, options={("scheduler", "hooks"): ["capacity"]}) as cloud:
        service, caller = cloud.service, cloud.caller
        group = service.groups.create(caller, "g", GroupPolicy.ANTI_AFFINITY)
        image = cloud.images.add(b"\0" * 1024)
        wanted = NewServer("vm", image.id, "42", hints={"group": group.id}, min_count=2, max_count=2)
        made = service.servers.create(caller, wanted)
        wait_for(
            "one of each",
            lambda: (
                {service.servers.show(caller, each.id).status for each in made}
                == {Status.ACTIVE, Status.ERROR}
            ),
        )


@pytest.mark.parametrize(
    ("policy", "rules", "counts"),
    [
        ("affinity", None, {4}),
        ("anti-affinity", {"max_server_per_host": 2}, {2}),
        ("soft-affinity", None, {4}),
        ("soft-anti-affinity", None, {2}),
    ],
)
def test_four_at_once(
    compute: Compute, groups: Any, policy: str, rules: dict[str, int] | None, counts: set[int]
) -> None:
    group = make(groups, policy, **({"rules": rules} if rules else {}))
    assert order(compute, group, min_count=4).status_code == 202
    found = hosts(compute)
    assert len(found) == 4
    assert {found.count(host) for host in found} == counts


def test_quotas_and_hints_that_are_refused(compute: Compute, groups: Any) -> None:
    admin, quotas = compute.as_("admin", "2.50"), "/v2.1/os-quota-sets/p-alice"
    apart = make(groups, "soft-anti-affinity")
    try:
        admin.put(quotas, json={"quota_set": {"server_groups": 1, "server_group_members": 1}})
        more = groups.post(PATH, json={"server_group": {"name": "x", "policy": "affinity"}})
        assert (more.status_code, "too many server groups" in more.text) == (403, True)
        many = order(compute, apart, min_count=2)
        assert (many.status_code, "too many servers in group" in many.text) == (403, True)
        assert order(compute, apart).status_code == 202
        assert order(compute, apart).status_code == 403
        detail = groups.get(f"{quotas}/detail").json["quota_set"]["server_groups"]
        assert detail == {"limit": 1, "in_use": 1, "reserved": 0}
    finally:
        admin.delete(quotas)
    theirs = make(compute.as_("bob", "2.64"), "affinity")
    for hint, said in (
        ("g", "must be a UUID"),
        ([apart], "must be a UUID"),
        (theirs, "could not be found"),
        ("6f70656e-7374-6163-6b2d-6e6f76616c69", "could not be found"),
    ):
        refused = order(compute, hint)
        assert (refused.status_code, said in refused.text) == (400, True), refused.text
    compute.as_("bob").delete(f"{PATH}/{theirs}")
    assert hosts(compute) != []
