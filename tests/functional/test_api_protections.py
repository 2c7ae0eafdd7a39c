"""Property protections and the operator's schema, over the API."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import pytest

from glancelike import config, custom_schema
from glancelike.app import create_app
from glancelike.errors import ConfigError
from glancelike.protections import Format, load
from glancelike.web.auth import BasicAuth
from tests.server_fixtures import Api, client_of, write_config, write_users

V21 = "application/openstack-images-v2.1-json-patch"
RULES = """
[^billing_]
create = admin
read = admin
update = admin
delete = admin

[^stamp_]
create = @
read = @
update = !
delete = admin

[^drop_]
create = member
read = reader
update = member
delete = member

[^blind_]
create = member
read = admin
update = admin
delete = member

[^plain_]
create = @
read = @
update = @
delete = @
"""


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Api]:
    path = tmp_path / "protections.conf"
    path.write_text(RULES)
    api = Api(write_users(tmp_path / "users"), protections=load(path, Format.ROLES))
    yield api
    api.service.close()


def patch(api: Api, user: str, image_id: str, **change: Any) -> falcon.testing.Result:
    headers = {"Content-Type": V21}
    return api.as_(user).patch(f"/v2/images/{image_id}", body=json.dumps([change]), headers=headers)


@pytest.mark.parametrize(
    ("name", "status"),
    [("billing_code", 403), ("unknown", 403), ("stamp_a", 201), ("blind_a", 201), ("plain_a", 201)],
)
def test_create(guarded: Api, name: str, status: int) -> None:
    made = guarded.as_("alice").post("/v2/images", json={name: "x"})
    assert made.status_code == status
    if status == 403:
        assert f"Attribute '{name}' is reserved." in made.json["message"]
    else:
        assert made.json.get(name) == (None if name == "blind_a" else "x")


def test_only_those_who_may_read_see(guarded: Api) -> None:
    image_id = guarded.image("admin", owner="p-alice", billing_code="42", plain_a="x")
    path = f"/v2/images/{image_id}"
    assert guarded.as_("admin").get(path).json["billing_code"] == "42"
    shown = guarded.as_("alice").get(path).json
    assert "billing_code" not in shown
    assert shown["plain_a"] == "x"
    listed = guarded.as_("alice").get("/v2/images").json["images"]
    assert listed == [shown]
    changed = patch(guarded, "alice", image_id, op="replace", path="/plain_a", value="y").json
    assert "billing_code" not in changed
    assert guarded.as_("admin").get(path).json["billing_code"] == "42", "what isn't seen isn't lost"


def test_a_filter_does_not_find_what_is_not_shown(guarded: Api) -> None:
    guarded.image("admin", owner="p-alice", billing_code="42", plain_a="x")
    found = guarded.as_("alice").get("/v2/images?billing_code=42")
    assert (found.status_code, found.json["images"]) == (200, [])
    assert guarded.as_("alice").get("/v2/images?plain_a=x&billing_code=42").json["images"] == []
    assert len(guarded.as_("alice").get("/v2/images?plain_a=x").json["images"]) == 1
    assert len(guarded.as_("admin").get("/v2/images?billing_code=42").json["images"]) == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"op": "add", "path": "/billing_new", "value": "1"}, 403),
        ({"op": "add", "path": "/billing_code", "value": "1"}, 403),
        # To whom can't read it, it isn't there.
        ({"op": "replace", "path": "/billing_code", "value": "1"}, 409),
        ({"op": "remove", "path": "/billing_code"}, 409),
        ({"op": "add", "path": "/unknown", "value": "1"}, 403),
        ({"op": "add", "path": "/stamp_new", "value": "1"}, 200),
        ({"op": "add", "path": "/stamp_a", "value": "1"}, 403),
        ({"op": "replace", "path": "/stamp_a", "value": "1"}, 403),
        ({"op": "remove", "path": "/stamp_a"}, 403),
        ({"op": "replace", "path": "/drop_a", "value": "1"}, 200),
        ({"op": "remove", "path": "/drop_a"}, 200),
        # There and unreadable: no way to write over it.
        ({"op": "add", "path": "/blind_a", "value": "1"}, 403),
        ({"op": "remove", "path": "/blind_a"}, 409),
        ({"op": "replace", "path": "/name", "value": "new"}, 200),
        ({"op": "add", "path": "/name", "value": "new"}, 200),
        ({"op": "add", "path": "/tags/-", "value": "new"}, 200),
        ({"op": "replace", "path": "/absent", "value": "new"}, 409),
    ],
)
def test_patch(guarded: Api, change: dict[str, str], status: int) -> None:
    properties: dict[str, Any] = {"billing_code": "42", "stamp_a": "s", "drop_a": "d", "blind_a": "b"}
    image_id = guarded.image("admin", owner="p-alice", **properties)
    answer = patch(guarded, "alice", image_id, **change)
    assert answer.status_code == status, answer.text
    if status != 200:
        shown = guarded.as_("admin").get(f"/v2/images/{image_id}").json
        assert {name: shown[name] for name in properties} == properties


def test_changes_of_one_patch_see_one_another(guarded: Api) -> None:
    image_id = guarded.image()
    changes = [
        {"op": "add", "path": "/stamp_a", "value": "1"},
        {"op": "replace", "path": "/stamp_a", "value": "2"},
    ]
    headers = {"Content-Type": V21}
    answer = guarded.as_("alice").patch(f"/v2/images/{image_id}", body=json.dumps(changes), headers=headers)
    assert answer.status_code == 403
    assert "stamp_a" not in guarded.as_("alice").get(f"/v2/images/{image_id}").json


def test_policies_decide_where_the_file_names_them(tmp_path: Path) -> None:
    rules = tmp_path / "protections.conf"
    rules.write_text("[^p]\ncreate = makers\nread = @\nupdate = makers\ndelete = !\n")
    policies = tmp_path / "policy.yaml"
    policies.write_text('"makers": "project_id:p-alice"\n')
    extra = (
        f"property_protection_file = {rules}\nproperty_protection_rule_format = policies\n"
        f"[oslo_policy]\npolicy_file = {policies}\n"
    )
    settings = config.load(["--config-file", str(write_config(tmp_path, extra=extra))])
    with config.build(settings) as service:
        auth = BasicAuth({"http_basic_auth_user_file": str(write_users(tmp_path / "users"))})
        auth.open()
        app = create_app(service, auth)
        for user, status in (("alice", 201), ("bob", 403), ("admin", 403)):
            made = client_of(app, user, {}).post("/v2/images", json={"p": "x"})
            assert made.status_code == status
        # Changed while it runs, as the other policies.
        policies.write_text('"makers": "project_id:p-bob"\n')
        os.utime(policies, (2_000_000_000, 2_000_000_000))
        assert client_of(app, "bob", {}).post("/v2/images", json={"p": "x"}).status_code == 201
        assert client_of(app, "alice", {}).post("/v2/images", json={"p": "x"}).status_code == 403


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("property_protection_file = /nope.conf\n", "/nope.conf"),
        ("property_protection_rule_format = sometimes\n", "sometimes"),
        (
            "property_protection_file = {rules}\nproperty_protection_rule_format = policies\n",
            "there is no policy rule 'makers'",
        ),
        ("image_schema_file = /nope.json\n", "/nope.json"),
        ("image_schema_file = {rules}\n", "no readable JSON"),
    ],
)
def test_bad_files_stop_the_start(tmp_path: Path, extra: str, said: str) -> None:
    rules = tmp_path / "protections.conf"
    rules.write_text("[^p]\ncreate = makers\nread = @\nupdate = @\ndelete = !\n")
    path = write_config(tmp_path, upgrade=False, extra=extra.format(rules=rules))
    with pytest.raises(ConfigError, match=said):
        config.build(config.load(["--config-file", str(path)]))


SCHEMA = {
    "properties": {
        "os_distro": {"type": "string", "description": "The distribution", "enum": ["alpine", "debian"]},
        "team": {"type": "string", "minLength": 1},
    },
    "required": ["team"],
}


@pytest.fixture
def described(tmp_path: Path) -> Iterator[Api]:
    path = tmp_path / "schema-image.json"
    path.write_text(json.dumps(SCHEMA))
    api = Api(write_users(tmp_path / "users"), custom_schema=custom_schema.load(path, ()))
    yield api
    api.service.close()


def test_the_operators_schema_is_published_and_checked(described: Api) -> None:
    alice = described.as_("alice")
    schema = alice.get("/v2/schemas/image").json
    assert schema["properties"]["os_distro"] == {**SCHEMA["properties"]["os_distro"], "is_base": False}  # type: ignore[index]
    assert schema["properties"]["name"]["is_base"] is True
    assert schema["required"] == ["team"]
    assert alice.get("/v2/schemas/images").json["properties"]["images"]["items"] == schema
    missing = alice.post("/v2/images", json={})
    assert missing.status_code == 400
    assert "'team' is a required property" in missing.json["message"]
    assert alice.post("/v2/images", json={"team": "a", "os_distro": "dos"}).status_code == 400
    image_id = described.image(team="a", os_distro="debian", anything="else")
    for change, status in (
        ({"op": "replace", "path": "/name", "value": "new"}, 200),
        ({"op": "replace", "path": "/os_distro", "value": "dos"}, 400),
        ({"op": "replace", "path": "/team", "value": ""}, 400),
        ({"op": "remove", "path": "/team"}, 400),
        ({"op": "remove", "path": "/os_distro"}, 200),
    ):
        assert patch(described, "alice", image_id, **change).status_code == status, change


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "no JSON object"),
        ({"name": {"type": "string"}}, "name is a property of every image"),
        ({"os_glance_x": {"type": "string"}}, "os_glance_x"),
        ({"a": "string"}, "a is no JSON schema"),
        ({"a": {"type": "text"}}, "a is no JSON schema"),
        ({"properties": {"a": {}}, "required": "a"}, "no list"),
        ({"properties": {"a": {}}, "required": ["b"]}, "b is required, but not described"),
    ],
)
def test_bad_schemas(tmp_path: Path, document: Any, said: str) -> None:
    path = tmp_path / "schema-image.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=said):
        custom_schema.load(path, {"name"})


def test_a_flat_schema_requires_nothing(tmp_path: Path) -> None:
    path = tmp_path / "schema-image.json"
    path.write_text(json.dumps({"a": {"type": "string"}}))
    loaded = custom_schema.load(path, ())
    assert (dict(loaded.properties), loaded.required) == ({"a": {"type": "string"}}, ())
