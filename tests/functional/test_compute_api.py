"""The Compute API on a whole cloud with the fake virt driver, in this process."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

import falcon.testing
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from glancelike.web.routes import Route
from novalite.api.compute.microversion import MAX, text
from novalite.api.compute.routes import ROUTES
from tests.compute_fixtures import KEY, Compute
from tests.server_fixtures import client_of

Ask = Callable[..., falcon.testing.Result]


def names(answer: falcon.testing.Result) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [server["name"] for server in answer.json["servers"]]


def test_versions(compute: Compute) -> None:
    (version,) = compute.as_(None).get("/").json["versions"]
    assert (version["id"], version["status"]) == ("v2.1", "CURRENT")
    assert (version["min_version"], version["version"]) == ("2.1", text(MAX))
    for path in ("/v2.1", "/v2.1/"):
        shown = compute.as_(None).get(path).json["version"]
        assert shown["media-types"][0]["type"] == "application/vnd.openstack.compute+json;version=2.1"
        assert {name: shown[name] for name in version} == version
    identity = compute.as_(None).get("/v3").json["version"]
    assert identity["id"].startswith("v3.")


@pytest.mark.parametrize(
    ("headers", "status", "used"),
    [
        ({}, 200, "2.1"),
        ({"OpenStack-API-Version": "compute 2.10"}, 200, "2.10"),
        ({"OpenStack-API-Version": "volume 3.50, compute 2.3"}, 200, "2.3"),
        ({"OpenStack-API-Version": "volume 3.50"}, 200, "2.1"),
        ({"OpenStack-API-Version": "compute latest"}, 200, text(MAX)),
        ({"X-OpenStack-Nova-API-Version": "2.5"}, 200, "2.5"),
        ({"OpenStack-API-Version": "compute 2.6", "X-OpenStack-Nova-API-Version": "2.5"}, 200, "2.6"),
        ({"OpenStack-API-Version": f"compute 2.{MAX[1] + 1}"}, 406, None),
        ({"OpenStack-API-Version": "compute 2.0"}, 406, None),
        ({"OpenStack-API-Version": "compute 3.1"}, 406, None),
        ({"OpenStack-API-Version": "compute 2"}, 400, None),
        ({"OpenStack-API-Version": "compute 2.01"}, 400, None),
        ({"X-OpenStack-Nova-API-Version": "new"}, 400, None),
    ],
)
def test_microversions(compute: Compute, headers: dict[str, str], status: int, used: str | None) -> None:
    answer = client_of(compute.app, "alice", headers).get("/v2.1/flavors")
    assert answer.status_code == status
    if used is not None:
        assert answer.headers["openstack-api-version"] == f"compute {used}"
        assert answer.headers["x-openstack-nova-api-version"] == used
        assert "OpenStack-API-Version" in answer.headers["vary"]
    elif status == 406:
        assert f"Minimum is 2.1 and maximum is {text(MAX)}" in answer.json["computeFault"]["message"]


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", [route for route in ROUTES if not route.public], ids=name_of)
def test_nothing_without_credentials(compute: Compute, route: Route) -> None:
    path = re.sub(r"\{\w+\}", "1", route.path)
    answer = compute.as_(None).simulate_request(route.method, path)
    assert answer.status_code == 401
    assert answer.json["unauthorized"]["code"] == 401


@pytest.mark.parametrize(
    ("method", "path", "status", "fault"),
    [
        ("GET", "/v2.1/servers/none", 404, "itemNotFound"),
        ("GET", "/v2.1/nothing", 404, "itemNotFound"),
        ("GET", "/v2/servers", 404, "itemNotFound"),
        ("PATCH", "/v2.1/servers", 405, "badMethod"),
        ("POST", "/v2.1/servers", 400, "badRequest"),
        ("GET", "/v2.1/os-hypervisors", 403, "forbidden"),
        ("DELETE", "/v2.1/flavors/1", 403, "forbidden"),
    ],
)
def test_error_bodies(compute: Compute, method: str, path: str, status: int, fault: str) -> None:
    answer = compute.as_("alice").simulate_request(method, path)
    assert answer.status_code == status
    assert set(answer.json) == {fault}
    assert answer.json[fault]["code"] == status
    assert answer.json[fault]["message"]
    assert answer.headers["x-openstack-request-id"].startswith("req-")


def test_the_life_of_a_server(compute: Compute) -> None:
    alice, admin = compute.as_("alice"), compute.as_("admin", "latest")
    alice.post("/v2.1/os-keypairs", json={"keypair": {"name": "life", "public_key": KEY}})
    user_data = base64.b64encode(b"#!/bin/sh\n").decode()
    server_id = compute.server(
        "Life 1", key_name="life", metadata={"a": "b"}, user_data=user_data, availability_zone="nova"
    )
    path = f"/v2.1/servers/{server_id}"
    shown = alice.get(path).json["server"]
    assert {name: shown[name] for name in ("name", "status", "tenant_id", "user_id", "key_name")} == {
        "name": "Life 1",
        "status": "ACTIVE",
        "tenant_id": "p-alice",
        "user_id": "alice",
        "key_name": "life",
    }
    assert (shown["image"]["id"], shown["flavor"]["id"]) == (compute.image.id, "42")
    assert shown["metadata"] == {"a": "b"}
    assert (shown["OS-EXT-STS:vm_state"], shown["OS-EXT-STS:power_state"]) == ("active", 1)
    assert len(shown["hostId"]) == 56
    assert "OS-EXT-SRV-ATTR:host" not in shown
    assert "locked" not in shown
    seen = admin.get(path).json["server"]
    assert seen["OS-EXT-SRV-ATTR:host"] in ("host1", "host2")
    assert (seen["host_status"], seen["locked"]) == ("UP", False)
    assert seen["OS-EXT-SRV-ATTR:user_data"] == user_data
    assert seen["OS-EXT-SRV-ATTR:hostname"] == "life-1"

    renamed = alice.put(path, json={"server": {"name": "Life 2"}})
    assert renamed.json["server"]["name"] == "Life 2"
    act: Ask = lambda action: alice.post(f"{path}/action", json=action)  # noqa: E731
    assert act({"os-start": None}).status_code == 409
    assert act({"os-stop": None}).status_code == 202
    compute.wait(server_id, "SHUTOFF")
    assert alice.get(path).json["server"]["OS-EXT-STS:power_state"] == 4
    assert act({"os-start": {}}).status_code == 202
    compute.wait(server_id, "ACTIVE")
    for kind in ("SOFT", "HARD"):
        assert act({"reboot": {"type": kind}}).status_code == 202
        compute.wait(server_id, "ACTIVE")
    output = act({"os-getConsoleOutput": {}}).json["output"]
    assert "ready" in output
    last = act({"os-getConsoleOutput": {"length": "1"}}).json["output"]
    assert last == output.removesuffix("\n").split("\n")[-1]

    assert compute.as_("bob").delete(path).status_code == 404
    gone = alice.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    compute.wait(server_id, None)


@pytest.mark.parametrize(
    ("action", "status", "said"),
    [
        ({"teleport": None}, 400, "There is no such action: teleport"),
        ({"os-start": None, "os-stop": None}, 400, "one member"),
        ({}, 400, "one member"),
        ([], 400, "one member"),
        ({"reboot": {}}, 400, "'type' is a required property"),
        ({"reboot": {"type": "GENTLE"}}, 400, "'GENTLE' is not one of"),
        ({"os-getConsoleOutput": {"length": "many"}}, 400, "['os-getConsoleOutput']['length']"),
        ({"os-stop": None}, 404, "Instance none could not be found."),
    ],
)
def test_refused_actions(compute: Compute, action: Any, status: int, said: str) -> None:
    answer = compute.as_("alice").post("/v2.1/servers/none/action", json=action)
    assert answer.status_code == status, answer.text
    ((_, fault),) = answer.json.items()
    assert said in fault["message"]


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"name": ""}, 400, "['server']['name']"),
        ({"name": " "}, 400, "must not be empty"),
        ({"imageRef": "none"}, 400, "image none not found"),
        ({"imageRef": ""}, 400, "imageRef is needed"),
        ({"flavorRef": "none"}, 400, "none"),
        ({"flavorRef": None}, 400, "['server']['flavorRef']"),
        ({"key_name": "none"}, 400, "none"),
        ({"metadata": {"a": 5}}, 400, "['server']['metadata']['a']"),
        ({"metadata": {"": "x"}}, 400, "metadata"),
        ({"user_data": "not base64!"}, 400, "base64"),
        ({"availability_zone": "mars"}, 400, "mars"),
        ({"availability_zone": "nova:host1"}, 403, "host"),
        ({"min_count": 0}, 400, "min_count"),
        ({"min_count": 3, "max_count": 2}, 400, "min_count"),
        ({"min_count": 100, "max_count": 100}, 403, "uota"),
        ({"networks": [{"uuid": "x"}]}, 400, "networks"),
        ({"networks": "auto"}, 400, "networks"),
        ({"security_groups": [{"name": "web"}]}, 400, "security_groups"),
        ({"personality": []}, 400, "personality"),
        ({"description": "x"}, 400, "description"),
        ({"tags": ["x"]}, 400, "tags"),
        (
            {"block_device_mapping_v2": [{"source_type": "volume", "uuid": "x"}]},
            400,
            "block_device_mapping_v2",
        ),
    ],
)
def test_refused_create(compute: Compute, change: dict[str, Any], status: int, said: str) -> None:
    body = {"name": "refused", "imageRef": compute.image.id, "flavorRef": "42", **change}
    answer = compute.as_("bob").post("/v2.1/servers", json={"server": body})
    assert answer.status_code == status, answer.text
    ((_, fault),) = answer.json.items()
    assert said in fault["message"]
    assert names(compute.as_("bob").get("/v2.1/servers")) == []


def test_an_image_too_large_for_the_flavor(compute: Compute) -> None:
    big = compute.cloud.images.add(b"x", virtual_size=2 << 30)
    body = {"name": "small", "imageRef": big.id, "flavorRef": "42"}
    answer = compute.as_("bob").post("/v2.1/servers", json={"server": body})
    assert answer.status_code == 400
    assert "disk" in answer.json["badRequest"]["message"]


def test_several_servers_at_once_and_an_administrators_host(compute: Compute) -> None:
    admin = compute.as_("admin")
    body = {
        "name": "pair",
        "imageRef": "",
        "flavorRef": "42",
        "availability_zone": "nova:host2",
        "min_count": "2",
        "max_count": 2,
        "return_reservation_id": True,
        "networks": [],
        "config_drive": True,
        "block_device_mapping_v2": [
            {
                "uuid": compute.image.id,
                "boot_index": 0,
                "source_type": "image",
                "destination_type": "local",
                "delete_on_termination": True,
            }
        ],
    }
    made = admin.post("/v2.1/servers", json={"server": body, "os:scheduler_hints": {"a": "b"}})
    assert made.status_code == 202, made.text
    found = admin.get("/v2.1/servers/detail", params={"reservation_id": made.json["reservation_id"]})
    ids = {server["name"]: server["id"] for server in found.json["servers"]}
    assert set(ids) == {"pair-1", "pair-2"}
    for server_id in ids.values():
        compute.wait(server_id, "ACTIVE")
        shown = admin.get(f"/v2.1/servers/{server_id}").json["server"]
        assert (shown["OS-EXT-SRV-ATTR:host"], shown["config_drive"]) == ("host2", "True")
        assert admin.delete(f"/v2.1/servers/{server_id}").status_code == 204
        compute.wait(server_id, None)


@pytest.fixture(scope="module")
def listed(compute: Compute) -> Iterator[Compute]:
    """Three servers of alice, one of admin."""
    ids = [compute.server(name) for name in ("list-a", "list-b", "list-c")]
    compute.as_("alice").post(f"/v2.1/servers/{ids[1]}/action", json={"os-stop": None})
    compute.wait(ids[1], "SHUTOFF")
    ids.append(compute.server("list-admin", "admin", flavorRef="84"))
    yield compute
    for server_id in ids:
        compute.as_("admin").delete(f"/v2.1/servers/{server_id}")
        compute.wait(server_id, None)


@pytest.mark.parametrize(
    ("user", "query", "found"),
    [
        ("alice", "", ["list-c", "list-b", "list-a"]),
        ("alice", "sort_key=display_name&sort_dir=asc", ["list-a", "list-b", "list-c"]),
        ("alice", "name=B", ["list-b"]),
        ("alice", "status=SHUTOFF", ["list-b"]),
        ("alice", "status=active", ["list-c", "list-a"]),
        ("alice", "status=RESCUE", []),
        ("alice", "flavor=84", []),
        ("alice", "image=none", []),
        ("alice", "deleted=True", ["list-c", "list-b", "list-a"]),
        ("alice", "changes-since=2999-01-01T00:00:00Z", []),
        ("alice", "unheard=of", ["list-c", "list-b", "list-a"]),
        ("alice", "host=nowhere", ["list-c", "list-b", "list-a"]),
        ("alice", "tenant_id=p-bob", ["list-c", "list-b", "list-a"]),
        ("reader", "", ["list-c", "list-b", "list-a"]),
        ("admin", "", ["list-admin"]),
        ("admin", "host=nowhere", []),
        ("admin", "tenant_id=p-alice", ["list-admin"]),
        ("admin", "all_tenants=1", ["list-admin", "list-c", "list-b", "list-a"]),
        ("admin", "all_tenants=True&flavor=84", ["list-admin"]),
        ("admin", "all_tenants&tenant_id=p-alice&status=ACTIVE", ["list-c", "list-a"]),
        ("bob", "", []),
    ],
)
def test_listing(listed: Compute, user: str, query: str, found: list[str]) -> None:
    for path in ("/v2.1/servers", "/v2.1/servers/detail"):
        assert names(listed.as_(user).get(path, query_string=query)) == found


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("all_tenants=1", 403),
        ("status=DELETED", 403),
        ("limit=x", 400),
        ("limit=-1", 400),
        ("marker=none", 400),
        ("sort_key=colour", 400),
        ("sort_dir=up", 400),
        ("changes-since=yesterday", 400),
        ("all_tenants=perhaps", 400),
        ("ip=10.0.0.1", 400),
        ("name=%ff", 400),
    ],
)
def test_refused_listing(listed: Compute, query: str, status: int) -> None:
    answer = listed.as_("alice").get("/v2.1/servers", query_string=query)
    assert answer.status_code == status, answer.text


def test_pages(listed: Compute) -> None:
    alice = listed.as_("alice")
    url, found = "/v2.1/servers?limit=2", []
    for _ in range(2):
        body = alice.get(url).json
        found.append([server["name"] for server in body["servers"]])
        links = body.get("servers_links", [])
        url = links[0]["href"].partition("falconframework.org")[2] if links else ""
    assert (found, url) == ([["list-c", "list-b"], ["list-a"]], "")
    flavors = alice.get("/v2.1/flavors?limit=1000").json
    assert len(flavors["flavors"]) == 5, "max_limit holds"
    assert "marker=" in flavors["flavors_links"][0]["href"]


def test_metadata(listed: Compute) -> None:
    alice = listed.as_("alice")
    server_id = alice.get("/v2.1/servers?name=list-a").json["servers"][0]["id"]
    path = f"/v2.1/servers/{server_id}/metadata"
    assert alice.put(path, json={"metadata": {"a": "1"}}).json == {"metadata": {"a": "1"}}
    assert alice.post(path, json={"metadata": {"b": "2"}}).json == {"metadata": {"a": "1", "b": "2"}}
    assert alice.put(f"{path}/a", json={"meta": {"a": "3"}}).json == {"meta": {"a": "3"}}
    assert alice.get(f"{path}/a").json == {"meta": {"a": "3"}}
    assert alice.delete(f"{path}/b").status_code == 204
    assert alice.get(path).json == {"metadata": {"a": "3"}}
    for answer, status in (
        (alice.get(f"{path}/none"), 404),
        (alice.delete(f"{path}/none"), 404),
        (alice.put(f"{path}/a", json={"meta": {"b": "1"}}), 400),
        (alice.put(f"{path}/a", json={"meta": {}}), 400),
        (alice.post(path, json={"metadata": {"x": 5}}), 400),
        (alice.post(path, json={"meta": {}}), 400),
        (alice.put(path, json={"metadata": {f"k{i}": "" for i in range(129)}}), 403),
        (listed.as_("bob").get(path), 404),
    ):
        assert answer.status_code == status, answer.text
    assert alice.get(path).json == {"metadata": {"a": "3"}}


def test_flavors(compute: Compute) -> None:
    alice, admin = compute.as_("alice"), compute.as_("admin")
    asked = {"name": "my", "ram": "100", "vcpus": 1, "disk": 2, "id": "my id"}
    made = admin.post("/v2.1/flavors", json={"flavor": asked})
    assert made.status_code == 200, made.text
    shown = alice.get("/v2.1/flavors/my%20id").json["flavor"]
    assert shown == made.json["flavor"]
    assert {name: shown[name] for name in ("id", "name", "ram", "vcpus", "disk", "swap")} == {
        "id": "my id",
        "name": "my",
        "ram": 100,
        "vcpus": 1,
        "disk": 2,
        "swap": "",
    }
    assert alice.get("/v2.1/flavors/my%20id/os-extra_specs").json == {"extra_specs": {}}
    small = alice.get("/v2.1/flavors/detail?minDisk=2&sort_key=memory_mb").json["flavors"]
    assert small[0]["id"] == "my id"
    for change, status in (
        ({}, 409),
        ({"id": "x", "ram": 0}, 400),
        ({"id": "x", "ram": "much"}, 400),
        ({"id": "x", "swap": -1}, 400),
        ({"id": "x", "OS-FLV-EXT-DATA:ephemeral": "-1"}, 400),
        ({"id": "x", "rxtx_factor": 0}, 400),
        ({"id": "x", "rxtx_factor": "0.0"}, 400),
        ({"id": "x", "unheard": 1}, 400),
    ):
        answer = admin.post("/v2.1/flavors", json={"flavor": {**asked, **change}})
        assert answer.status_code == status, answer.text
    assert alice.post("/v2.1/flavors", json={"flavor": {**asked, "id": "y"}}).status_code == 403
    further = {"swap": 1025, "OS-FLV-EXT-DATA:ephemeral": 3, "rxtx_factor": 2.5}
    as_text = {name: str(value) for name, value in further.items()}
    swapping = {**asked, "name": "swapping", "id": "swapping", **as_text}
    assert admin.post("/v2.1/flavors", json={"flavor": swapping}).json["flavor"].items() >= further.items()
    for key in ("swap", "ephemeral_gb", "rxtx_factor"):
        (most,) = alice.get(f"/v2.1/flavors/detail?sort_key={key}&sort_dir=desc&limit=1").json["flavors"]
        assert (most["id"], most.items() >= further.items()) == ("swapping", True)
    hidden = {**asked, "name": "hidden", "id": "hidden", "os-flavor-access:is_public": False}
    assert admin.post("/v2.1/flavors", json={"flavor": hidden}).status_code == 200
    assert alice.get("/v2.1/flavors/hidden").status_code == 404
    listed = admin.get("/v2.1/flavors?is_public=False").json["flavors"]
    assert [flavor["id"] for flavor in listed] == ["hidden"]
    for flavor_id in ("my%20id", "swapping", "hidden"):
        assert admin.delete(f"/v2.1/flavors/{flavor_id}").status_code == 202
    assert admin.delete("/v2.1/flavors/hidden").status_code == 404


def test_keypairs(compute: Compute) -> None:
    old, new = compute.as_("alice"), compute.as_("alice", "2.10")
    made = old.post("/v2.1/os-keypairs", json={"keypair": {"name": "made"}})
    assert made.status_code == 200
    assert made.json["keypair"]["private_key"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert "type" not in made.json["keypair"]
    imported = new.post("/v2.1/os-keypairs", json={"keypair": {"name": "mine", "public_key": KEY}})
    assert imported.status_code == 201
    assert (imported.json["keypair"]["type"], imported.json["keypair"]["user_id"]) == ("ssh", "alice")
    assert "private_key" not in imported.json["keypair"]
    listed = [each["keypair"]["name"] for each in new.get("/v2.1/os-keypairs").json["keypairs"]]
    assert {"made", "mine"} <= set(listed)
    assert new.get("/v2.1/os-keypairs/mine").json["keypair"]["public_key"] == KEY
    admin = compute.as_("admin", "2.10")
    assert admin.get("/v2.1/os-keypairs/mine").status_code == 404
    assert admin.get("/v2.1/os-keypairs/mine?user_id=alice").status_code == 200
    assert compute.as_("bob", "2.10").get("/v2.1/os-keypairs/mine?user_id=alice").status_code == 403
    for body, status in (
        ({"name": "mine", "public_key": KEY}, 409),
        ({"name": "bad", "public_key": "nonsense"}, 400),
        ({"name": "a/b"}, 400),
        ({"name": "x", "type": "x509", "public_key": KEY}, 400),
        ({"name": "x", "type": "pgp"}, 400),
        ({"name": ""}, 400),
    ):
        assert new.post("/v2.1/os-keypairs", json={"keypair": body}).status_code == status
    assert old.post("/v2.1/os-keypairs", json={"keypair": {"name": "x", "type": "ssh"}}).status_code == 400
    assert old.delete("/v2.1/os-keypairs/made").status_code == 202
    assert new.delete("/v2.1/os-keypairs/mine").status_code == 204
    assert new.delete("/v2.1/os-keypairs/mine").status_code == 404


def test_x509_key_pairs(compute: Compute) -> None:
    alice = compute.as_("alice", "2.2")
    made = alice.post("/v2.1/os-keypairs", json={"keypair": {"name": "made", "type": "x509"}})
    assert (made.status_code, made.json["keypair"]["type"]) == (201, "x509")
    told = made.json["keypair"]
    certificate = x509.load_pem_x509_certificate(told["public_key"].encode())
    secret = serialization.load_pem_private_key(told["private_key"].encode(), password=None)
    assert secret.public_key() == certificate.public_key()
    certificate.verify_directly_issued_by(certificate)
    (name,) = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert name.value == b"\x0c\x0falice@localhost"
    assert told["fingerprint"].replace(":", "") == certificate.fingerprint(hashes.SHA1()).hex()
    again = {"name": "mine", "type": "x509", "public_key": told["public_key"]}
    imported = alice.post("/v2.1/os-keypairs", json={"keypair": again}).json["keypair"]
    assert (imported["fingerprint"], "private_key" in imported) == (told["fingerprint"], False)
    server_id = compute.server("with-x509", key_name="made", config_drive=True)
    compute.as_("alice").delete(f"/v2.1/servers/{server_id}")
    compute.wait(server_id, None)
    for each in ("made", "mine"):
        alice.delete(f"/v2.1/os-keypairs/{each}")


def test_zones(compute: Compute) -> None:
    plain = compute.as_("alice").get("/v2.1/os-availability-zone").json["availabilityZoneInfo"]
    assert plain == [{"zoneName": "nova", "zoneState": {"available": True}, "hosts": None}]
    assert compute.as_("alice").get("/v2.1/os-availability-zone/detail").status_code == 403
    (zone,) = compute.as_("admin").get("/v2.1/os-availability-zone/detail").json["availabilityZoneInfo"]
    assert set(zone["hosts"]) == {"host1", "host2"}
    assert zone["hosts"]["host1"]["nova-compute"]["available"]


def test_hypervisors(compute: Compute) -> None:
    admin = compute.as_("admin")
    brief = admin.get("/v2.1/os-hypervisors").json["hypervisors"]
    assert [each["hypervisor_hostname"] for each in brief] == ["host1", "host2"]
    full = admin.get("/v2.1/os-hypervisors/detail").json["hypervisors"]
    assert all(each["vcpus"] == 64 and each["hypervisor_type"] == "fake" for each in full)
    path = f"/v2.1/os-hypervisors/{brief[0]['id']}"
    assert admin.get(path).json["hypervisor"]["service"]["host"] == "host1"
    assert re.fullmatch(
        r" \d\d:\d\d:\d\d up .+,  0 users,  load average: [0-9., ]+",
        admin.get(f"{path}/uptime").json["hypervisor"]["uptime"],
    )
    found = admin.get("/v2.1/os-hypervisors/ost2/search").json["hypervisors"]
    assert found == [each for each in brief if each["hypervisor_hostname"] == "host2"]
    assert admin.get("/v2.1/os-hypervisors/none/search").status_code == 404
    assert admin.get("/v2.1/os-hypervisors/7").status_code == 404
    assert admin.get("/v2.1/os-hypervisors/statistics").json["hypervisor_statistics"]["count"] == 2
    assert admin.get("/v2.1/os-aggregates").json == {"aggregates": []}


def test_services(compute: Compute) -> None:
    admin = compute.as_("admin", "2.52")
    told = {"host": "host1", "binary": "nova-compute"}
    off = admin.put("/v2.1/os-services/disable-log-reason", json={**told, "disabled_reason": "disk"})
    assert off.json == {"service": {**told, "disabled_reason": "disk", "status": "disabled"}}
    (service,) = admin.get("/v2.1/os-services?host=host1").json["services"]
    assert (service["status"], service["disabled_reason"]) == ("disabled", "disk")
    assert (service["state"], service["forced_down"]) == ("up", False)
    assert admin.put("/v2.1/os-services/enable", json=told).json["service"]["status"] == "enabled"
    assert admin.put("/v2.1/os-services/disable", json={**told, "host": "none"}).status_code == 404
    assert admin.put("/v2.1/os-services/enable", json={"host": "host1"}).status_code == 400
    assert admin.get("/v2.1/os-services?binary=nova-conductor").json == {"services": []}
    for path in ("os-services", "os-hypervisors/detail", "os-aggregates"):
        assert compute.as_("alice").get(f"/v2.1/{path}").status_code == 403


def test_limits(listed: Compute) -> None:
    absolute = listed.as_("alice").get("/v2.1/limits").json["limits"]["absolute"]
    assert (absolute["totalInstancesUsed"], absolute["maxTotalInstances"]) == (3, 10)
    assert absolute["totalRAMUsed"] == 3 * 128
    theirs = listed.as_("admin").get("/v2.1/limits?tenant_id=p-alice").json["limits"]["absolute"]
    assert theirs == absolute
    assert listed.as_("bob").get("/v2.1/limits?tenant_id=p-alice").status_code == 403
