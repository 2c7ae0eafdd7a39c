"""Locations by the Image API: patched the old way, added and fetched the new way."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import falcon.testing
import pytest

from glancelike.embedded import open_service
from glancelike.errors import DataMismatch
from glancelike.model import Caller, Status, TaskStatus
from glancelike.registry.base import ADMIN
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService, ImportRequest
from glancelike.stores.http import HttpStore
from glancelike.stores.memory import MemoryStore
from tests.leases import StandingClock
from tests.server_fixtures import Api, write_users
from tests.waiting import until
from tests.web_server import Request, WebServer, reply, serving, web_server

DATA = b"some data\n" * 1000
OTHER = b"other data" * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
OCTETS = {"Content-Type": "application/octet-stream"}
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
NOBODY = "0a0a0a0a-0000-4000-8000-000000000000"


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        server.answers["/a"] = serving(DATA)
        server.answers["/other"] = serving(OTHER)
        server.answers["/empty"] = serving(b"")
        yield server


def make(tmp_path: Path, **settings: Any) -> Api:
    """Make an API over a store in memory and the web; its user ``svc`` is a service."""
    users = write_users(tmp_path / "users")
    cheap = users.read_text().splitlines()[1].split(":")[1]
    users.write_text(f"{users.read_text()}svc:{cheap}:services:service\n")
    return Api(users, stores={"ram": MemoryStore({}), "web": web_store()}, **settings)


def web_store() -> HttpStore:
    return HttpStore(
        {
            "http_store_allowed_networks": ["127.0.0.0/8"],
            "http_store_allowed_ports": [],
            "http_store_retries": 0,
        }
    )


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Api]:
    """The API that shows locations and lets them be patched, also removed by their owner."""
    made = make(tmp_path, show_multiple_locations=True, show_image_direct_url=True)
    yield made
    made.service.close()


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Api]:
    made = make(tmp_path)
    yield made
    made.service.close()


def patch(api: Api, image_id: str, *changes: dict[str, Any], user: str = "alice") -> falcon.testing.Result:
    body = json.dumps(list(changes))
    return api.as_(user).patch(f"/v2/images/{image_id}", body=body, headers=PATCH)


def added(url: str, at: str = "-", **more: Any) -> dict[str, Any]:
    return {"op": "add", "path": f"/locations/{at}", "value": {"url": url, "metadata": {}, **more}}


def replaced(locations: Any) -> dict[str, Any]:
    return {"op": "replace", "path": "/locations", "value": locations}


def removed(at: str) -> dict[str, Any]:
    return {"op": "remove", "path": f"/locations/{at}"}


def shown(api: Api, image_id: str, user: str = "alice") -> dict[str, Any]:
    found: dict[str, Any] = api.as_(user).get(f"/v2/images/{image_id}").json
    return found


# The old way


def test_locations_are_shown_only_where_configured(new: Api) -> None:
    image_id = new.image(data=b"x")
    assert not {"locations", "direct_url"} & set(shown(new, image_id))
    assert patch(new, image_id, added("http://127.0.0.1/")).status_code == 403
    assert patch(new, image_id, removed("0"), user="admin").status_code == 403


def test_locations_of_an_upload_name_no_host_path(old: Api) -> None:
    assert shown(old, old.image())["locations"] == []
    image = shown(old, old.image(data=b"x"))
    (location,) = image["locations"]
    assert location["url"].startswith(f"memory://ram/{image['id']}-")
    assert location["metadata"] == {"store": "ram"}
    assert image["direct_url"] == location["url"]


def test_only_its_project_sees_an_images_locations(old: Api) -> None:
    image_id = old.image(data=b"x", visibility="community")
    image = shown(old, image_id, user="bob")
    assert (image["locations"], image["stores"], "direct_url" in image) == ([], "ram", False)
    assert len(shown(old, image_id, user="reader")["locations"]) == 1
    (listed,) = old.as_("bob").get("/v2/images", query_string="visibility=community").json["images"]
    assert listed["locations"] == []


def test_a_location_makes_a_queued_image_active(old: Api, web: WebServer) -> None:
    image_id = old.image()
    url = web.url("/a")
    answer = patch(old, image_id, added(url, metadata={"foo": "bar"}))
    assert answer.status_code == 200, answer.text
    image = shown(old, image_id)
    assert image["locations"] == [{"url": url, "metadata": {"foo": "bar", "store": "web"}}]
    assert (image["status"], image["size"], image["stores"]) == ("active", len(DATA), "web")
    assert (image["os_hash_algo"], image["os_hash_value"], image["checksum"]) == (None, None, None)
    assert old.as_("alice").get(f"/v2/images/{image_id}/file").content == DATA


def test_several_locations_are_kept_in_order(old: Api, web: WebServer) -> None:
    image_id = old.image()
    urls = [web.url(f"/a#{number}") for number in range(4)]
    assert patch(old, image_id, added(urls[1])).status_code == 200
    assert patch(old, image_id, added(urls[3], "99"), added(urls[0], "0")).status_code == 200
    assert patch(old, image_id, added(urls[2], "2")).status_code == 200
    assert [each["url"] for each in shown(old, image_id)["locations"]] == urls
    assert shown(old, image_id)["direct_url"] == urls[0]
    gone = patch(old, image_id, removed("1"), removed("-"), user="admin")
    assert gone.status_code == 200, gone.text
    assert [each["url"] for each in shown(old, image_id)["locations"]] == [urls[0], urls[2]]


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("gopher://info.cern.ch", 400),
        ("memory://ram/x", 400),
        ("no url at all", 400),
        ("http://[broken", 400),
        ("", 400),
        ("{web}/missing", 400),
        ("{web}/empty", 400),
        ("http://127.0.0.1:1/refused", 400),
        ("{web}/a" + "x" * 255, 400),
        (7, 400),
    ],
)
def test_bad_locations_are_refused(old: Api, web: WebServer, url: Any, status: int) -> None:
    image_id = old.image()
    if isinstance(url, str):
        url = url.replace("{web}", web.url(""))
    assert patch(old, image_id, added(url)).status_code == status
    assert patch(old, image_id, replaced([{"url": url, "metadata": {}}])).status_code == status
    image = shown(old, image_id)
    assert (image["status"], image["locations"], image["size"]) == ("queued", [], None)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"op": "add", "path": "/locations", "value": []}, 400),
        ({"op": "add", "path": "/locations/0/url", "value": "x"}, 400),
        ({"op": "add", "path": "/locations/-", "value": {"url": "{url}"}}, 400),
        ({"op": "add", "path": "/locations/-", "value": {"url": "{url}", "metadata": {"a": 1}}}, 400),
        ({"op": "add", "path": "/locations/-", "value": {"url": "{url}", "metadata": None}}, 400),
        ({"op": "add", "path": "/locations/x", "value": {"url": "{url}", "metadata": {}}}, 400),
        ({"op": "add", "path": "/locations/-1", "value": {"url": "{url}", "metadata": {}}}, 400),
        ({"op": "replace", "path": "/locations/0", "value": {"url": "{url}", "metadata": {}}}, 400),
        ({"op": "replace", "path": "/locations", "value": {}}, 400),
        ({"op": "replace", "path": "/locations", "value": []}, 403),
        ({"op": "remove", "path": "/locations"}, 400),
        ({"op": "remove", "path": "/locations/0"}, 403),
    ],
)
def test_changes_that_mean_nothing(old: Api, web: WebServer, change: dict[str, Any], status: int) -> None:
    image_id = old.image()
    first = web.url("/a")
    assert patch(old, image_id, added(first)).status_code == 200
    if isinstance(change.get("value"), dict) and change["value"].get("url") == "{url}":
        change = {**change, "value": {**change["value"], "url": web.url("/a#2")}}
    assert patch(old, image_id, change, user="admin").status_code == status
    assert [each["url"] for each in shown(old, image_id)["locations"]] == [first]


def test_replacing_changes_metadata_and_order_but_no_url(old: Api, web: WebServer) -> None:
    image_id = old.image()
    for number in range(2):
        assert patch(old, image_id, added(web.url(f"/a#{number}"))).status_code == 200
    first, second = shown(old, image_id)["locations"]
    assert patch(old, image_id, replaced([first, second])).status_code == 200
    first["metadata"]["date"] = "2015-10-15"
    requests = len(web.requests)
    assert patch(old, image_id, replaced([second, first])).status_code == 200
    assert len(web.requests) == requests
    assert shown(old, image_id)["locations"] == [second, first]
    changed = {**second, "url": web.url("/a#new")}
    for wrong in ([first], [first, changed], [first, second, changed], [first, first]):
        assert patch(old, image_id, replaced(wrong)).status_code == 400
    assert shown(old, image_id)["locations"] == [second, first]


def test_replacing_sets_all_locations_of_a_queued_image(old: Api, web: WebServer) -> None:
    image_id = old.image()
    both = [{"url": web.url(f"/a#{number}"), "metadata": {}} for number in range(2)]
    assert patch(old, image_id, replaced([*both, both[0]])).status_code == 400
    assert patch(old, image_id, replaced(both)).status_code == 200
    image = shown(old, image_id)
    assert ([each["url"] for each in image["locations"]], image["status"]) == (
        [each["url"] for each in both],
        "active",
    )


def test_the_data_of_all_locations_has_one_size(old: Api, web: WebServer) -> None:
    web.answers["/short"] = serving(DATA[:-1])
    image_id = old.image()
    assert patch(old, image_id, added(web.url("/a"))).status_code == 200
    assert patch(old, image_id, added(web.url("/short"))).status_code == 400
    assert patch(old, image_id, added(web.url("/a"))).status_code == 400  # the same again


def test_too_many_locations(tmp_path: Path, web: WebServer) -> None:
    made = make(tmp_path, show_multiple_locations=True, image_location_quota=2)
    with made.service:
        image_id = made.image()
        assert patch(made, image_id, *(added(web.url(f"/a#{n}")) for n in range(2))).status_code == 200
        assert patch(made, image_id, added(web.url("/a#3"))).status_code == 413
        assert len(shown(made, image_id)["locations"]) == 2


def test_locations_count_for_the_quota(tmp_path: Path, web: WebServer) -> None:
    made = make(tmp_path, show_multiple_locations=True, user_storage_quota=len(DATA) + 10)
    with made.service:
        image_id = made.image()
        assert patch(made, image_id, added(web.url("/a"))).status_code == 200
        assert patch(made, image_id, added(web.url("/a#2"))).status_code == 413
        assert len(shown(made, image_id)["locations"]) == 1


def test_an_image_needs_its_formats_first(old: Api, web: WebServer) -> None:
    image_id = old.as_("alice").post("/v2/images", json={}).json["id"]
    assert patch(old, image_id, added(web.url("/a"))).status_code == 400
    formats = [
        {"op": "add", "path": f"/{name}", "value": value}
        for name, value in (("disk_format", "raw"), ("container_format", "bare"))
    ]
    assert patch(old, image_id, *formats, added(web.url("/a"))).status_code == 200


def test_who_may_change_locations(old: Api, web: WebServer) -> None:
    image_id = old.image(visibility="community")
    assert patch(old, image_id, added(web.url("/a")), user="bob").status_code == 403
    assert patch(old, image_id, added(web.url("/a")), user="reader").status_code == 403
    assert web.requests == []
    assert patch(old, image_id, *(added(web.url(f"/a#{n}")) for n in range(2))).status_code == 200
    assert patch(old, image_id, removed("0")).status_code == 403
    assert patch(old, image_id, removed("0"), user="admin").status_code == 200


def validation(**changes: str) -> dict[str, Any]:
    told = {"checksum": MD5, "os_hash_algo": "sha256", "os_hash_value": SHA256, **changes}
    return {"validation_data": {name: value for name, value in told.items() if value}}


def test_validation_data_fills_the_digests(old: Api, web: WebServer) -> None:
    image_id = old.image()
    assert patch(old, image_id, added(web.url("/a"), **validation())).status_code == 200
    image = shown(old, image_id)
    assert (image["checksum"], image["os_hash_algo"], image["os_hash_value"]) == (MD5, "sha256", SHA256)
    assert all("validation_data" not in each for each in image["locations"])
    assert patch(old, image_id, added(web.url("/a#2"), **validation())).status_code == 200
    for wrong in (
        validation(checksum="2" * 32),
        validation(os_hash_value="be" * 32),
        validation(os_hash_algo="sha512"),
    ):
        assert patch(old, image_id, added(web.url("/a#3"), **wrong)).status_code == 409
    assert len(shown(old, image_id)["locations"]) == 2


@pytest.mark.parametrize(
    ("told", "status"),
    [
        (validation(os_hash_algo=""), 400),
        (validation(os_hash_value=""), 400),
        (validation(checksum="1"), 400),
        (validation(more="x"), 400),
        ({"validation_data": None}, 400),
        (validation(os_hash_algo="sha512"), 409),
        (validation(os_hash_value="xy" * 32), 409),
        (validation(os_hash_value="ab"), 409),
        (validation(checksum="x" * 32), 409),
    ],
)
def test_validation_data_that_can_not_be(old: Api, web: WebServer, told: dict[str, Any], status: int) -> None:
    image_id = old.image()
    assert patch(old, image_id, added(web.url("/a"), **told)).status_code == status
    assert shown(old, image_id)["status"] == "queued"


def test_digests_of_an_active_image_are_not_told_later(old: Api, web: WebServer) -> None:
    image_id = old.image()
    assert patch(old, image_id, added(web.url("/a"))).status_code == 200
    assert patch(old, image_id, added(web.url("/a#2"), **validation())).status_code == 409
    both = [
        {"url": web.url(f"/a#{number}"), "metadata": {}, **validation(checksum=str(number) * 32)}
        for number in range(2)
    ]
    assert patch(old, old.image(), replaced(both)).status_code == 409


def test_wrong_data_is_never_read_to_its_end(old: Api, web: WebServer) -> None:
    """OSSN-0065, OSSN-0090: who can write behind a location can't swap the data unseen."""
    image_id = old.image()
    assert patch(old, image_id, added(web.url("/a"), **validation())).status_code == 200
    read = old.service.read(Caller.administrator(), image_id)
    assert b"".join(read.chunks()) == DATA
    web.answers["/a"] = serving(OTHER[: len(DATA)])
    got: list[bytes] = []
    with pytest.raises(DataMismatch):
        got.extend(old.service.read(Caller.administrator(), image_id).chunks())
    assert len(b"".join(got)) < len(DATA)


# The new way


def add(api: Api, image_id: str, url: str, user: str = "alice", **validation: str) -> falcon.testing.Result:
    body: dict[str, Any] = {"url": url}
    if validation:
        body["validation_data"] = validation
    return api.as_(user).post(f"/v2/images/{image_id}/locations", json=body)


def digest(algorithm: str, data: bytes = DATA) -> dict[str, str]:
    value = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    return {"os_hash_algo": algorithm, "os_hash_value": value}


def task_of(api: Api, image_id: str, user: str = "alice") -> dict[str, Any]:
    (found,) = api.as_(user).get(f"/v2/images/{image_id}/tasks").json["tasks"]
    return dict(found)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512", "md5"])
def test_an_image_is_active_when_its_digest_is_right(new: Api, web: WebServer, algorithm: str) -> None:
    image_id = new.image()
    answer = add(new, image_id, web.url("/a"), **digest(algorithm))
    assert (answer.status_code, answer.text) == (202, "")
    assert new.service.run_tasks() == 1
    image = shown(new, image_id)
    assert (image["status"], image["size"], image["stores"]) == ("active", len(DATA), "web")
    assert {name: image[name] for name in digest(algorithm)} == digest(algorithm)
    assert not [name for name in image if name.startswith("os_glance")]
    task = task_of(new, image_id)
    assert (task["type"], task["status"]) == ("location_import", "success")
    assert task["input"]["loc_url"] == web.url("/a")
    assert task["request_id"] == answer.headers["x-openstack-request-id"]
    assert new.as_("alice").get(f"/v2/images/{image_id}/file").content == DATA


def test_an_image_with_another_digest_is_queued_again(new: Api, web: WebServer) -> None:
    image_id = new.image()
    assert add(new, image_id, web.url("/a"), **digest("sha512", OTHER)).status_code == 202
    new.service.run_tasks()
    task = task_of(new, image_id)
    assert (task["status"], "os_hash_value" in task["message"]) == ("failure", True)
    image = shown(new, image_id)
    known = {name: image[name] for name in ("status", "size", "os_hash_algo", "os_hash_value", "checksum")}
    assert known == {"status": "queued"} | dict.fromkeys(set(known) - {"status"})
    assert image["stores"] == "web"  # where the wrong data is
    assert new.as_("alice").get(f"/v2/images/{image_id}/file").status_code == 204
    assert new.as_("svc").get(f"/v2/images/{image_id}/locations").json == []
    # Nothing of it is left when other data comes.
    put = new.as_("alice").put(f"/v2/images/{image_id}/file", body=b"mine", headers=OCTETS)
    assert put.status_code == 204
    assert (shown(new, image_id)["stores"], shown(new, image_id)["size"]) == ("ram", 4)


def test_a_refused_location_is_never_imported(new: Api, web: WebServer) -> None:
    image_id = new.image()
    assert add(new, image_id, web.url("/a"), **digest("sha256", OTHER)).status_code == 202
    new.service.run_tasks()
    client = new.as_("alice")
    assert client.put(f"/v2/images/{image_id}/stage", body=b"mine", headers=OCTETS).status_code == 204
    new.service.import_image(Caller.administrator(), image_id, ImportRequest("glance-direct"))
    new.service.run_tasks()
    assert client.get(f"/v2/images/{image_id}/file").content == b"mine"


def test_without_a_digest_the_image_is_active_and_gets_one(tmp_path: Path, web: WebServer) -> None:
    made = make(tmp_path, compute_md5_checksum=True)
    with made.service as service:
        image_id = made.image()
        assert add(made, image_id, web.url("/a")).status_code == 202
        service.run_tasks()
        image = shown(made, image_id)
        assert (image["status"], image["os_hash_algo"], image["os_hash_value"], image["checksum"]) == (
            "active",
            "sha256",
            SHA256,
            MD5,
        )


def test_digests_need_not_be_computed(tmp_path: Path, web: WebServer) -> None:
    made = make(tmp_path, do_secure_hash=False)
    with made.service as service:
        plain, told = made.image(), made.image()
        assert add(made, plain, web.url("/a")).status_code == 202
        assert add(made, told, web.url("/a"), **digest("sha256", OTHER)).status_code == 202
        service.run_tasks()
        image = shown(made, plain)
        assert (image["status"], image["os_hash_algo"], image["os_hash_value"]) == ("active", None, None)
        image = shown(made, told)
        assert (image["status"], image["os_hash_value"]) == (
            "active",
            digest("sha256", OTHER)["os_hash_value"],
        )
        assert [request.method for request in web.requests] == ["HEAD", "HEAD"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ([], 400),
        ({}, 400),
        ({"url": 7}, 400),
        ({"url": "{url}", "validation_data": None}, 400),
        ({"url": "{url}", "validation_data": {"os_hash_value": SHA256}}, 400),
        ({"url": "{url}", "validation_data": {"os_hash_algo": "sha256"}}, 400),
        ({"url": "{url}", "validation_data": {"os_hash_algo": "sha123", "os_hash_value": SHA256}}, 400),
        ({"url": "{url}", "validation_data": {"os_hash_algo": "sha512", "os_hash_value": SHA256}}, 400),
        ({"url": "{url}", "validation_data": {"os_hash_algo": "sha256", "os_hash_value": "xy" * 32}}, 400),
        ({"url": "{url}", "validation_data": {**digest("sha256"), "checksum": MD5}}, 400),
        ({"url": "gopher://x"}, 403),
        ({"url": "http://user:secret@127.0.0.1/"}, 400),
    ],
)
def test_what_is_no_location_is_refused_at_once(new: Api, web: WebServer, body: Any, status: int) -> None:
    image_id = new.image()
    if isinstance(body, dict) and body.get("url") == "{url}":
        body = {**body, "url": web.url("/a")}
    answer = new.as_("alice").post(f"/v2/images/{image_id}/locations", json=body)
    assert (answer.status_code, "secret" in answer.text) == (status, False)
    assert new.as_("alice").get(f"/v2/images/{image_id}/tasks").json["tasks"] == []
    assert shown(new, image_id)["status"] == "queued"


def test_who_may_add_a_location(new: Api, web: WebServer) -> None:
    image_id = new.image(visibility="community")
    for user, status in (("bob", 403), ("reader", 403), ("svc", 202)):
        assert add(new, image_id, web.url("/a"), user=user).status_code == status, user
    assert add(new, NOBODY, web.url("/a")).status_code == 404
    assert add(new, new.image(), web.url("/a"), user="svc").status_code == 202
    assert add(new, new.image(), "gopher://x", user="svc").status_code == 400


def test_who_may_fetch_locations(new: Api) -> None:
    image_id = new.image(data=b"x")
    path = f"/v2/images/{image_id}/locations"
    assert new.as_("alice").get(path).status_code == 403
    assert new.as_("bob").get(path).status_code == 404
    (location,) = new.as_("svc").get(path).json
    assert location["metadata"] == {"store": "ram"}
    assert location["url"].startswith(f"memory://ram/{image_id}-")
    assert new.as_("svc").get(f"/v2/images/{NOBODY}/locations").status_code == 404


def test_one_location_at_a_time_and_only_of_a_queued_image(new: Api, web: WebServer) -> None:
    image_id = new.image()
    assert add(new, image_id, web.url("/a")).status_code == 202
    assert add(new, image_id, web.url("/other")).status_code == 409
    new.service.run_tasks()
    assert add(new, image_id, web.url("/a")).status_code == 409
    assert len(new.as_("alice").get(f"/v2/images/{image_id}/tasks").json["tasks"]) == 1


def test_a_url_where_nothing_is_fails_the_task(new: Api, web: WebServer) -> None:
    image_id = new.image()
    assert add(new, image_id, web.url("/missing")).status_code == 202
    new.service.run_tasks()
    assert task_of(new, image_id)["status"] == "failure"
    image = shown(new, image_id)
    assert (image["status"], "stores" in image) == ("queued", False)
    assert add(new, image_id, web.url("/a")).status_code == 202


def test_data_that_refers_to_host_files_is_not_served(new: Api, web: WebServer) -> None:
    image = bytearray(512)
    image[:4], image[7] = b"QFI\xfb", 3
    image[8:16] = (256).to_bytes(8, "big")  # a backing file's name
    image[16:20] = (11).to_bytes(4, "big")
    image[256:267] = b"/etc/passwd"
    web.answers["/evil"] = serving(bytes(image))
    told, plain = (new.image(disk_format="qcow2") for _ in range(2))
    assert add(new, told, web.url("/evil"), **digest("sha256", bytes(image))).status_code == 202
    assert add(new, plain, web.url("/evil")).status_code == 202
    new.service.run_tasks()
    assert shown(new, told)["status"] == "queued"
    assert shown(new, plain)["status"] == "deactivated"
    assert {task_of(new, each)["status"] for each in (told, plain)} == {"failure"}
    assert new.as_("alice").get(f"/v2/images/{plain}/file").status_code == 403


class Slow:
    """Sends data bit by bit until it is told to stop."""

    def __init__(self, size: int = 64 << 20) -> None:
        self.size = size
        self.sent = 0
        self.stopped = False

    def __call__(self, request: Request, out: BinaryIO) -> bool:
        reply(out, 200, {"Content-Length": str(self.size)})
        while request.method == "GET" and not self.stopped:
            out.write(bytes(256 << 10))
            out.flush()
            self.sent += 256 << 10
            time.sleep(0.02)
        return request.method != "GET"


@pytest.mark.parametrize("told", [True, False])
def test_deleting_the_image_ends_the_computation(new: Api, web: WebServer, told: bool) -> None:
    slow = Slow()
    web.answers["/slow"] = slow
    new.service.start_tasks(1)
    image_id = new.image()
    assert add(new, image_id, web.url("/slow"), **(digest("sha256") if told else {})).status_code == 202
    until(lambda: slow.sent)
    image = shown(new, image_id)
    if told:
        assert (image["status"], image["stores"]) == ("importing", "web")
        assert new.as_("alice").get(f"/v2/images/{image_id}/file").status_code == 204
    else:
        assert (image["status"], image["os_hash_algo"], image["os_hash_value"]) == ("active", "sha256", None)
    task_id = task_of(new, image_id)["id"]
    assert new.as_("alice").delete(f"/v2/images/{image_id}").status_code == 204
    admin = Caller.administrator()
    until(lambda: new.service.show_task(admin, task_id).status is TaskStatus.FAILURE)
    slow.stopped = True
    assert slow.sent < slow.size
    assert "deleted" in new.service.show_task(admin, task_id).message


@pytest.mark.parametrize("told", [True, False])
def test_another_process_goes_on_where_one_died(web: WebServer, clock: StandingClock, told: bool) -> None:
    registry = MemoryRegistry({})
    begun, over = threading.Event(), threading.Event()

    def hanging(request: Request, out: BinaryIO) -> bool:
        reply(out, 200, {"Content-Length": str(len(DATA))})
        if request.method == "GET":
            out.write(DATA[:100])
            out.flush()
            begun.set()
            over.wait(30)
        return request.method != "GET"

    def process() -> ImageService:
        stores = {"ram": MemoryStore({}), "web": web_store()}
        return open_service(registry, stores=stores)

    web.answers["/b"] = hanging
    admin = Caller.administrator()
    with process() as first, process() as second:
        image_id = first.create_image(admin, {"disk_format": "raw", "container_format": "bare"}).id
        task = first.add_location(admin, image_id, web.url("/b"), digest("sha256") if told else {})
        first.start_tasks(1)
        assert begun.wait(60)
        # What kill -9 does to the rest of the world: nobody renews the lease.
        first._context.leases.stop()
        web.answers["/b"] = serving(DATA)
        assert second.run_tasks() == 0
        clock.move(60)
        assert second.run_tasks() == 1
        over.set()
        assert second.show_task(admin, task.id).status is TaskStatus.SUCCESS
        image = second.show_image(admin, image_id)
        assert (image.status, image.hash_value, image.staged) == (Status.ACTIVE, SHA256, None)
    # The one that was slow has changed nothing when it came back.
    assert registry.get(image_id, ADMIN) == image
