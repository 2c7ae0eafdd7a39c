"""Old holes that locations have had elsewhere, each named after its CVE."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import pytest

from glancelike.errors import GlancelikeError
from glancelike.model import Caller, Location
from glancelike.service import ImportRequest
from glancelike.stores.base import BlobInfo, Cap
from glancelike.stores.file import FileStore
from glancelike.stores.http import HttpStore
from glancelike.stores.memory import MemoryStore
from tests.server_fixtures import Api, write_users
from tests.web_server import WebServer, redirecting, serving, web_server

OCTETS = {"Content-Type": "application/octet-stream"}
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
SECRET = "hostfile-secret"


class Bucket(MemoryStore):
    """An object store whose blobs callers may name: ``bucket://<key>``."""

    schemes = ("bucket",)
    capabilities = MemoryStore.capabilities | Cap.URLS

    def key_of(self, url: str) -> str:
        return url.removeprefix("bucket://")

    def url_of(self, key: str) -> str:
        return f"bucket://{key}"

    def stat(self, key: str) -> BlobInfo:
        return super().stat(key)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """Locations are shown and patched; the stores are disk, bucket and web."""
    made = Api(
        write_users(tmp_path / "users"),
        stores={
            "disk": FileStore({"filesystem_store_datadir": str(tmp_path / "disk")}),
            "bucket": Bucket({}),
            "web": HttpStore(
                {
                    "http_store_allowed_networks": ["127.0.0.1/32"],
                    "http_store_allowed_ports": [],
                    "http_store_retries": 0,
                }
            ),
        },
        show_multiple_locations=True,
        show_image_direct_url=True,
    )
    yield made
    made.service.close()


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        server.answers["/a"] = serving(b"abc")
        yield server


def patch(api: Api, image_id: str, *changes: dict[str, Any], user: str = "alice") -> falcon.testing.Result:
    return api.as_(user).patch(f"/v2/images/{image_id}", body=json.dumps(changes), headers=PATCH)


def ways(api: Api, image_id: str, url: str) -> list[falcon.testing.Result]:
    """Try every way to have ``url`` become the image's location."""
    location = {"url": url, "metadata": {}}
    return [
        patch(api, image_id, {"op": "add", "path": "/locations/-", "value": location}),
        patch(api, image_id, {"op": "replace", "path": "/locations", "value": [location]}),
        api.as_("alice").post(f"/v2/images/{image_id}/locations", json={"url": url}),
        api.as_("alice").post("/v2/images", json={"name": "x", "locations": [location]}),
        api.as_("alice").post("/v2/images", json={"name": "x", "direct_url": url}),
    ]


def shown(api: Api, image_id: str) -> dict[str, Any]:
    found: dict[str, Any] = api.as_("alice").get(f"/v2/images/{image_id}").json
    return found


@pytest.mark.parametrize(
    "scheme", ["file", "FILE", "filesystem", "FileSystem", "swift+config", "disk", "store"]
)
def test_cve_2014_9493_cve_2015_1195_no_location_names_a_host_file(
    api: Api, tmp_path: Path, scheme: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    image_id = api.image()
    for host in ("", "localhost", "disk"):
        for answer in ways(api, image_id, f"{scheme}://{host}{secret}"):
            assert answer.status_code in (400, 403), answer.text
    api.service.run_tasks()
    image = shown(api, image_id)
    assert (image["status"], image["locations"]) == ("queued", [])
    assert len(api.as_("alice").get("/v2/images").json["images"]) == 1


def test_cve_2014_9493_not_even_the_url_that_a_file_is_shown_as(api: Api) -> None:
    theirs = shown(api, api.image("alice", data=b"x"))["locations"][0]["url"]
    assert theirs.startswith("file://disk/")
    image_id = api.image()
    for answer in ways(api, image_id, theirs):
        assert answer.status_code in (400, 403)
    assert shown(api, image_id)["status"] == "queued"


def test_cve_2015_1195_a_record_from_elsewhere_reads_no_host_file(api: Api, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    for key in ("../secret", str(tmp_path / "secret"), f"file://{tmp_path}/secret"):
        location = Location("disk", key)
        with pytest.raises(GlancelikeError) as caught:
            api.service._context.mounts.first((location,), lambda store, key: b"".join(store.read(key)))
        assert SECRET not in str(caught.value)


def test_cve_2015_5251_the_status_is_not_the_callers_to_set(api: Api) -> None:
    image_id = api.image(data=b"first")
    headers = {"X-Image-Meta-Status": "queued", "x-image-meta-status": "queued", **OCTETS}
    for method, path in (("PUT", "file"), ("PUT", "stage")):
        answer = api.as_("alice").simulate_request(
            method, f"/v2/images/{image_id}/{path}", body=b"second", headers=headers
        )
        assert answer.status_code == 409
    for user in ("alice", "admin"):
        change = {"op": "replace", "path": "/status", "value": "queued"}
        assert patch(api, image_id, change, user=user).status_code == 403
    assert api.as_("alice").get(f"/v2/images/{image_id}/file").content == b"first"


def test_cve_2016_0757_an_active_image_keeps_a_location(api: Api, web: WebServer) -> None:
    image_id = api.image(data=b"abc")
    url = web.url("/a")
    assert patch(api, image_id, {"op": "remove", "path": "/locations/0"}, user="admin").status_code == 403
    for value, status in (([], 403), ([{"url": url, "metadata": {}}], 400)):
        change = {"op": "replace", "path": "/locations", "value": value}
        assert patch(api, image_id, change, user="admin").status_code == status
    # Not in two steps either: the first location may go, the one left may not.
    add = {"op": "add", "path": "/locations/-", "value": {"url": url, "metadata": {}}}
    removals = [{"op": "remove", "path": "/locations/0"}] * 2
    assert patch(api, image_id, add, *removals, user="admin").status_code == 403
    image = shown(api, image_id)
    assert (image["status"], len(image["locations"])) == ("active", 1)
    assert api.as_("alice").get(f"/v2/images/{image_id}/file").content == b"abc"


def test_cve_2013_1840_no_credential_in_a_location(api: Api, web: WebServer) -> None:
    url = web.url("/a").replace("http://", "http://user:s3cr3t@")
    image_id = api.image()
    for answer in ways(api, image_id, url):
        assert answer.status_code in (400, 403)
        assert "s3cr3t" not in answer.text
    assert "s3cr3t" not in json.dumps(shown(api, image_id))
    assert web.requests == []


def test_cve_2014_1948_cve_2013_0212_no_credential_in_errors_or_logs(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    image_id = api.image()
    for url in ("http://user:s3cr3t@127.0.0.1:1/", "bucket://user:s3cr3t@host/x", "swift://a:s3cr3t@h/c/o"):
        for answer in ways(api, image_id, url):
            assert answer.status_code in (400, 403)
            assert "s3cr3t" not in answer.text
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "169.254.169.254", "127.0.0.2", "0x7f.2", "2130706434", "[::ffff:127.0.0.2]", "[::1]"],
)
def test_cve_2026_34881_a_location_reaches_no_internal_address(api: Api, web: WebServer, host: str) -> None:
    web.answers["/onward"] = redirecting(f"http://{host}:{web.port}/a")
    image_id = api.image()
    for url in (f"http://{host}:{web.port}/a", web.url("/onward")):
        for answer in ways(api, image_id, url)[:2]:
            assert answer.status_code == 400
    api.as_("alice").post(f"/v2/images/{image_id}/locations", json={"url": web.url("/onward")})
    api.service.run_tasks()
    assert shown(api, image_id)["status"] == "queued"
    assert web.seen("/a") == []


def test_ossn_0065_data_of_another_image_can_not_be_named(api: Api) -> None:
    """Whoever names another image's blob could read it, and delete it with an image of its own."""
    theirs = api.image("alice", data=b"private to alice", visibility="private")
    admin = Caller.administrator()
    api.service.import_image(admin, theirs, ImportRequest("copy-image", stores=("bucket",)))
    api.service.run_tasks()
    (url,) = (
        each["url"] for each in shown(api, theirs)["locations"] if each["metadata"]["store"] == "bucket"
    )
    mine = api.image("bob")
    # Of a Glance that was taken over the key is the bare id.
    for location in ({"url": each, "metadata": {}} for each in (url, url[: url.index(theirs)] + theirs)):
        for change in (
            {"op": "add", "path": "/locations/-", "value": location},
            {"op": "replace", "path": "/locations", "value": [location]},
        ):
            answer = patch(api, mine, change, user="bob")
            assert answer.status_code == 400
            assert "another image's data" in answer.json["message"]
    assert api.as_("bob").delete(f"/v2/images/{mine}").status_code == 204
    read = api.service.read(admin, theirs, prefer=("bucket",))
    assert b"".join(read.chunks()) == b"private to alice"


def test_ossn_0090_users_name_web_servers_only(api: Api) -> None:
    """What lies in a store that the service pays for, only services may name."""
    image_id = api.image()
    answer = api.as_("alice").post(f"/v2/images/{image_id}/locations", json={"url": "bucket://x"})
    assert answer.status_code == 403


def test_refused_locations_do_not_tell_what_answers_where(api: Api, web: WebServer) -> None:
    """A server that tells closed ports from open ones is a port scanner."""
    image_id = api.image()
    said = {
        patch(
            api,
            image_id,
            {"op": "add", "path": "/locations/-", "value": {"url": url, "metadata": {}}},
        ).json["message"]
        for url in ("http://127.0.0.1:1/", web.url("/missing"))
    }
    assert len(said) == 1
