"""What has gone wrong in image services before: each test is named after its report.

The reports are those of OpenStack's security advisories (CVE, OSSA) and
notes (OSSN) that concern who may do what to images.
"""

from __future__ import annotations

import io
import json
import re
import threading
from datetime import timedelta
from typing import Any

import falcon.testing
import pytest

from glancelike.api.routes import ROUTES
from glancelike.errors import GlancelikeError, ImageNotFound
from glancelike.model import Caller, utcnow
from glancelike.protections import Format, load
from glancelike.service import ImageService
from tests.server_fixtures import Api, write_users

V20 = "application/openstack-images-v2.0-json-patch"
V21 = "application/openstack-images-v2.1-json-patch"
OCTETS = "application/octet-stream"
DATA = b"the data that was verified"
ALICE = Caller("alice", "p-alice", frozenset({"member", "reader"}))


def patch(api: Api, user: str, image_id: str, *changes: dict[str, Any]) -> falcon.testing.Result:
    return api.as_(user).patch(
        f"/v2/images/{image_id}", body=json.dumps(changes), headers={"Content-Type": V21}
    )


def content(api: Api, image_id: str) -> bytes:
    return api.as_("admin").get(f"/v2/images/{image_id}/file").content


def blobs(service: ImageService) -> list[str]:
    return [blob.key for mount in service._context.mounts.all() for blob in mount.store.list()]


@pytest.mark.parametrize("field", ["status", "size", "checksum", "os_hash_value", "os_hash_algo", "id"])
def test_cve_2015_5251_what_the_service_sets_nobody_else_sets(api: Api, field: str) -> None:
    """An owner set the status of an active image back to queued, and replaced its data."""
    image_id = api.image(data=DATA)
    path = f"/v2/images/{image_id}"
    before = api.as_("alice").get(path).json
    headers = {
        "X-Image-Meta-Status": "queued",
        "X-Image-Meta-Id": "0b31c2f6-3a66-4d0e-a3be-0c3e8a4d1a11",
        "X-Image-Meta-Checksum": "0" * 32,
    }
    for user in ("alice", "admin"):
        value: Any = 5 if field == "size" else "queued"
        for operation in ("add", "replace", "remove"):
            change = {"op": operation, "path": f"/{field}", "value": value}
            assert patch(api, user, image_id, change).status_code == 403
            older = json.dumps([{operation: f"/{field}", "value": value}])
            answer = api.as_(user).patch(path, body=older, headers={"Content-Type": V20, **headers})
            assert answer.status_code == 403
        put = api.as_(user).put(f"{path}/file", body=b"evil", headers={"Content-Type": OCTETS, **headers})
        assert put.status_code == 409
        assert api.as_(user).put(path, json={"status": "queued"}).status_code == 405
    assert api.as_("alice").get(path).json == before
    assert content(api, image_id) == DATA


def test_cve_2016_0757_an_active_image_keeps_its_data(api: Api) -> None:
    """Removing the last location made an image queued, ready for other data."""
    image_id = api.image(data=DATA)
    for user in ("alice", "admin"):
        for change in (
            {"op": "remove", "path": "/locations/0"},
            {"op": "replace", "path": "/locations", "value": []},
            {"op": "remove", "path": "/locations"},
            {"op": "remove", "path": "/locations/-1"},
        ):
            assert patch(api, user, image_id, change).status_code in (400, 403, 404)
        refused = api.as_(user).delete(f"/v2/stores/memory/{image_id}")
        assert refused.status_code == 403
    assert api.as_("alice").get(f"/v2/images/{image_id}").json["status"] == "active"
    assert content(api, image_id) == DATA


CHANGES = [
    ("DELETE", "", b"", ""),
    ("PATCH", "", b'[{"op": "replace", "path": "/name", "value": "mine"}]', V21),
    ("PUT", "/file", b"evil", OCTETS),
    ("PUT", "/stage", b"evil", OCTETS),
    ("POST", "/import", b'{"method": {"name": "glance-direct"}}', "application/json"),
    ("PUT", "/tags/mine", b"", ""),
    ("DELETE", "/tags/t", b"", ""),
    ("POST", "/members", b'{"member": "p-bob"}', "application/json"),
    ("DELETE", "/members/p-carol", b"", ""),
    ("PUT", "/members/p-carol", b'{"status": "accepted"}', "application/json"),
    ("POST", "/actions/deactivate", b"", ""),
    ("POST", "/actions/reactivate", b"", ""),
]


@pytest.mark.parametrize("visibility", ["private", "shared", "community", "public"])
@pytest.mark.parametrize(("method", "path", "body", "media_type"), CHANGES)
def test_cve_2012_4573_and_cve_2012_5482_only_owners_change_images(
    api: Api, visibility: str, method: str, path: str, body: bytes, media_type: str
) -> None:
    """Anybody could delete images of others that they could see."""
    image_id = api.image(data=DATA, tags=["t"])
    for project in ("p-bob", "p-carol"):
        assert (
            api.as_("alice").post(f"/v2/images/{image_id}/members", json={"member": project}).status_code
            == 200
        )
    changed = patch(api, "admin", image_id, {"op": "replace", "path": "/visibility", "value": visibility})
    before = changed.json
    answer = api.as_("bob").simulate_request(
        method, f"/v2/images/{image_id}{path}", body=body, headers={"Content-Type": media_type or OCTETS}
    )
    assert answer.status_code in ((404,) if visibility == "private" else (403, 404))
    after = api.as_("admin").get(f"/v2/images/{image_id}").json
    assert after == before
    assert content(api, image_id) == DATA


def test_cve_2014_5356_the_size_cap_holds_for_every_way_in(api: Api, tmp_path: Any) -> None:
    """image_size_cap wasn't enforced, neither for a known size nor for an unknown one."""
    small = Api(write_users(tmp_path / "other-users"), image_size_cap=10)
    for announced in (11, None):
        for verb in ("upload", "stage"):
            image = small.service.create_image(ALICE, {"disk_format": "raw", "container_format": "bare"})
            with pytest.raises(GlancelikeError, match="image_size_cap"):
                getattr(small.service, verb)(ALICE, image.id, io.BytesIO(b"x" * 11), size=announced)
            assert small.service.show_image(ALICE, image.id).status == "queued"
    assert blobs(small.service) == []
    small.service.close()


class Slow(io.RawIOBase):
    """Gives one block, then waits until somebody has seen that it is being read."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self._blocks = [b"a" * 4096, b"b" * 4096]

    def read(self, size: int = -1, /) -> bytes:
        if len(self._blocks) == 1:
            self.begun.set()
            assert self.go_on.wait(60)
        return self._blocks.pop(0) if self._blocks else b""


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("verb", ["upload", "stage"])
def test_cve_2014_9623_an_image_deleted_during_its_upload_leaves_nothing(
    tmp_path: Any, verb: str, delayed: bool
) -> None:
    """Images deleted in the status saving left their data behind, beyond every quota.

    So did CVE-2014-9684, CVE-2015-1881 and CVE-2015-3289 for other ways in.
    """
    api = Api(write_users(tmp_path / "users"), delayed_delete=delayed)
    image_id = api.image()
    source, failures = Slow(), []

    def move() -> None:
        try:
            getattr(api.service, verb)(ALICE, image_id, source)
        except ImageNotFound as error:
            failures.append(error)

    thread = threading.Thread(target=move)
    thread.start()
    assert source.begun.wait(60)
    assert api.as_("alice").delete(f"/v2/images/{image_id}").status_code == 204
    source.go_on.set()
    thread.join()
    assert len(failures) == 1
    assert blobs(api.service) == []
    api.service.close()


def test_cve_2013_4428_every_way_to_the_data_asks_the_policy(api: Api) -> None:
    """A cached image was served to those whom download_image forbids."""
    image_id = api.image(data=DATA)
    path = f"/v2/images/{image_id}/file"
    for headers in ({}, {"Range": "bytes=0-3"}, {"If-None-Match": "*"}, {"Accept": "application/json"}):
        for method in ("GET", "HEAD"):
            reader = api.as_("reader").simulate_request(method, path, headers=headers)
            assert reader.status_code == 403
            assert DATA[:4] not in reader.content
    assert api.as_("reader").get(f"{path}?prefer=memory").status_code == 403


def test_ossn_0005_nobody_is_shared_an_image_without_consent(api: Api) -> None:
    """Images shared by anybody turned up in other projects' lists, with any name."""
    image_id = api.image(data=DATA, name="ubuntu-official")
    share = f"/v2/images/{image_id}/members"
    assert api.as_("alice").post(share, json={"member": "p-bob"}).status_code == 200

    def listed(query: str = "") -> list[str]:
        return [image["id"] for image in api.as_("bob").get(f"/v2/images{query}").json["images"]]

    assert listed() == []
    assert listed("?name=ubuntu-official") == []
    assert listed("?visibility=shared") == []
    assert listed("?member_status=pending&visibility=shared") == [image_id]
    # Neither the owner nor another project can accept in bob's place.
    for user in ("alice", "reader"):
        accepted = api.as_(user).put(f"{share}/p-bob", json={"status": "accepted"})
        assert accepted.status_code == 403
    assert listed() == []
    assert api.as_("bob").put(f"{share}/p-bob", json={"status": "rejected"}).status_code == 200
    assert listed() == []
    assert api.as_("bob").put(f"{share}/p-bob", json={"status": "accepted"}).status_code == 200
    assert listed() == [image_id]


def test_ossn_0013_what_is_protected_is_protected_in_every_way(tmp_path: Any) -> None:
    """A permissive rule undid a stricter one before it."""
    rules = tmp_path / "protections.conf"
    rules.write_text(
        "[^bill]\ncreate = admin\nread = @\nupdate = admin\ndelete = admin\n"
        "[.*]\ncreate = @\nread = @\nupdate = @\ndelete = @\n"
    )
    api = Api(write_users(tmp_path / "users"), protections=load(rules, Format.ROLES))
    image_id = api.image("admin", owner="p-alice", bill="1")
    for change in (
        {"op": "add", "path": "/bill", "value": "0"},
        {"op": "replace", "path": "/bill", "value": "0"},
        {"op": "remove", "path": "/bill"},
        {"op": "add", "path": "/billing", "value": "0"},
    ):
        assert patch(api, "alice", image_id, change).status_code == 403, change
    # As a step between others, and hidden behind one that is allowed.
    two = ({"op": "replace", "path": "/name", "value": "x"}, {"op": "replace", "path": "/bill", "value": "0"})
    assert patch(api, "alice", image_id, *two).status_code == 403
    shown = api.as_("alice").get(f"/v2/images/{image_id}").json
    assert (shown["bill"], shown["name"]) == ("1", None)
    api.service.close()


def test_ossn_0015_a_user_cannot_make_an_image_public(api: Api) -> None:
    """Everybody could publish images to all projects."""
    assert api.as_("alice").post("/v2/images", json={"visibility": "public"}).status_code == 403
    image_id = api.image(visibility="community")
    for operation in ("add", "replace"):
        change = {"op": operation, "path": "/visibility", "value": "public"}
        assert patch(api, "alice", image_id, change).status_code == 403
    # Nor by way of somebody else's ownership.
    change = {"op": "replace", "path": "/owner", "value": "admin"}
    assert patch(api, "alice", image_id, change).status_code == 403
    assert api.as_("alice").post("/v2/images", json={"owner": "admin"}).status_code == 403
    assert api.as_("alice").get(f"/v2/images/{image_id}").json["visibility"] == "community"


def test_ossn_0048_a_path_answers_its_own_methods_only(api: Api) -> None:
    """A DELETE of /file brought the data, past filters in front of the server."""
    image_id = api.image(data=DATA)
    paths: dict[str, set[str]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, set()).add(route.method)
    for path, methods in paths.items():
        where = re.sub(r"\{\w+\}", image_id, path)
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - methods:
            answer = api.as_("admin").simulate_request(
                method, where, headers={"X-HTTP-Method-Override": min(methods)}
            )
            # tus has clients that can't PATCH; only what says that it's one of them is heard.
            tus = method == "POST" and path.endswith("/uploads/{upload_id}")
            assert answer.status_code == (412 if tus else 405), (method, path)
            assert DATA not in answer.content
    assert content(api, image_id) == DATA


def test_ossn_0057_queued_images_are_limited(tmp_path: Any) -> None:
    """Without any limit one user could fill the database with queued images."""
    api = Api(write_users(tmp_path / "users"), image_count_total=2)
    for _ in range(2):
        api.image()
    assert api.as_("alice").post("/v2/images", json={}).status_code == 413
    api.image("bob")
    api.service.close()


def test_ossn_0075_the_id_of_a_deleted_image_is_never_given_again(api: Api) -> None:
    """After a purge of the database others could take the id of a popular image."""
    image_id = api.image(data=DATA, visibility="community")
    assert api.as_("alice").delete(f"/v2/images/{image_id}").status_code == 204
    registry = api.service._context.registry
    registry.purge(utcnow() + timedelta(days=1))
    for user in ("alice", "bob", "admin"):
        for given in (image_id, image_id.upper()):
            assert api.as_(user).post("/v2/images", json={"id": given}).status_code == 409


def test_internal_properties_are_set_by_nobody_else(api: Api) -> None:
    """Reserved names steer imports and locations: a user who sets them steers, too."""
    for name in ("os_glance_import_task", "os_glance_stage_host", "os_glance_deleted_from", "locations"):
        value: Any = [] if name == "locations" else "x"
        assert api.as_("alice").post("/v2/images", json={name: value}).status_code == 403
        image_id = api.image(data=DATA)
        assert patch(
            api, "alice", image_id, {"op": "add", "path": f"/{name}", "value": value}
        ).status_code in (
            400,
            403,
        )


def test_cve_2026_22797_identity_comes_from_the_credentials_alone(api: Api) -> None:
    """A header that only the identity middleware may set came from outside."""
    image_id = api.image(visibility="private")
    spoofed = {
        "X-Roles": "admin",
        "X-Role": "admin",
        "X-User-Id": "alice",
        "X-Project-Id": "p-alice",
        "X-Tenant-Id": "p-alice",
        "X-Is-Admin-Project": "True",
        "X-Identity-Status": "Confirmed",
        "X-Service-Roles": "service",
        "OpenStack-System-Scope": "all",
    }
    bob = api.as_("bob")
    assert bob.get(f"/v2/images/{image_id}", headers=spoofed).status_code == 404
    assert bob.get("/v2/tasks", headers=spoofed).status_code == 403
    assert api.as_(None).get("/v2/images", headers=spoofed).status_code == 401
