"""Image records over the API: requests and what they answer."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import falcon.testing
import pytest

from glancelike.registry.base import ADMIN
from tests.server_fixtures import Api, write_users

OCTETS = "application/octet-stream"
V21 = "application/openstack-images-v2.1-json-patch"
V20 = "application/openstack-images-v2.0-json-patch"


def patch(api: Api, path: str, changes: Any, media_type: str = V21) -> falcon.testing.Result:
    return api.as_("alice").patch(path, body=json.dumps(changes), headers={"Content-Type": media_type})


def test_create_answers_location_and_the_whole_image(api: Api) -> None:
    made = api.as_("alice").post(
        "/v2/images",
        json={
            "name": "täst",
            "disk_format": "qcow2",
            "container_format": "bare",
            "min_disk": 2,
            "tags": ["b", "a", "a"],
            "hw_disk_bus": "virtio",
        },
    )
    assert made.status_code == 201
    image = made.json
    path = f"/v2/images/{image['id']}"
    assert made.headers["location"].endswith(path)
    assert image["created_at"] == image["updated_at"]
    del image["created_at"], image["updated_at"]
    assert image == {
        "id": str(uuid.UUID(image["id"])),
        "name": "täst",
        "status": "queued",
        "visibility": "shared",
        "owner": "p-alice",
        "protected": False,
        "os_hidden": False,
        "disk_format": "qcow2",
        "container_format": "bare",
        "min_disk": 2,
        "min_ram": 0,
        "size": None,
        "virtual_size": None,
        "checksum": None,
        "os_hash_algo": None,
        "os_hash_value": None,
        "tags": ["a", "b"],
        "hw_disk_bus": "virtio",
        "self": path,
        "file": f"{path}/file",
        "schema": "/v2/schemas/image",
    }


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"name": 5}, 400, "Provided object does not match schema 'image': 5 is not of type"),
        ({"name": "x" * 256}, 400, "is too long"),
        ({"disk_format": "floppy"}, 400, "'floppy' is not one of"),
        ({"visibility": "secret"}, 400, "'secret' is not one of"),
        ({"min_ram": -1}, 400, "minimum"),
        ({"min_ram": 2**31}, 400, "maximum"),
        ({"id": "no-uuid"}, 400, "does not match"),
        ({"tags": "a"}, 400, "is not of type 'array'"),
        ({"tags": ["x" * 256]}, 400, "too long"),
        ({"custom": 5}, 400, "5 is not of type 'string' (at ['custom'])"),
        ({"name": "a\0b"}, 400, "NUL"),
        ([], 400, "[] is not of type 'object'"),
        ("x", 400, "'x' is not of type 'object'"),
        (None, 400, "None is not of type 'object'"),
        ({"status": "active"}, 403, "Attribute 'status' is read-only."),
        ({"size": 5}, 403, "Attribute 'size' is read-only."),
        ({"os_glance_x": "y"}, 403, "reserved"),
        ({"location": "y"}, 403, "Attribute 'location' is reserved."),
        ({"deleted": "y"}, 403, "Attribute 'deleted' is reserved."),
        ({"self": "y"}, 403, "Attribute 'self' is read-only."),
        ({"locations": []}, 403, "Attribute 'locations' is read-only."),
        ({"p" * 256: "y"}, 400, "longer than 255"),
        ({" ": "y"}, 400, "can't be the name of a property"),
        ({"prop": None}, 400, "None is not of type 'string'"),
        ({"min_disk": None}, 400, "None is not of type 'integer'"),
        ({"visibility": "public"}, 403, "publicize_image"),
        ({"owner": "p-bob"}, 403, "owned by 'p-bob'"),
        ({f"p{i}": "" for i in range(129)}, 413, "attempted 129, maximum 128"),
        ({"tags": [str(i) for i in range(129)]}, 413, "attempted 129, maximum 128"),
    ],
)
def test_refused_create(api: Api, body: Any, status: int, said: str) -> None:
    answer = api.as_("alice").post("/v2/images", body=json.dumps(body))
    assert answer.status_code == status, answer.text
    assert said in answer.json["message"]
    assert api.as_("admin").get("/v2/images?visibility=all").json["images"] == []


def test_an_id_is_taken_only_once(api: Api) -> None:
    image_id = str(uuid.uuid4())
    assert api.image(id=image_id) == image_id
    assert api.as_("alice").post("/v2/images", json={"id": image_id}).status_code == 409
    assert api.as_("alice").delete(f"/v2/images/{image_id}").status_code == 204
    assert api.as_("alice").post("/v2/images", json={"id": image_id}).status_code == 409


def test_show_and_delete(api: Api) -> None:
    path = f"/v2/images/{api.image(name='mine')}"
    alice, bob = api.as_("alice"), api.as_("bob")
    assert alice.get(path).json["name"] == "mine"
    assert bob.get(path).status_code == 404
    assert bob.delete(path).status_code == 404
    assert api.as_("reader").delete(path).status_code == 403
    gone = alice.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    assert alice.get(path).status_code == 404
    assert alice.delete(path).status_code == 404


def test_a_protected_image_stays(api: Api) -> None:
    path = f"/v2/images/{api.image(protected=True)}"
    alice = api.as_("alice")
    refused = alice.delete(path)
    assert refused.status_code == 403
    assert "is protected and cannot be deleted" in refused.json["message"]
    change = [{"op": "replace", "path": "/protected", "value": False}]
    assert patch(api, path, change).status_code == 200
    assert alice.delete(path).status_code == 204


def test_patch_changes_fields_properties_and_tags_at_once(api: Api) -> None:
    path = f"/v2/images/{api.image(name='old', colour='red', shape='round')}"
    answer = patch(
        api,
        path,
        [
            {"op": "replace", "path": "/name", "value": "new"},
            {"op": "replace", "path": "/colour", "value": "blue"},
            {"op": "remove", "path": "/shape"},
            {"op": "add", "path": "/a~0b", "value": "tilde"},
            {"op": "add", "path": "/tags/-", "value": "t"},
        ],
    )
    assert answer.status_code == 200
    shown = answer.json
    assert {key: shown.get(key) for key in ("name", "colour", "shape", "a~b", "tags")} == {
        "name": "new",
        "colour": "blue",
        "shape": None,
        "a~b": "tilde",
        "tags": ["t"],
    }
    assert api.as_("alice").get(path).json == shown


def test_patch_in_the_older_media_type(api: Api) -> None:
    path = f"/v2/images/{api.image(name='old', colour='red')}"
    change = [{"replace": "/name", "value": "new"}, {"remove": "/colour"}]
    answer = patch(api, path, change, V20)
    assert answer.status_code == 200
    assert (answer.json["name"], answer.json.get("colour")) == ("new", None)


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"op": "replace", "path": "/name", "value": "new"}, 400, "JSON array"),
        (["x"], 400, "JSON objects"),
        ([{"path": "/name", "value": "x"}], 400, "Unable to find 'op'"),
        ([{"op": "add", "value": "x"}], 400, "Unable to find 'path'"),
        ([{"op": "move", "path": "/name", "value": "x"}], 400, "Invalid operation: 'move'"),
        ([{"op": ["add"], "path": "/name", "value": "x"}], 400, "Invalid operation"),
        ([{"op": "add", "path": "/name"}], 400, "requires a member named 'value'"),
        ([{"op": "add", "path": "name", "value": "x"}], 400, 'does not start with "/"'),
        ([{"op": "add", "path": 5, "value": "x"}], 400, 'does not start with "/"'),
        ([{"op": "add", "path": "/", "value": "x"}], 400, "empty part"),
        ([{"op": "add", "path": "/a//b", "value": "x"}], 400, "empty part"),
        ([{"op": "add", "path": "/a~2", "value": "x"}], 400, "escape sequence"),
        ([{"op": "add", "path": "/a/b", "value": "x"}], 400, "Invalid JSON pointer"),
        ([{"op": "add", "path": "/tags/-", "value": 5}], 400, "must be a string"),
        ([{"op": "add", "path": "/a/", "value": "x"}], 400, "empty part"),
        ([{"op": "add", "path": "/a~", "value": "x"}], 400, "escape sequence"),
        ([{"op": "replace", "path": "/tags/0", "value": "x"}], 400, "Invalid JSON pointer"),
        ([{"op": "remove", "path": "/tags/0"}], 400, "Invalid JSON pointer"),
        ([{"op": "add", "path": "/os_glance_x", "value": "x"}], 403, "reserved"),
        ([{"op": "remove", "path": "/os_glance_x"}], 403, "reserved"),
        ([{"op": "add", "path": "/deleted_at", "value": "x"}], 403, "reserved"),
        ([{"op": "add", "path": "/id", "value": "x"}], 403, "read-only"),
        ([{"op": "remove", "path": "/size"}], 403, "read-only"),
        ([{"op": "add", "path": "/owner", "value": "p-bob"}], 403, "Owner can't be updated"),
        ([{"op": "remove", "path": "/visibility"}], 403, "may not be removed"),
        ([{"op": "replace", "path": "/protected", "value": "yes"}], 400, "is not of type 'boolean'"),
        ([{"op": "add", "path": "/custom", "value": None}], 400, "is not of type 'string'"),
        ([{"op": "add", "path": "/" + "p" * 256, "value": "x"}], 400, "longer than 255"),
        ([{"op": "replace", "path": "/min_ram", "value": "5"}], 400, "is not of type 'integer'"),
        ([{"op": "replace", "path": "/absent", "value": "x"}], 409, "does not exist"),
        ([{"op": "remove", "path": "/absent"}], 409, "does not exist"),
        ([{"op": "remove", "path": "/name"}], 403, "may not be removed"),
        ([{"op": "replace", "path": "/status", "value": "active"}], 403, "read-only"),
        ([{"op": "replace", "path": "/visibility", "value": "public"}], 403, "publicize_image"),
        ([{"op": "replace", "path": "/owner", "value": "p-bob"}], 403, "Owner can't be updated"),
        (
            [{"op": "replace", "path": "/name", "value": "new"}, {"op": "remove", "path": "/absent"}],
            409,
            "does not exist",
        ),
    ],
)
def test_refused_patch_changes_nothing(api: Api, change: Any, status: int, said: str) -> None:
    path = f"/v2/images/{api.image(name='old')}"
    before = api.as_("alice").get(path).json
    answer = patch(api, path, change)
    assert answer.status_code == status, answer.text
    assert said in answer.json["message"]
    assert api.as_("alice").get(path).json == before


@pytest.mark.parametrize("path", ["/name", "/colour", "/tags"])
def test_the_older_media_type_adds_only_what_is_new(api: Api, path: str) -> None:
    image = f"/v2/images/{api.image(colour='red')}"
    value: Any = ["t"] if path == "/tags" else "x"
    answer = patch(api, image, [{"add": path, "value": value}], V20)
    assert answer.status_code == 409
    assert f"Property {path[1:]} already present." in answer.json["message"]
    assert patch(api, image, [{"op": "add", "path": path, "value": value}]).status_code == 200
    assert patch(api, image, [{"add": "/new", "value": "x"}], V20).json["new"] == "x"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"add": "/a", "remove": "/a", "value": "x"}, "exactly one member"),
        ({"value": "x"}, "exactly one member"),
        ({"op": "add", "path": "/a", "value": "x"}, "exactly one member"),
        ({"add": "/a"}, "requires a member named 'value'"),
    ],
)
def test_refused_patch_in_the_older_media_type(api: Api, change: Any, said: str) -> None:
    answer = patch(api, f"/v2/images/{api.image()}", [change], V20)
    assert answer.status_code == 400
    assert said in answer.json["message"]


def test_patch_wants_its_own_media_type(api: Api) -> None:
    answer = api.as_("alice").patch(f"/v2/images/{api.image()}", json=[])
    assert answer.status_code == 415
    assert "application/json" in answer.json["message"]
    assert answer.headers["accept-patch"] == f"{V20}, {V21}"


def test_names_of_properties_may_hold_anything_that_shows(api: Api) -> None:
    path = f"/v2/images/{api.image()}"
    change = [{"op": "add", "path": "/a~1b ~0 ü", "value": "x"}]
    assert patch(api, path, change).json["a/b ~ ü"] == "x"
    assert patch(api, path, [{"op": "remove", "path": "/a~1b ~0 ü"}]).status_code == 200


def test_an_admin_gives_an_image_away(api: Api) -> None:
    path = f"/v2/images/{api.image()}"
    change = json.dumps([{"op": "replace", "path": "/owner", "value": "p-bob"}])
    given = api.as_("admin").patch(path, body=change, headers={"Content-Type": V21})
    assert (given.status_code, given.json["owner"]) == (200, "p-bob")
    assert api.as_("bob").get(path).status_code == 200
    assert api.as_("alice").get(path).status_code == 404


@pytest.mark.parametrize("before", ["private", "shared", "community", "public"])
@pytest.mark.parametrize("after", ["private", "shared", "community", "public"])
def test_visibility_changes(api: Api, before: str, after: str) -> None:
    path = f"/v2/images/{api.image('admin', visibility=before, owner='p-alice')}"
    answer = patch(api, path, [{"op": "replace", "path": "/visibility", "value": after}])
    # Only making it public is a matter for administrators; leaving it so isn't a change.
    assert answer.status_code == (403 if after == "public" != before else 200)
    expected = before if answer.status_code == 403 else after
    assert api.as_("alice").get(path).json["visibility"] == expected


def test_a_lower_limit_lets_be_what_there_is(tmp_path: Path) -> None:
    api = Api(write_users(tmp_path / "users"), image_tag_quota=2, image_property_quota=1)
    path = f"/v2/images/{api.image(tags=['a', 'b'], one='1')}"
    context = api.service._context
    before = context.registry.get(path.rpartition("/")[2], ADMIN)
    context.registry.update(
        replace(before, properties={"one": "1", "two": "2", "os_glance_x": "3"}), expect=before.version
    )
    assert patch(api, path, [{"op": "replace", "path": "/name", "value": "new"}]).status_code == 200
    assert patch(api, path, [{"op": "add", "path": "/three", "value": "3"}]).status_code == 413
    assert api.as_("alice").put(f"{path}/tags/c").status_code == 413
    assert patch(api, path, [{"op": "remove", "path": "/two"}]).status_code == 200
    api.service.close()


def test_what_comes_next_is_told_on_create(api: Api) -> None:
    made = api.as_("alice").post("/v2/images", json={})
    assert made.headers["openstack-image-store-ids"] == "memory"
    assert made.headers["openstack-image-import-methods"] == "glance-direct,web-download,copy-image"


@pytest.mark.parametrize("missing", ["disk_format", "container_format"])
def test_data_needs_both_formats(api: Api, missing: str) -> None:
    formats: dict[str, Any] = {missing: None}
    path = f"/v2/images/{api.image(**formats)}"
    answer = api.as_("alice").put(f"{path}/file", body=b"x", headers={"Content-Type": OCTETS})
    assert answer.status_code == 400
    assert missing in answer.json["message"]
    assert api.as_("alice").get(path).json["status"] == "queued"


def test_formats_are_fixed_once_there_is_data(api: Api) -> None:
    path = f"/v2/images/{api.image(data=b'x')}"
    change = [{"op": "replace", "path": "/disk_format", "value": "iso"}]
    assert patch(api, path, change).status_code == 403


def test_tags(api: Api) -> None:
    path = f"/v2/images/{api.image(tags=['a'])}"
    alice = api.as_("alice")
    for tag in ("b", "b", "with%20blank"):
        assert alice.put(f"{path}/tags/{tag}").status_code == 204
    assert alice.get(path).json["tags"] == ["a", "b", "with blank"]
    assert alice.delete(f"{path}/tags/a").status_code == 204
    assert alice.delete(f"{path}/tags/a").status_code == 404
    assert alice.put(f"{path}/tags/{'x' * 256}").status_code == 400
    assert api.as_("bob").put(f"{path}/tags/c").status_code == 404
    assert alice.get(path).json["tags"] == ["b", "with blank"]


def test_schemas_describe_what_is_shown(api: Api) -> None:
    shown = api.as_("alice").get(f"/v2/images/{api.image(data=b'x')}").json
    client = api.as_("alice")
    image = client.get("/v2/schemas/image").json
    assert set(shown) <= set(image["properties"])
    assert image["additionalProperties"] == {"type": "string"}
    images = client.get("/v2/schemas/images").json
    assert images["properties"]["images"]["items"] == image
    member = client.get("/v2/schemas/member").json
    assert client.get("/v2/schemas/members").json["properties"]["members"]["items"] == member
    assert client.get("/v2/schemas/nothing").status_code == 404


def test_stores_and_import_methods(api: Api) -> None:
    client = api.as_("alice")
    assert client.get("/v2/info/stores").json == {"stores": [{"id": "memory", "default": "true"}]}
    assert client.get("/v2/info/import").json["import-methods"]["value"] == [
        "glance-direct",
        "web-download",
        "copy-image",
    ]
