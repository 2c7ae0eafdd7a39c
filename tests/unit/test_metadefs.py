"""Metadata definitions over HTTP: statuses, bodies, who may, what is refused."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import quote

import falcon.testing
import pytest

from glancelike.api.metadef_routes import ROUTES
from glancelike.service.metadef_schema import NAMESPACE as NAMESPACE_SCHEMA
from glancelike.web.validation import Schema
from tests.server_fixtures import Api

NAMESPACES = "/v2/metadefs/namespaces"
HERE = f"{NAMESPACES}/OS::Test"
PROPERTY = {"title": "Disk Bus", "type": "string", "enum": ["virtio", "scsi"], "default": "virtio"}
OBJECT = {"properties": {"cores": {"title": "Cores", "type": "integer"}}, "required": ["cores"]}
FULL: dict[str, Any] = {
    "namespace": "OS::Test",
    "display_name": "Test",
    "description": "All there is",
    "visibility": "public",
    "resource_type_associations": [
        {"name": "OS::Glance::Image", "prefix": "hw_", "properties_target": "image"},
        {"name": "OS::Nova::Flavor"},
    ],
    "properties": {"disk_bus": PROPERTY, "order": {"title": "first?", "type": "boolean"}},
    "objects": [{"name": "CPU Limits", "description": "Limits", **OBJECT}, {"name": "empty"}],
    "tags": [{"name": "one"}, {"name": "two"}],
}


class Client:
    """One user's calls: they return the answer's body and check its status."""

    def __init__(self, client: falcon.testing.TestClient) -> None:
        self._client = client

    def __call__(
        self, method: str, path: str, status: int, body: object = None, *, raw: str | None = None, **more: Any
    ) -> Any:
        arguments = more if body is None else {"json": body, **more}
        if raw is not None:
            arguments = {"body": raw, "headers": {"Content-Type": "application/json"}}
        answer = self._client.simulate_request(method, path, **arguments)
        assert answer.status_code == status, f"{method} {path}: {answer.status} {answer.text}"
        return answer.json if answer.content else None


@pytest.fixture
def admin(api: Api) -> Client:
    """The administrator, with the namespace OS::Test."""
    client = Client(api.as_("admin"))
    client("POST", NAMESPACES, 201, FULL)
    return client


def undated(value: Any) -> Any:
    """Return the body without its times, which it must have."""
    if isinstance(value, dict):
        return {key: undated(each) for key, each in value.items() if key not in ("created_at", "updated_at")}
    return [undated(each) for each in value] if isinstance(value, list) else value


# Namespaces


def test_a_namespace_comes_back(admin: Client) -> None:
    found = admin("GET", HERE, 200)
    assert undated(found) == {
        **FULL,
        "protected": False,
        "owner": "admin",
        "objects": [
            {
                **each,
                "properties": each.get("properties", {}),
                "required": each.get("required", []),
                "self": f"{HERE}/objects/{each['name'].replace(' ', '%20')}",
                "schema": "/v2/schemas/metadefs/object",
            }
            for each in FULL["objects"]
        ],
        "self": HERE,
        "schema": "/v2/schemas/metadefs/namespace",
    }
    assert list(found["properties"]) == ["disk_bus", "order"], "in the order given"
    for part in (found, *found["objects"], *found["resource_type_associations"]):
        assert part["created_at"].endswith("Z")
        assert part["updated_at"] >= part["created_at"]
    assert Schema(NAMESPACE_SCHEMA).fault(found) is None, "clients check answers by the schema"


def test_create_answers_as_show(api: Api) -> None:
    made = api.as_("admin").post(NAMESPACES, json=FULL)
    assert made.headers["location"].endswith(HERE)
    assert made.json == api.as_("admin").get(HERE).json
    small = Client(api.as_("admin"))("POST", NAMESPACES, 201, {"namespace": "small"})
    assert undated(small) == {
        "namespace": "small",
        "visibility": "private",
        "protected": False,
        "owner": "admin",
        "self": f"{NAMESPACES}/small",
        "schema": "/v2/schemas/metadefs/namespace",
    }, "what isn't set is left out"


def test_properties_are_prefixed_for_a_resource_type(admin: Client) -> None:
    found = admin("GET", f"{HERE}?resource_type=OS::Glance::Image", 200)
    assert list(found["properties"]) == ["hw_disk_bus", "hw_order"]
    assert found["objects"][0]["properties"] == {"hw_cores": OBJECT["properties"]["cores"]}
    assert found["objects"][0]["required"] == ["hw_cores"]
    for other in ("OS::Nova::Flavor", "no such type", ""):
        plain = admin("GET", HERE, 200, params={"resource_type": other})
        assert list(plain["properties"]) == ["disk_bus", "order"]
    assert admin("GET", f"{HERE}/properties/hw_disk_bus?resource_type=OS::Glance::Image", 200) == {
        "name": "disk_bus",
        **PROPERTY,
    }
    assert (
        admin("GET", f"{HERE}/properties/disk_bus?resource_type=OS::Nova::Flavor", 200)["title"] == "Disk Bus"
    )
    said = admin("GET", f"{HERE}/properties/disk_bus?resource_type=OS::Glance::Image", 404)
    assert "hw_" in said["message"]
    admin("GET", f"{HERE}/properties/hw_disk_bus?resource_type=none", 404)


def test_update_replaces_the_namespace_and_keeps_what_is_in_it(admin: Client) -> None:
    before = admin("GET", HERE, 200)
    body = {"namespace": "OS::New", "visibility": "private", "protected": True, "tags": [{"name": "ignored"}]}
    changed = admin("PUT", HERE, 200, body)
    assert undated(changed) == {
        "namespace": "OS::New",
        "visibility": "private",
        "protected": True,
        "owner": "admin",
        "self": f"{NAMESPACES}/OS::New",
        "schema": "/v2/schemas/metadefs/namespace",
    }
    admin("GET", HERE, 404)
    found = admin("GET", f"{NAMESPACES}/OS::New", 200)
    for part in ("properties", "tags", "resource_type_associations", "created_at"):
        assert found[part] == before[part]
    admin("POST", NAMESPACES, 201, {"namespace": "other"})
    admin("PUT", f"{NAMESPACES}/other", 409, {"namespace": "OS::New"})
    admin("PUT", f"{NAMESPACES}/missing", 404, {"namespace": "missing"})


def test_a_protected_namespace_keeps_everything(admin: Client) -> None:
    base = {key: FULL[key] for key in ("namespace", "display_name", "description", "visibility")}
    admin("PUT", HERE, 200, {**base, "protected": True})
    before = admin("GET", HERE, 200)
    for path in (
        *("", "/properties", "/objects", "/tags", "/properties/order"),
        *("/objects/empty", "/tags/one", "/resource_types/OS::Nova::Flavor"),
    ):
        said = admin("DELETE", HERE + path, 403)
        assert "is protected and cannot be deleted" in said["message"]
    assert admin("GET", HERE, 200) == before
    admin("POST", f"{HERE}/tags/three", 201)  # only deleting is refused
    admin("PUT", HERE, 200, {**base, "protected": False})
    for path in ("/properties/order", "/objects/empty", "/tags/one", "/resource_types/OS::Nova::Flavor"):
        admin("DELETE", HERE + path, 204)
        admin("DELETE", HERE + path, 404)
    for path in ("/properties", "/objects", "/tags", "/tags"):
        admin("DELETE", HERE + path, 204)
    found = admin("GET", HERE, 200)
    assert not {"properties", "objects", "tags"} & found.keys()
    admin("DELETE", HERE, 204)
    admin("DELETE", HERE, 404)


def test_listing(admin: Client) -> None:
    for number in range(4):
        admin(
            "POST",
            NAMESPACES,
            201,
            {
                "namespace": f"n{number}",
                "visibility": ["public", "private"][number % 2],
                "resource_type_associations": [{"name": "A"}] if number else [],
                "properties": {"p": PROPERTY},
            },
        )
    page = admin("GET", NAMESPACES, 200)
    assert [each["namespace"] for each in page["namespaces"]] == ["n3", "n2", "n1", "n0", "OS::Test"]
    assert page["first"] == NAMESPACES
    assert page["schema"] == "/v2/schemas/metadefs/namespaces"
    assert "next" not in page
    first = page["namespaces"][0]
    assert undated(first["resource_type_associations"]) == [{"name": "A"}]
    assert not {"properties", "objects", "tags"} & first.keys()

    def listed(query: str) -> list[str]:
        names, path = [], f"{NAMESPACES}?{query}"
        for _ in range(10):
            page = admin("GET", path, 200)
            names += [each["namespace"] for each in page["namespaces"]]
            assert page["first"] == f"{NAMESPACES}?{query}"
            if "next" not in page:
                return names
            path = page["next"]
        pytest.fail("the listing doesn't end")

    assert listed("limit=2") == ["n3", "n2", "n1", "n0", "OS::Test"]
    assert listed("limit=1&sort_key=namespace&sort_dir=asc") == ["OS::Test", "n0", "n1", "n2", "n3"]
    assert listed("visibility=private&limit=1") == ["n3", "n1"]
    assert listed("resource_types=A%2CB&sort_dir=asc") == ["n1", "n2", "n3"]
    assert listed("resource_types=B") == []
    assert listed("limit=0") == []
    assert admin("GET", f"{NAMESPACES}?marker=n1&limit=1", 200)["namespaces"][0]["namespace"] == "n0"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=-1", 400),
        ("limit=x", 400),
        ("visibility=shared", 400),
        ("sort_dir=up", 400),
        ("sort_key=version", 400),
        ("marker=none", 404),
        ("marker=%00", 400),
        ("unknown=1", 200),
    ],
)
def test_queries(admin: Client, query: str, status: int) -> None:
    admin("GET", f"{NAMESPACES}?{query}", status)


# What is in them


def test_resource_types(admin: Client) -> None:
    names = [each["name"] for each in admin("GET", "/v2/metadefs/resource_types", 200)["resource_types"]]
    assert names == ["OS::Glance::Image", "OS::Nova::Flavor"]
    body = {"name": "OS::Cinder::Volume", "prefix": "v:", "properties_target": "image"}
    made = admin("POST", f"{HERE}/resource_types", 201, body)
    assert undated(made) == body
    admin("POST", f"{HERE}/resource_types", 409, {"name": "OS::Cinder::Volume"})
    found = admin("GET", f"{HERE}/resource_types", 200)
    assert undated(found) == {"resource_type_associations": [*FULL["resource_type_associations"], body]}
    admin("DELETE", f"{HERE}/resource_types/OS::Cinder::Volume", 204)
    admin("DELETE", HERE, 204)
    listed = admin("GET", "/v2/metadefs/resource_types", 200)["resource_types"]
    assert [each["name"] for each in listed] == ["OS::Cinder::Volume", *names], "types stay"
    assert {"created_at", "updated_at"} <= listed[0].keys()


def test_properties(admin: Client) -> None:
    body = {"name": "new", "title": "New", "type": "integer", "minimum": 0, "default": 0, "readonly": False}
    assert admin("POST", f"{HERE}/properties", 201, body) == body, "0 and false are values"
    admin("POST", f"{HERE}/properties", 409, body)
    assert admin("GET", f"{HERE}/properties/new", 200) == body
    found = admin("GET", f"{HERE}/properties", 200)["properties"]
    assert list(found) == ["disk_bus", "order", "new"]
    assert found["disk_bus"] == PROPERTY
    renamed = {"name": "newer", "title": "Newer", "type": "string"}
    assert admin("PUT", f"{HERE}/properties/order", 200, renamed) == renamed
    assert list(admin("GET", f"{HERE}/properties", 200)["properties"]) == ["disk_bus", "newer", "new"]
    admin("PUT", f"{HERE}/properties/newer", 409, {**renamed, "name": "new"})
    admin("PUT", f"{HERE}/properties/order", 404, renamed)
    admin("GET", f"{HERE}/properties/order", 404)
    admin("DELETE", f"{HERE}/properties/new", 204)
    admin("GET", f"{HERE}/properties/new", 404)


def test_objects(admin: Client) -> None:
    made = admin("POST", f"{HERE}/objects", 201, {"name": "new", "description": "d", **OBJECT})
    assert undated(made) == {
        "name": "new",
        "description": "d",
        **OBJECT,
        "self": f"{HERE}/objects/new",
        "schema": "/v2/schemas/metadefs/object",
    }
    admin("POST", f"{HERE}/objects", 409, {"name": "new"})
    assert admin("GET", f"{HERE}/objects/new", 200) == made
    found = admin("GET", f"{HERE}/objects", 200)
    assert [each["name"] for each in found["objects"]] == ["CPU Limits", "empty", "new"]
    assert found["schema"] == "/v2/schemas/metadefs/objects"
    changed = admin("PUT", f"{HERE}/objects/CPU Limits", 200, {"name": "CPU"})
    assert undated(changed) == {
        "name": "CPU",
        "properties": {},
        "required": [],
        "self": f"{HERE}/objects/CPU",
        "schema": "/v2/schemas/metadefs/object",
    }, "what isn't given is gone"
    assert changed["created_at"] <= changed["updated_at"]
    admin("PUT", f"{HERE}/objects/CPU", 409, {"name": "new"})
    admin("PUT", f"{HERE}/objects/none", 404, {"name": "none"})
    pages = [
        ("limit=1", ["CPU"]),
        ("marker=CPU", ["empty", "new"]),
        ("sort_key=name&sort_dir=desc", ["new", "empty", "CPU"]),
    ]
    for query, names in pages:
        page = admin("GET", f"{HERE}/objects?{query}", 200)["objects"]
        assert [each["name"] for each in page] == names, query
    for query, status in {"limit=0": 400, "limit=x": 400, "sort_dir=up": 400, "marker=none": 404}.items():
        admin("GET", f"{HERE}/objects?{query}", status)
    admin("DELETE", f"{HERE}/objects/CPU", 204)
    admin("GET", f"{HERE}/objects/CPU", 404)


def test_tags(admin: Client) -> None:
    def names(query: str = "") -> list[str]:
        return [each["name"] for each in admin("GET", f"{HERE}/tags{query}", 200)["tags"]]

    assert names() == ["two", "one"], "the newest first"
    made = admin("POST", f"{HERE}/tags/three", 201)
    assert made.keys() == {"name", "created_at", "updated_at"}
    assert admin("GET", f"{HERE}/tags/three", 200) == made
    admin("POST", f"{HERE}/tags/three", 409)
    assert undated(admin("PUT", f"{HERE}/tags/two", 200, {"name": "zwei"})) == {"name": "zwei"}
    admin("PUT", f"{HERE}/tags/two", 404, {"name": "zwei"})
    admin("PUT", f"{HERE}/tags/one", 409, {"name": "zwei"})
    assert names("?sort_key=name&sort_dir=asc") == ["one", "three", "zwei"]
    assert names("?sort_key=name&sort_dir=asc&limit=1&marker=one") == ["three"]
    assert names("?limit=0") == []
    for query, status in {"limit=-1": 400, "sort_key=x": 400, "sort_dir=x": 400, "marker=no": 404}.items():
        admin("GET", f"{HERE}/tags?{query}", status)
    admin("DELETE", f"{HERE}/tags/three", 204)


def test_several_tags(admin: Client) -> None:
    def tags(*names: str) -> dict[str, Any]:
        return {"tags": [{"name": name} for name in names]}

    def found() -> list[str]:
        return sorted(each["name"] for each in admin("GET", f"{HERE}/tags", 200)["tags"])

    append = {"headers": {"X-Openstack-Append": "True"}}
    assert admin("POST", f"{HERE}/tags", 201, tags("a", "b"), **append) == tags("a", "b")
    assert found() == ["a", "b", "one", "two"]
    admin("POST", f"{HERE}/tags", 409, tags("c", "a"), **append)
    assert found() == ["a", "b", "one", "two"], "all or none"
    admin("POST", f"{HERE}/tags", 409, tags("c", "c"))
    assert found() == ["a", "b", "one", "two"], "all or none"
    admin("POST", f"{HERE}/tags", 201, tags("x", "a"), headers={"X-Openstack-Append": "false"})
    assert found() == ["a", "x"], "without the header they are replaced"
    assert admin("POST", f"{HERE}/tags", 201, tags()) == tags()
    assert found() == ["a", "x"], "nothing is replaced by nothing"


# Who may


def test_who_may(api: Api, admin: Client) -> None:
    admin("POST", NAMESPACES, 201, {"namespace": "alices", "owner": "p-alice", "tags": [{"name": "t"}]})
    alice, bob, reader, nobody = (Client(api.as_(name)) for name in ("alice", "bob", "reader", "nobody"))
    for client in (alice, reader):
        assert client("GET", f"{NAMESPACES}/alices", 200)["visibility"] == "private"
        assert len(client("GET", NAMESPACES, 200)["namespaces"]) == 2
        client("GET", f"{NAMESPACES}/alices/tags/t", 200)
        client("DELETE", f"{NAMESPACES}/alices", 403)
        client("POST", f"{NAMESPACES}/alices/tags/x", 403)
    bob("GET", f"{NAMESPACES}/alices", 404)
    bob("GET", f"{NAMESPACES}/alices/tags", 404)
    bob("DELETE", f"{NAMESPACES}/alices", 404)
    assert [each["namespace"] for each in bob("GET", NAMESPACES, 200)["namespaces"]] == ["OS::Test"]
    bob("GET", f"{NAMESPACES}?marker=alices", 404)
    bob("POST", NAMESPACES, 403, {"namespace": "bobs"})
    for path in ("", "/properties", "/objects", "/tags", "/resource_types", "/tags/one", "/objects/empty"):
        bob("GET", HERE + path, 200)
        nobody("GET", HERE + path, 404)
    bob("GET", "/v2/metadefs/resource_types", 200)
    assert admin("GET", HERE, 200)["tags"] == FULL["tags"], "nothing was changed"


@pytest.mark.parametrize("route", [each for each in ROUTES if each.method != "GET"], ids=str)
def test_only_administrators_write(api: Api, admin: Client, route: Any) -> None:
    path = route.path.format(namespace="OS::Test", name="one")
    before = admin("GET", HERE, 200)
    bodies: dict[str, dict[str, Any]] = {
        "namespace": {"namespace": "x"},
        "tags": {"tags": [{"name": "x"}]},
        "": {"name": "x", "title": "x", "type": "string"},
    }
    body = bodies["namespace"] if "namespace" in route.action and "tags" not in path else bodies[""]
    if route.operation == "create_several":
        body = bodies["tags"]
    elif route.resource.__name__ != "MetadefProperties" and body is bodies[""]:
        body = {"name": "x"}
    for user in ("alice", "bob", "reader"):
        Client(api.as_(user))(route.method, path, 403, body)
    Client(api.as_("nobody"))(route.method, path, 403 if path == NAMESPACES else 404, body)
    Client(api.as_(None))(route.method, path, 401, body)
    assert admin("GET", HERE, 200) == before


# What is refused


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", NAMESPACES, FULL, 409),
        ("POST", NAMESPACES, [], 400),
        ("POST", NAMESPACES, 1, 400),
        ("POST", NAMESPACES, {}, 400),
        ("POST", NAMESPACES, {"namespace": ""}, 400),
        ("POST", NAMESPACES, {"namespace": "a/b"}, 400),
        ("POST", NAMESPACES, {"namespace": None}, 400),
        ("POST", NAMESPACES, {"namespace": "x" * 81}, 400),
        ("POST", NAMESPACES, {"namespace": "x", "display_name": "x" * 81}, 400),
        ("POST", NAMESPACES, {"namespace": "x", "description": "x" * 501}, 400),
        ("POST", NAMESPACES, {"namespace": "x", "visibility": "shared"}, 400),
        ("POST", NAMESPACES, {"namespace": "x", "protected": "yes"}, 400),
        ("POST", NAMESPACES, {"namespace": "x", "unknown": 1}, 400),
        ("POST", NAMESPACES, {"namespace": "x", "created_at": "now"}, 403),
        ("POST", NAMESPACES, {"namespace": "x", "self": "/x"}, 403),
        ("POST", NAMESPACES, {"namespace": "x", "properties": {"p": {"title": "t"}}}, 400),
        ("POST", NAMESPACES, {"namespace": "x", "properties": {"p": {**PROPERTY, "unknown": 1}}}, 400),
        ("POST", NAMESPACES, {"namespace": "x", "properties": {"a/b": PROPERTY}}, 400),
        ("POST", NAMESPACES, {"namespace": "x", "properties": {"x" * 81: PROPERTY}}, 400),
        ("POST", NAMESPACES, {"namespace": "x", "objects": [{"description": "no name"}]}, 400),
        ("POST", NAMESPACES, {"namespace": "x", "objects": [{"name": "o"}, {"name": "o"}]}, 409),
        ("POST", NAMESPACES, {"namespace": "x", "tags": [{"name": "t"}, {"name": "t"}]}, 409),
        ("POST", NAMESPACES, {"namespace": "x", "resource_type_associations": [{}]}, 400),
        ("PUT", HERE, {"visibility": "public"}, 400),
        ("PUT", HERE, {"namespace": "OS::Test", "updated_at": "now"}, 403),
        ("PUT", HERE, {"namespace": "OS::Test", "owner": "x" * 256}, 400),
        ("POST", f"{HERE}/properties", PROPERTY, 400),
        ("POST", f"{HERE}/properties", {"name": "x", **PROPERTY, "confidential": True}, 400),
        ("POST", f"{HERE}/properties", {"name": "x", "title": "t", "type": "null"}, 400),
        ("POST", f"{HERE}/properties", {"name": "x", **PROPERTY, "maxLength": -1}, 400),
        ("POST", f"{HERE}/properties", {"name": "x", **PROPERTY, "created_at": "now"}, 403),
        ("PUT", f"{HERE}/properties/order", {"name": "x"}, 400),
        ("POST", f"{HERE}/objects", {"name": "x", "self": "/x"}, 403),
        ("POST", f"{HERE}/objects", {"name": "x", "required": ["a", "a"]}, 400),
        ("POST", f"{HERE}/objects", {"name": "x", "properties": {"p": {"type": "string"}}}, 400),
        ("PUT", f"{HERE}/objects/empty", {"name": "x", "properties": {"p": {"type": "string"}}}, 400),
        ("POST", f"{HERE}/resource_types", {"prefix": "x"}, 400),
        ("POST", f"{HERE}/resource_types", {"name": "x", "prefix": "x" * 81}, 400),
        ("POST", f"{HERE}/resource_types", {"name": "x", "updated_at": "now"}, 403),
        ("POST", f"{HERE}/tags", {}, 400),
        ("POST", f"{HERE}/tags", {"tags": ["x"]}, 400),
        ("POST", f"{HERE}/tags", {"tags": [{"name": "x" * 81}]}, 400),
        ("POST", f"{HERE}/tags/{'x' * 81}", None, 400),
        ("PUT", f"{HERE}/tags/one", {"name": ""}, 400),
        ("PUT", f"{HERE}/tags/one", {"name": "x", "created_at": "now"}, 403),
        ("POST", f"{NAMESPACES}/none/tags/x", None, 404),
        ("POST", f"{NAMESPACES}/none/properties", {"name": "x", **PROPERTY}, 404),
        ("POST", f"{NAMESPACES}/none/objects", {"name": "x"}, 404),
        ("POST", f"{NAMESPACES}/none/resource_types", {"name": "x"}, 404),
        ("DELETE", f"{NAMESPACES}/none/objects", None, 404),
        ("PATCH", HERE, {}, 405),
        ("GET", f"{HERE}/resource_types/OS::Nova::Flavor", None, 405),
        ("POST", f"{HERE}/objects", {"name": "x", "description": "x" * (1 << 20)}, 413),
    ],
)
def test_refused(admin: Client, method: str, path: str, body: object, status: int) -> None:
    before = admin("GET", HERE, 200), admin("GET", NAMESPACES, 200)
    admin(method, path, status, body)
    assert (admin("GET", HERE, 200), admin("GET", NAMESPACES, 200)) == before, "nothing has changed"


def test_a_refusal_names_the_field(admin: Client) -> None:
    said = admin("POST", NAMESPACES, 400, {"namespace": "x", "properties": {"p": {"title": "t"}}})
    assert "schema 'namespace'" in said["message"]
    assert "'type' is a required property" in said["message"]
    assert "['properties']['p']" in said["message"]


@pytest.mark.parametrize("raw", ["{", "", '{"namespace": "\\u0000"}', '{"namespace": NaN}'])
def test_broken_bodies(admin: Client, raw: str) -> None:
    admin("POST", NAMESPACES, 400, raw=raw)


def test_a_namespace_has_a_largest_size(admin: Client) -> None:
    for number in range(4):
        admin("POST", f"{HERE}/objects", 201, {"name": f"big{number}", "description": "x" * 1_000_000})
    said = admin("POST", f"{HERE}/objects", 400, {"name": "one too many", "description": "x" * 1_000_000})
    assert "4194304" in said["message"]
    assert len(admin("GET", f"{HERE}/objects", 200)["objects"]) == 6


def test_names_of_any_script(admin: Client) -> None:
    name = "日本語 🦊 \"'<>&%?#+;="
    admin("POST", NAMESPACES, 201, {"namespace": name, "description": "é"})
    made = admin(
        "POST",
        f"{NAMESPACES}/{quote(name, safe='')}/objects",
        201,
        {"name": name, "properties": {name: PROPERTY}},
    )
    assert admin("GET", made["self"], 200)["properties"] == {name: PROPERTY}
    admin("POST", f"{NAMESPACES}/{quote(name, safe='')}/tags/{quote(name, safe='')}", 201)
    found = admin("GET", f"{NAMESPACES}/{quote(name, safe='')}", 200)
    assert found["tags"] == [{"name": name}]
    admin("DELETE", found["self"], 204)


def test_edits_at_once_all_land(api: Api, admin: Client) -> None:
    errors: list[BaseException] = []

    def edit(number: int) -> None:
        try:
            client = Client(api.as_("admin"))
            client("POST", f"{HERE}/tags/tag{number}", 201)
            client("POST", f"{HERE}/objects", 201, {"name": f"object{number}"})
            client("DELETE", f"{HERE}/tags/tag{number}", 204)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    found = admin("GET", HERE, 200)
    assert {each["name"] for each in found["objects"]} >= {f"object{number}" for number in range(8)}
    assert found["tags"] == FULL["tags"]


# Schemas


@pytest.mark.parametrize("name", ["namespace", "resource_type", "property", "object", "tag"])
def test_schemas(api: Api, name: str) -> None:
    client = Client(api.as_("bob"))
    one = client("GET", f"/v2/schemas/metadefs/{name}", 200)
    plural = {"property": "properties"}.get(name, f"{name}s")
    several = client("GET", f"/v2/schemas/metadefs/{plural}", 200)
    called = {"resource_type": "resource_type_associations"}.get(name, plural)
    assert one["additionalProperties"] is False
    assert several["name"] == called
    inner = several["properties"][called]
    assert (inner.get("items") or inner["additionalProperties"])["properties"] == one["properties"]
    assert several.get("definitions") == one.get("definitions"), "references lead somewhere"
    sound = {"p": PROPERTY} if name == "property" else [{"namespace" if name == "namespace" else "name": "x"}]
    assert Schema(several).fault({called: sound}) is None
    assert Schema(several).fault({called: {"p": {}} if name == "property" else [{}]}) is not None


def test_what_listeners_are_told(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    context = api.service._context
    monkeypatch.setattr(context, "notify", lambda event, payload: told.append((event, payload["namespace"])))
    client = Client(api.as_("admin"))
    client("POST", NAMESPACES, 201, FULL)
    client("POST", f"{HERE}/tags", 201, {"tags": [{"name": "a"}, {"name": "b"}]})
    client("PUT", f"{HERE}/objects/empty", 200, {"name": "full"})
    client("DELETE", f"{HERE}/resource_types/OS::Nova::Flavor", 204)
    client("DELETE", f"{HERE}/properties", 204)
    client("DELETE", f"{HERE}/tags/none", 404)
    client("DELETE", HERE, 204)
    assert [event for event, _ in told] == [
        "metadef_namespace.create",
        "metadef_tag.create",
        "metadef_tag.create",
        "metadef_object.update",
        "metadef_resource_type.delete",
        "metadef_namespace.delete_properties",
        "metadef_namespace.delete",
    ]
    assert {namespace for _, namespace in told} == {"OS::Test"}
