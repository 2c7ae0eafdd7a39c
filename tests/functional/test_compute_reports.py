"""What the Compute API tells of servers and hosts: usage, diagnostics, migrations, and hosts by UUID."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.compute_fixtures import Compute
from tests.waiting import wait_for

USAGE = "/v2.1/os-simple-tenant-usage"


@pytest.fixture
def server(compute: Compute) -> Iterator[str]:
    server_id = compute.server("vm")
    yield server_id
    if compute.as_("admin").get(f"/v2.1/servers/{server_id}").status_code == 200:
        compute.as_("alice").delete(f"/v2.1/servers/{server_id}")
        compute.wait(server_id, None)


def period(hours: float = 1.0) -> str:
    """Return a period that begins so many hours ago and ends in a day."""
    now = datetime.now(UTC)
    start, end = now - timedelta(hours=hours), now + timedelta(days=1)
    return f"start={start:%Y-%m-%dT%H:%M:%S}&end={end:%Y-%m-%dT%H:%M:%S.%f}"


def test_usage(compute: Compute, server: str) -> None:
    alice, admin = compute.as_("alice"), compute.as_("admin")
    own = alice.get(f"{USAGE}/p-alice?{period()}").json["tenant_usage"]
    (told,) = [each for each in own["server_usages"] if each["instance_id"] == server]
    assert (told["state"], told["memory_mb"], told["ended_at"], told["tenant_id"]) == (
        "active",
        128,
        None,
        "p-alice",
    )
    assert 0 < told["hours"] < 1
    assert own["total_hours"] >= told["hours"]
    assert own["total_memory_mb_usage"] == pytest.approx(128 * own["total_hours"])
    assert datetime.fromisoformat(own["stop"]).replace(tzinfo=UTC) <= datetime.now(UTC)
    alice.delete(f"/v2.1/servers/{server}")
    compute.wait(server, None)
    (ended,) = [
        each
        for each in alice.get(f"{USAGE}/p-alice?{period()}").json["tenant_usage"]["server_usages"]
        if each["instance_id"] == server
    ]
    assert (ended["state"], ended["ended_at"] is not None) == ("terminated", True)
    brief = admin.get(f"{USAGE}?{period()}").json["tenant_usages"]
    assert [each["tenant_id"] for each in brief] == ["p-alice"]
    assert "server_usages" not in brief[0]
    assert "server_usages" in admin.get(f"{USAGE}?{period()}&detailed=1").json["tenant_usages"][0]
    for answer, status in (
        (alice.get(USAGE), 403),
        (alice.get(f"{USAGE}/p-bob?{period()}"), 403),
        (admin.get(f"{USAGE}?start=yesterday"), 400),
        (admin.get(f"{USAGE}/"), 404),
        (admin.get(f"{USAGE}?start=2027-01-01T00:00:00&end=2026-01-01T00:00:00"), 400),
    ):
        assert answer.status_code == status, answer.text
    assert admin.get(f"{USAGE}/p-nobody?{period()}").json == {"tenant_usage": {}}
    # and before all of that nothing ran
    past = "start=2020-01-01T00:00:00&end=2020-01-02T00:00:00"
    assert admin.get(f"{USAGE}?{past}").json == {"tenant_usages": []}


def test_pages_of_usage(compute: Compute) -> None:
    made = [compute.server(f"vm{n}", user=user) for n, user in enumerate(("alice", "bob", "bob"))]
    admin, found, path = compute.as_("admin", "2.40"), [], f"{USAGE}?{period()}&detailed=1&limit=1"
    while path:
        page = admin.get(path).json
        assert sum(len(each["server_usages"]) for each in page["tenant_usages"]) <= 1
        found += [one["instance_id"] for each in page["tenant_usages"] for one in each["server_usages"]]
        links = page.get("tenant_usages_links", [])
        path = f"/v2.1{links[0]['href'].partition('/v2.1')[2]}" if links else ""
    assert [server_id for server_id in found if server_id in made] == made
    assert len(set(found)) == len(found)
    assert admin.get(f"{USAGE}?{period()}&marker={uuid.uuid4()}").status_code == 400
    for server_id, user in zip(made, ("alice", "bob", "bob"), strict=True):
        compute.as_(user).delete(f"/v2.1/servers/{server_id}")
        compute.wait(server_id, None)


def test_diagnostics(compute: Compute, server: str) -> None:
    path = f"/v2.1/servers/{server}/diagnostics"
    assert compute.as_("alice").get(path).status_code == 403
    old = compute.as_("admin", "2.47").get(path).json
    assert (old["memory"], old["cpu0_time"], old["vda_read"]) == (128 * 1024, 0, 0)
    told = compute.as_("admin", "2.48").get(path).json
    assert (told["state"], told["driver"]) == ("running", "libvirt")
    assert (told["num_cpus"], told["num_disks"]) == (1, 1)
    assert told["memory_details"] == {"maximum": 128, "used": 0}
    assert told["cpu_details"] == [{"id": 0, "time": 0, "utilisation": None}]
    assert (told["uptime"] >= 0, told["config_drive"], told["nic_details"]) == (True, False, [])
    compute.done(server, "os-stop", "SHUTOFF")
    assert compute.as_("admin", "2.48").get(path).status_code == 409
    compute.done(server, "shelve", "SHELVED_OFFLOADED")
    assert compute.as_("admin").get(path).status_code == 409
    assert compute.as_("admin").get(f"/v2.1/servers/{uuid.uuid4()}/diagnostics").status_code == 404


def test_migrations(compute: Compute, server: str) -> None:
    admin, path = compute.as_("admin", "2.80"), "/v2.1/os-migrations"
    assert compute.as_("alice").get(path).status_code == 403
    compute.done(server, {"resize": {"flavorRef": "84"}}, "VERIFY_RESIZE")
    host = compute.as_("admin").get(f"/v2.1/servers/{server}").json["server"]["OS-EXT-SRV-ATTR:host"]
    (one,) = admin.get(f"{path}?instance_uuid={server}").json["migrations"]
    assert (one["status"], one["migration_type"], one["source_compute"], one["dest_compute"]) == (
        *("finished", "resize"),
        *(host, host),
    )
    assert (one["project_id"], one["user_id"], one["old_instance_type_id"]) != (
        *("p-alice", "alice"),
        one["new_instance_type_id"],
    )
    older = compute.as_("admin").get(path).json["migrations"][0]
    assert not {"uuid", "migration_type", "user_id"} & older.keys()
    assert compute.act(server, "revertResize").status_code == 202
    compute.wait(server, "ACTIVE")
    compute.done(server, {"resize": {"flavorRef": "84"}}, "VERIFY_RESIZE")
    assert compute.act(server, "confirmResize").status_code == 204
    compute.wait(server, "ACTIVE")
    assert [each["status"] for each in admin.get(f"{path}?instance_uuid={server}").json["migrations"]] == [
        "confirmed",
        "reverted",
    ]
    first = admin.get(f"{path}?limit=1").json
    assert first["migrations"][0]["status"] == "confirmed"
    marker = first["migrations"][0]["uuid"]
    assert f"marker={marker}" in first["migrations_links"][0]["href"]
    assert admin.get(f"{path}?marker={marker}").json["migrations"][0]["status"] == "reverted"
    assert admin.get(f"{path}?status=error").json["migrations"] == []
    assert admin.get(f"{path}?project_id=p-alice&host={host}").json["migrations"] != []
    for query in (f"marker={uuid.uuid4()}", "marker=x", "odd=1", "changes-since=soon"):
        assert admin.get(f"{path}?{query}").status_code == 400


def test_hosts_by_uuid(compute: Compute, server: str) -> None:
    admin = compute.as_("admin", "2.53")
    services = admin.get("/v2.1/os-services").json["services"]
    host = compute.as_("admin").get(f"/v2.1/servers/{server}").json["server"]["OS-EXT-SRV-ATTR:host"]
    (service,) = [each for each in services if each["host"] == host]
    path = f"/v2.1/os-services/{uuid.UUID(service['id'])}"
    off = admin.put(path, json={"status": "disabled", "disabled_reason": "disk", "forced_down": True})
    assert off.json["service"] == {
        **service,
        "status": "disabled",
        "disabled_reason": "disk",
        "forced_down": True,
        "state": "down",
        "updated_at": off.json["service"]["updated_at"],
    }
    hypervisor = f"/v2.1/os-hypervisors/{service['id']}"
    assert admin.get(hypervisor).json["hypervisor"]["state"] == "down"
    assert admin.get(f"{hypervisor}/uptime").status_code == 400
    on = admin.put(path, json={"status": "enabled", "forced_down": False}).json["service"]
    assert (on["status"], on["state"], on["disabled_reason"]) == ("enabled", "up", None)
    assert admin.get(f"{hypervisor}/uptime").status_code == 200
    shown = admin.get(f"{hypervisor}?with_servers=true").json["hypervisor"]
    assert shown["servers"] == [{"uuid": server, "name": "vm"}]
    listed = admin.get(f"/v2.1/os-hypervisors?hypervisor_hostname_pattern={host}&with_servers=1").json
    assert [each["servers"] for each in listed["hypervisors"]] == [[{"uuid": server, "name": "vm"}]]
    pages = admin.get("/v2.1/os-hypervisors?limit=1").json
    assert pages["hypervisors_links"][0]["href"].endswith(f"marker={pages['hypervisors'][0]['id']}")
    for answer, status in (
        (admin.put(path, json={"disabled_reason": "x"}), 400),
        (admin.put(path, json={}), 400),
        (admin.put(f"/v2.1/os-services/{uuid.uuid4()}", json={"status": "enabled"}), 404),
        (admin.put("/v2.1/os-services/enable", json={"host": host, "binary": "nova-compute"}), 400),
        (admin.get("/v2.1/os-hypervisors/1"), 400),
        (admin.get(f"/v2.1/os-hypervisors/{uuid.uuid4()}"), 404),
        (admin.get(f"/v2.1/os-hypervisors/{host}/search"), 404),
        (admin.get(f"/v2.1/os-hypervisors/{host}/servers"), 404),
        (admin.get("/v2.1/os-hypervisors?hypervisor_hostname_pattern=none"), 404),
        (admin.get(f"/v2.1/os-hypervisors?hypervisor_hostname_pattern={host}&limit=1"), 400),
        (admin.get("/v2.1/os-hypervisors?odd=1"), 400),
        (compute.as_("admin", "2.52").get("/v2.1/os-hypervisors?odd=1"), 200),
        # it has a server
        (admin.delete(path), 409),
        (compute.as_("alice", "2.53").put(path, json={"forced_down": True}), 403),
        (compute.as_("alice", "2.53").delete(path), 403),
    ):
        assert answer.status_code == status, answer.text
    older = compute.as_("admin", "2.52")
    (found,) = older.get(f"/v2.1/os-hypervisors/{host}/servers").json["hypervisors"]
    assert found["servers"] == [{"uuid": server, "name": "vm"}]
    down = older.put(
        "/v2.1/os-services/force-down", json={"host": host, "binary": "nova-compute", "forced_down": "true"}
    )
    assert down.json["service"]["forced_down"] is True
    admin.put(path, json={"forced_down": False})


def test_a_host_that_is_deleted_comes_back_while_it_lives(compute: Compute) -> None:
    admin = compute.as_("admin", "2.53")
    made = admin.post("/v2.1/os-aggregates", json={"aggregate": {"name": "with-host2"}}).json["aggregate"]
    aggregate = f"/v2.1/os-aggregates/{made['id']}"
    admin.post(f"{aggregate}/action", json={"add_host": {"host": "host2"}})
    (service,) = admin.get("/v2.1/os-services?host=host2").json["services"]
    assert admin.delete(f"/v2.1/os-services/{service['id']}").status_code == 204
    assert admin.get(aggregate).json["aggregate"]["hosts"] == []
    wait_for("host2 is back", lambda: admin.get("/v2.1/os-services?host=host2").json["services"])
    assert admin.get("/v2.1/os-services?host=host2").json["services"][0]["id"] == service["id"]
    admin.delete(aggregate)


def test_extensions(compute: Compute) -> None:
    alice = compute.as_("alice")
    listed = {each["alias"] for each in alice.get("/v2.1/extensions").json["extensions"]}
    assert {"os-aggregates", "os-server-groups"} <= listed
    assert alice.get("/v2.1/extensions/os-keypairs").json["extension"]["name"] == "Keypairs"
    assert alice.get("/v2.1/extensions/os-volumes").status_code == 404
