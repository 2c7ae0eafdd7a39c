"""What the Compute API's newer microversions change of servers and flavors."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.compute_fixtures import KEY, Compute
from tests.waiting import wait_for


@pytest.fixture
def server(compute: Compute) -> Iterator[str]:
    server_id = compute.server("vm")
    yield server_id
    compute.as_("alice").delete(f"/v2.1/servers/{server_id}")
    compute.wait(server_id, None)


def test_descriptions_and_specs_of_flavors(compute: Compute) -> None:
    admin, path = compute.as_("admin", "2.61"), "/v2.1/flavors/told"
    asked = {"name": "told", "id": "told", "ram": 64, "vcpus": 1, "disk": 1, "description": "small"}
    made = admin.post("/v2.1/flavors", json={"flavor": asked}).json["flavor"]
    assert (made["description"], made["extra_specs"], made["swap"]) == ("small", {}, "")
    assert compute.as_("alice", "2.75").get(path).json["flavor"]["swap"] == 0
    assert "description" not in compute.as_("alice", "2.54").get(path).json["flavor"]
    brief = compute.as_("alice", "2.55").get("/v2.1/flavors?marker=84").json["flavors"]
    assert [each["description"] for each in brief if each["id"] == "told"] == ["small"]
    for told in ("smaller", None):
        changed = admin.put(path, json={"flavor": {"description": told}})
        assert (changed.status_code, changed.json["flavor"]["description"]) == (200, told)
    for answer, status in (
        (admin.put(path, json={"flavor": {}}), 400),
        (admin.put(path, json={"flavor": {"description": "\0"}}), 400),
        (admin.put("/v2.1/flavors/none", json={"flavor": {"description": "x"}}), 404),
        (compute.as_("admin", "2.54").put(path, json={"flavor": {"description": "x"}}), 404),
        (compute.as_("alice", "2.55").put(path, json={"flavor": {"description": "x"}}), 403),
        (compute.as_("admin", "2.54").post("/v2.1/flavors", json={"flavor": {**asked, "name": "x"}}), 400),
    ):
        assert answer.status_code == status, answer.text
    assert admin.delete(path).status_code == 202


def rebuilt(compute: Compute, server: str, version: str, status: int = 202, **told: Any) -> Any:
    body = {"rebuild": {"imageRef": compute.image.id, **told}}
    answer = compute.as_("alice", version).post(f"/v2.1/servers/{server}/action", json=body)
    assert answer.status_code == status, answer.text
    if status == 202:
        compute.wait(server, "ACTIVE")
        return answer.json["server"]
    return answer.text


def test_a_rebuild_with_another_key_and_user_data(compute: Compute, server: str) -> None:
    alice = compute.as_("alice", "2.75")
    alice.post("/v2.1/os-keypairs", json={"keypair": {"name": "k", "public_key": KEY}})
    data = base64.b64encode(b"#!/bin/sh\n").decode()
    assert "key_name" not in rebuilt(compute, server, "2.53")
    told = rebuilt(compute, server, "2.57", key_name="k", user_data=data)
    assert (told["key_name"], told["user_data"]) == ("k", data)
    kept = rebuilt(compute, server, "2.57")
    assert (kept["key_name"], kept["user_data"]) == ("k", data)
    full = rebuilt(compute, server, "2.75", key_name=None, user_data=None)
    assert (full["key_name"], full["user_data"], full["OS-EXT-STS:vm_state"]) == (None, None, "active")
    assert "Invalid key_name" in rebuilt(compute, server, "2.54", 400, key_name="none")
    assert "base64" in rebuilt(compute, server, "2.57", 400, user_data="!")
    rebuilt(compute, server, "2.53", 400, key_name="k")
    rebuilt(compute, server, "2.56", 400, user_data=data)
    assert "aren't verified" in rebuilt(compute, server, "2.63", 400, trusted_image_certificates=["a"])
    rebuilt(compute, server, "2.63", trusted_image_certificates=None)
    alice.delete("/v2.1/os-keypairs/k")


def test_what_is_shown_of_a_server(compute: Compute, server: str) -> None:
    path, admin = f"/v2.1/servers/{server}", compute.as_("admin", "2.73")
    shown = compute.as_("alice", "2.71").get(path).json["server"]
    assert (shown["trusted_image_certificates"], shown["server_groups"]) == (None, [])
    assert "locked_reason" not in shown
    assert "server_groups" not in compute.as_("alice", "2.71").get("/v2.1/servers/detail").json["servers"][0]
    assert compute.as_("alice", "2.71").put(path, json={"server": {}}).json["server"]["server_groups"] == []
    compute.act(server, {"lock": {"locked_reason": "audit"}}, version="2.73")
    listed = admin.get("/v2.1/servers/detail?all_tenants=1&locked=True").json["servers"]
    assert [(each["id"], each["locked_reason"]) for each in listed] == [(server, "audit")]
    assert admin.get("/v2.1/servers?all_tenants=1&locked=False&sort_key=locked").json["servers"] == []
    compute.act(server, "unlock")
    assert compute.as_("alice", "2.78").get(f"{path}/topology").json == {"nodes": [], "pagesize_kb": None}
    assert compute.as_("alice", "2.77").get(f"{path}/topology").status_code == 404
    assert compute.as_("bob", "2.78").get(f"{path}/topology").status_code == 404


def test_filters(compute: Compute, server: str) -> None:
    def found(user: str, version: str, query: str) -> Any:
        answer = compute.as_(user, version).get(f"/v2.1/servers?{query}")
        return len(answer.json["servers"]) if answer.status_code == 200 else answer.status_code

    assert found("alice", "2.65", "changes-before=2020-01-01T00:00:00Z") == 1
    assert found("alice", "2.66", "changes-before=2020-01-01T00:00:00Z") == 0
    assert (
        found("alice", "2.66", "changes-since=2026-01-01T00:00:00Z&changes-before=2025-01-01T00:00:00Z")
        == 400
    )
    assert found("alice", "2.82", "vm_state=stopped") == 1
    assert found("alice", "2.83", "vm_state=stopped") == 0
    assert found("alice", "2.83", "vm_state=active&user_id=alice&config_drive=false") == 1
    assert found("alice", "2.74", "odd=1") == 1
    assert found("alice", "2.75", "odd=1") == 400
    assert found("alice", "2.75", "limit=1&sort_key=uuid&sort_dir=asc&name=vm&status=ACTIVE") == 1
    for path in (
        "flavors",
        "flavors/detail",
        "os-keypairs",
        "limits",
        "os-server-groups",
        "os-quota-sets/p-alice",
    ):
        assert compute.as_("alice", "2.74").get(f"/v2.1/{path}?odd=1").status_code == 200
        assert compute.as_("alice", "2.75").get(f"/v2.1/{path}?odd=1").status_code == 400
    actions = f"/v2.1/servers/{server}/os-instance-actions"
    assert compute.as_("alice", "2.58").get(f"{actions}?limit=1").status_code == 200
    assert compute.as_("alice", "2.58").get(f"{actions}?odd=1").status_code == 400


def test_a_host_that_is_asked_for(compute: Compute) -> None:
    body = {"name": "vm", "imageRef": compute.image.id, "flavorRef": "42", "networks": "none"}

    def ask(user: str, version: str = "2.74", **told: Any) -> Any:
        return compute.as_(user, version).post("/v2.1/servers", json={"server": {**body, **told}})

    made = ask("admin", host="host2", hypervisor_hostname="host2").json["server"]["id"]
    compute.wait(made, "ACTIVE")
    shown = compute.as_("admin").get(f"/v2.1/servers/{made}").json["server"]
    assert shown["OS-EXT-SRV-ATTR:host"] == "host2"
    for answer, status in (
        (ask("alice", host="host2"), 403),
        (ask("admin", host="unheard"), 400),
        (ask("admin", host="host1", hypervisor_hostname="host2"), 400),
        (ask("admin", host="host1", availability_zone="nova:host1"), 400),
        (ask("admin", "2.73", host="host1"), 400),
        (ask("admin", trusted_image_certificates=["a"]), 400),
    ):
        assert answer.status_code == status, answer.text
    compute.as_("admin").delete(f"/v2.1/servers/{made}")
    compute.wait(made, None)


def test_zones_of_unshelved_servers_and_images_fetched_ahead(compute: Compute, server: str) -> None:
    admin = compute.as_("admin", "2.81")
    made = admin.post("/v2.1/os-aggregates", json={"aggregate": {"name": "a", "availability_zone": "east"}})
    path = f"/v2.1/os-aggregates/{made.json['aggregate']['id']}"
    empty = {"OS-EXT-SRV-ATTR:host": "host1"}
    hosts = {each["id"] for each in compute.as_("alice").get("/v2.1/servers").json["servers"]}
    assert hosts == {server}
    on = compute.as_("admin").get(f"/v2.1/servers/{server}").json["server"]["OS-EXT-SRV-ATTR:host"]
    other = "host2" if on == empty["OS-EXT-SRV-ATTR:host"] else "host1"
    assert admin.post(f"{path}/action", json={"add_host": {"host": other}}).status_code == 200
    compute.done(server, "shelve", "SHELVED_OFFLOADED")
    assert compute.act(server, {"unshelve": {"availability_zone": "none"}}, version="2.77").status_code == 400
    assert compute.act(server, {"unshelve": {"zone": "east"}}, version="2.77").status_code == 400
    compute.done(server, {"unshelve": {"availability_zone": "east"}}, "ACTIVE", version="2.77")
    shown = compute.as_("admin").get(f"/v2.1/servers/{server}").json["server"]
    assert (shown["OS-EXT-SRV-ATTR:host"], shown["OS-EXT-AZ:availability_zone"]) == (other, "east")
    image = compute.cloud.images.add(b"1" * 512, name="ahead")
    before = len(compute.cloud.images.fetched)
    asked = {"cache": [{"id": image.id}]}
    assert admin.post(f"{path}/images", json=asked).status_code == 202
    wait_for("the image is fetched", lambda: image.id in compute.cloud.images.fetched[before:])
    for answer, status in (
        (admin.post(f"{path}/images", json={"cache": asked["cache"] * 2}), 400),
        (admin.post(f"{path}/images", json={"cache": [{"id": "none"}]}), 400),
        (admin.post("/v2.1/os-aggregates/999999/images", json=asked), 404),
        (compute.as_("admin", "2.80").post(f"{path}/images", json=asked), 404),
        (compute.as_("alice", "2.81").post(f"{path}/images", json=asked), 403),
    ):
        assert answer.status_code == status, answer.text
    # What is on its host still has its zone from there.
    compute.done(server, "shelve", "SHELVED_OFFLOADED")
    compute.done(server, {"unshelve": {"availability_zone": "nova"}}, "ACTIVE", version="2.77")
    admin.post(f"{path}/action", json={"remove_host": {"host": other}})
    assert admin.delete(path).status_code == 200


def test_extra_specs_that_nova_knows(compute: Compute) -> None:
    path = "/v2.1/flavors/84/os-extra_specs"
    old, new = compute.as_("admin", "2.85"), compute.as_("admin", "2.86")
    fine = {
        "hw:cpu_policy": "shared",
        "hw:numa_cpus.0": "0-3,^1",
        "hw:mem_page_size": "2MiB",
        "own": "x",
        "hw:boot_menu": "yes",
        "quota:cpu_quota": "-1",
        "resources1:VCPU": "2",
        "foo:bar": "baz",
        "trait:CUSTOM_FAST": "required",
        "capabilities:cpu_info:arch": "s== x",
        "hw_rng:rate_bytes": 0,
    }
    assert new.post(path, json={"extra_specs": fine}).status_code == 200
    for name, value in (
        ("hw:cpu_policy", "mine"),
        ("hw:unheard", "1"),
        ("hw:numa_nodes", "0"),
        ("hw:redirected_usb_ports", "16"),
        ("hw:boot_menu", "perhaps"),
        ("resources:ELEPHANTS", "1"),
        ("trait:fast", "required"),
        ("quota:cpu_shares", "many"),
    ):
        refused = new.put(f"{path}/{name}", json={name: value})
        assert (refused.status_code, name in refused.text) == (400, True), refused.text
    assert old.put(f"{path}/hw:unheard", json={"hw:unheard": "1"}).status_code == 200
    for name in (*fine, "hw:unheard"):
        assert new.delete(f"{path}/{name}").status_code == 200


def test_hypervisors_without_sizes(compute: Compute) -> None:
    admin = compute.as_("admin", "2.88")
    one = admin.get("/v2.1/os-hypervisors/detail").json["hypervisors"][0]
    assert " up " in one["uptime"]
    assert not {"vcpus", "memory_mb", "cpu_info", "running_vms", "local_gb"} & one.keys()
    for path in ("statistics", f"{one['id']}/uptime"):
        assert admin.get(f"/v2.1/os-hypervisors/{path}").status_code == 404
        assert compute.as_("admin", "2.87").get(f"/v2.1/os-hypervisors/{path}").status_code == 200


def test_host_names(compute: Compute, server: str) -> None:
    path, shown = f"/v2.1/servers/{server}", "OS-EXT-SRV-ATTR:hostname"
    alice = compute.as_("alice", "2.90")
    assert alice.get(path).json["server"][shown] == "vm"
    assert shown not in compute.as_("alice", "2.89").get(path).json["server"]
    # what a server is called doesn't say what its guest calls itself
    assert alice.put(path, json={"server": {"name": "new"}}).json["server"][shown] == "vm"
    changed = alice.put(path, json={"server": {"hostname": "web-1"}}).json["server"]
    assert (changed["name"], changed[shown]) == ("new", "web-1")
    assert rebuilt(compute, server, "2.90", hostname="web-2")[shown] == "web-2"
    found = alice.get("/v2.1/servers?hostname=^web-[0-9]$").json["servers"]
    assert [each["id"] for each in found] == [server]
    assert alice.get("/v2.1/servers?hostname=db").json["servers"] == []
    body = {"name": "x", "imageRef": compute.image.id, "flavorRef": "42", "networks": "auto"}

    def ask(version: str, **told: Any) -> int:
        answer = compute.as_("alice", version).post("/v2.1/servers", json={"server": {**body, **told}})
        if answer.status_code == 202:
            made = f"/v2.1/servers/{answer.json['server']['id']}"
            assert alice.get(made).json["server"][shown] == told["hostname"]
            alice.delete(made)
        return answer.status_code

    assert ask("2.90", hostname="db1") == 202
    assert ask("2.89", hostname="db1") == 400
    assert ask("2.90", hostname="db1", min_count=2) == 400
    assert ask("2.93", hostname="db1.example.org") == 400
    assert ask("2.94", hostname="db1.example.org") == 202
    assert ask("2.94", hostname="db 1") == 400
    assert ask("2.94", hostname="x" * 256) == 400


def test_key_pairs_are_given(compute: Compute) -> None:
    new, path = compute.as_("alice", "2.92"), "/v2.1/os-keypairs"
    assert new.post(path, json={"keypair": {"name": "me@home.org"}}).status_code == 400
    assert new.post(path, json={"keypair": {"name": "me@home.org", "public_key": KEY}}).status_code == 201
    assert new.delete(f"{path}/me@home.org").status_code == 204


def test_where_servers_are_unshelved(compute: Compute) -> None:
    admin = compute.as_("admin", "2.91")
    made = admin.post("/v2.1/os-aggregates", json={"aggregate": {"name": "a", "availability_zone": "east"}})
    path = f"/v2.1/os-aggregates/{made.json['aggregate']['id']}/action"
    admin.post(path, json={"add_host": {"host": "host2"}})
    server_id = compute.server("pinned", availability_zone="east")

    def unshelved(where: Any, user: str = "admin") -> Any:
        return compute.act(server_id, {"unshelve": where}, user=user, version="2.91")

    def goes(where: Any, user: str = "admin") -> str:
        answer = unshelved(where, user)
        assert answer.status_code == 202, answer.text
        compute.wait(server_id, "ACTIVE")
        host: str = admin.get(f"/v2.1/servers/{server_id}").json["server"]["OS-EXT-SRV-ATTR:host"]
        compute.done(server_id, "shelve", "SHELVED_OFFLOADED")
        return host

    assert unshelved({"host": "host1"}).status_code == 409  # it runs
    compute.done(server_id, "shelve", "SHELVED_OFFLOADED")
    assert unshelved({"host": "host2"}, "alice").status_code == 403
    assert unshelved({"host": "host1"}).status_code == 409  # it's pinned to another zone
    assert unshelved({"host": "unheard"}).status_code == 400
    assert unshelved({"host": "host1", "availability_zone": "east"}).status_code == 409
    assert goes(None, "alice") == goes({}, "alice") == "host2"
    assert goes({"availability_zone": None, "host": "host1"}) == "host1"
    # now it's pinned nowhere, and the host was for that once
    assert goes({"host": "host2"}) == "host2"
    assert goes({"availability_zone": "nova"}, "alice") == "host1"
    assert goes(None, "alice") == "host1"
    compute.as_("alice").delete(f"/v2.1/servers/{server_id}")
    compute.wait(server_id, None)
    assert admin.post(path, json={"remove_host": {"host": "host2"}}).status_code == 200
    admin.delete(path.removesuffix("/action"))


def test_pinned_zones_and_what_a_server_was_asked_with(compute: Compute) -> None:
    image = compute.cloud.images.add(b"2" * 512, name="told", properties={"os_distro": "plan9"})
    body = {"name": "vm", "imageRef": image.id, "flavorRef": "42", "availability_zone": "nova"}
    wanted = {"different_host": str(uuid.uuid4()), "mine": "x"}
    hints = {"server": body, "os:scheduler_hints": wanted}
    for wrong in ({"different_host": "x"}, {"same_host": ["x"]}, {"same_host": 1}, {"query": 1}):
        refused = compute.as_("alice").post("/v2.1/servers", json={**hints, "os:scheduler_hints": wrong})
        assert refused.status_code == 400
        assert next(iter(wrong)) in refused.text
    path = f"/v2.1/servers/{compute.as_('alice').post('/v2.1/servers', json=hints).json['server']['id']}"
    compute.wait(path.rpartition("/")[2], "ACTIVE")
    alice = compute.as_("alice", "2.104")
    shown = alice.get(path).json["server"]
    assert (shown["pinned_availability_zone"], shown["scheduler_hints"]) == ("nova", wanted)
    assert shown["image"]["properties"] == {"os_distro": "plan9"}
    older = compute.as_("alice", "2.95").get(path).json["server"]
    assert not {"pinned_availability_zone", "scheduler_hints"} & older.keys()
    assert "properties" not in older["image"]

    def pinned(zone: str | None) -> Any:
        answer = alice.put(path, json={"server": {"pinned_availability_zone": zone}})
        return (
            answer.json["server"]["pinned_availability_zone"]
            if answer.status_code == 200
            else (answer.status_code)
        )

    assert pinned("nova") == "nova"
    assert pinned("east") == 409
    assert pinned(None) is None
    assert pinned("east") == 409
    assert pinned("nova") == "nova"
    early = compute.as_("alice", "2.103").put(path, json={"server": {"pinned_availability_zone": None}})
    assert early.status_code == 400
    alice.delete(path)
    compute.wait(path.rpartition("/")[2], None)


def test_leaner_flavors_and_queries(compute: Compute) -> None:
    new, old = compute.as_("admin", "2.102"), compute.as_("admin", "2.101")
    flavor = new.get("/v2.1/flavors/42").json["flavor"]
    assert not {"rxtx_factor", "OS-FLV-DISABLED:disabled"} & flavor.keys()
    assert [each["name"] for each in new.get("/v2.1/flavors?name=^m1.nano$").json["flavors"]] == ["m1.nano"]
    assert old.get("/v2.1/flavors?name=nano").status_code == 400
    asked = {"name": "x", "ram": 64, "vcpus": 1, "disk": 1, "rxtx_factor": 1.0}
    assert new.post("/v2.1/flavors", json={"flavor": asked}).status_code == 400
    for path in ("os-aggregates", "extensions", "flavors/42", "os-availability-zone", "limits"):
        assert new.get(f"/v2.1/{path}?odd=1").status_code == 400
        assert compute.as_("admin", "2.74").get(f"/v2.1/{path}?odd=1").status_code == 200
    assert (
        new.post("/v2.1/servers?odd=1", json={}).json["badRequest"]["message"].startswith("Invalid input for")
    )
    assert "query" not in new.post("/v2.1/servers?odd=1", json={}).text
    assert new.delete("/v2.1/os-quota-sets/p-alice?odd=1").status_code == 400
