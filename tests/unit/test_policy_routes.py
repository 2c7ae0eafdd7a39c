"""Every operation, as everybody: who may, who is refused, to whom it isn't there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import falcon
import falcon.testing
import pytest

from glancelike.api.routes import ROUTES
from glancelike.app import create_app
from glancelike.cache import ImageCache
from glancelike.model import Caller, Visibility
from glancelike.policy import Policy
from glancelike.registry.memory import MemoryRegistry
from glancelike.service import ImageService, ImportRequest, Settings
from glancelike.stores.memory import MemoryStore
from glancelike.vfs import MountTable
from glancelike.web.app import App
from glancelike.web.auth import Auth
from glancelike.web.routes import Route

PATCH = "application/openstack-images-v2.1-json-patch"
OCTETS = "application/octet-stream"

ADMIN = Caller("admin", "p-admin", frozenset({"admin", "member", "reader"}), admin=True)
MEMBER = Caller("member", "p-own", frozenset({"member", "reader"}))
WHO = {
    "admin": ADMIN,
    "member": MEMBER,
    "reader": Caller("reader", "p-own", frozenset({"reader"})),
    "nobody": Caller("nobody", "p-own", frozenset({"other"})),
    "stranger": Caller("stranger", "p-stranger", frozenset({"member", "reader"})),
    "guest": Caller("guest", "p-guest", frozenset({"member", "reader"})),  # the images are shared with it
    "service": Caller("service", "p-services", frozenset({"service"})),
    "system": Caller("system", None, frozenset({"admin", "member", "reader"}), system_scope="all"),
}

EVERYBODY = frozenset(WHO)
OWN = frozenset({"admin", "member"})
OWN_READERS = OWN | {"reader"}
READERS = OWN_READERS | {"stranger", "guest"}
ONLY_ADMIN = frozenset({"admin"})
# Who else sees an image, or a namespace, of p-own.
OTHERS: Mapping[str, frozenset[str]] = {
    "private": frozenset(),
    "shared": frozenset({"guest"}),
    "community": frozenset({"guest", "stranger"}),
    "public": frozenset({"guest", "stranger"}),
}


@dataclass(frozen=True)
class Row:
    """What one operation answers to whom.

    ``others`` lets those in who see the subject besides its owner, ``service`` a service,
    which sees everything. A ``blind`` operation doesn't look at its subject before it refuses.
    ``good`` is the status for all who may.
    """

    operation: str
    may: frozenset[str]
    good: int
    others: bool = False
    service: bool = False
    blind: bool = False
    state: str = "active"  # of the image
    body: Any = None
    media_type: str = "application/json"
    kinds: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> str | None:
        found = re.search(r"\{(image_id|namespace)\}", self.operation)
        return found[1] if found else None


IMAGE = "/v2/images/{image_id}"
UPLOAD = f"{IMAGE}/uploads/{{upload_id}}"
TUS = {"Tus-Resumable": "1.0.0"}
NAMESPACES = "/v2/metadefs/namespaces"
NAMESPACE = f"{NAMESPACES}/{{namespace}}"
ITEM = {"name": "new", "title": "t", "type": "string"}
SHARED = ("shared",)
ROWS = (
    Row("GET /v2/images", READERS, 200),
    Row("POST /v2/images", frozenset({"admin", "member", "stranger", "guest"}), 201, body={}),
    Row("POST /v2/images", ONLY_ADMIN, 201, body={"visibility": "public"}),
    Row("POST /v2/images", ONLY_ADMIN, 201, body={"owner": "p-nowhere"}),
    Row(f"GET {IMAGE}", OWN_READERS, 200, others=True),
    Row(
        f"PATCH {IMAGE}",
        OWN,
        200,
        body=[{"op": "add", "path": "/colour", "value": "red"}],
        media_type=PATCH,
    ),
    Row(
        f"PATCH {IMAGE}",
        ONLY_ADMIN,
        200,
        body=[{"op": "replace", "path": "/visibility", "value": "public"}],
        media_type=PATCH,
        kinds=("private", "shared", "community"),
    ),
    Row(
        f"PATCH {IMAGE}",
        ONLY_ADMIN,
        200,
        body=[{"op": "replace", "path": "/owner", "value": "p-stranger"}],
        media_type=PATCH,
    ),
    Row(f"DELETE {IMAGE}", OWN, 204),
    Row(f"GET {IMAGE}/file", OWN, 200, others=True),
    Row(f"HEAD {IMAGE}/file", OWN, 200, others=True),
    Row(f"PUT {IMAGE}/file", OWN, 204, state="queued", body=b"data", media_type=OCTETS),
    Row(f"OPTIONS {IMAGE}/uploads", EVERYBODY, 204),
    Row(f"POST {IMAGE}/uploads", OWN, 201, state="queued", headers=TUS | {"Upload-Length": "4"}),
    Row(f"OPTIONS {UPLOAD}", EVERYBODY, 204),
    Row(f"HEAD {UPLOAD}", OWN, 200, state="queued", headers=TUS),
    Row(
        f"PATCH {UPLOAD}",
        OWN,
        204,
        state="queued",
        body=b"data",
        media_type="application/offset+octet-stream",
        headers=TUS | {"Upload-Offset": "0"},
    ),
    Row(f"DELETE {UPLOAD}", OWN, 204, state="queued", headers=TUS),
    # These are off, which is said to those only who may upload.
    Row(f"POST {IMAGE}/presigned", OWN, 404, state="queued", body={"size": 4}),
    Row(f"POST {IMAGE}/presigned/{{upload_id}}/complete", OWN, 404, state="queued"),
    Row(f"PUT {IMAGE}/stage", OWN, 204, state="queued", body=b"data", media_type=OCTETS),
    # Nothing is staged, which is said to those only who may import.
    Row(f"POST {IMAGE}/import", OWN, 409, state="queued", body={"method": {"name": "glance-direct"}}),
    Row(
        f"POST {IMAGE}/import",
        ONLY_ADMIN,
        202,
        body={"method": {"name": "copy-image"}, "all_stores": True},
    ),
    Row(f"GET {IMAGE}/tasks", OWN_READERS, 200, others=True),
    # The image has its data, which is said to those only who may add a location.
    Row(f"POST {IMAGE}/locations", OWN, 409, service=True, body={"url": "http://h/x"}),
    Row(f"GET {IMAGE}/locations", ONLY_ADMIN, 200, service=True),
    Row(f"POST {IMAGE}/actions/deactivate", OWN, 204),
    Row(f"POST {IMAGE}/actions/reactivate", OWN, 204, state="deactivated"),
    Row(f"PUT {IMAGE}/tags/{{tag}}", OWN, 204),
    Row(f"DELETE {IMAGE}/tags/{{tag}}", OWN, 204),
    Row(f"GET {IMAGE}/members", OWN_READERS, 200, others=True, kinds=SHARED),
    Row(f"POST {IMAGE}/members", OWN, 200, body={"member": "p-new"}, kinds=SHARED),
    Row(f"GET {IMAGE}/members/{{member_id}}", OWN_READERS, 200, others=True, kinds=SHARED),
    Row(
        f"PUT {IMAGE}/members/{{member_id}}",
        ONLY_ADMIN,
        200,
        others=True,
        body={"status": "accepted"},
        kinds=SHARED,
    ),
    Row(f"DELETE {IMAGE}/members/{{member_id}}", OWN, 204, kinds=SHARED),
    Row("DELETE /v2/stores/{store_id}/{image_id}", ONLY_ADMIN, 204, state="copied"),
    Row("GET /v2/tasks", ONLY_ADMIN, 200),
    # Nothing can be had from there, which is said to those only who may ask for tasks.
    Row(
        "POST /v2/tasks",
        ONLY_ADMIN,
        400,
        body={
            "type": "import",
            "input": {"import_from": "gopher://h/x", "import_from_format": "raw", "image_properties": {}},
        },
    ),
    Row("GET /v2/tasks/{task_id}", ONLY_ADMIN, 404),
    Row("DELETE /v2/tasks/{task_id}", ONLY_ADMIN, 404),
    Row("GET /v2/cache", ONLY_ADMIN, 200),
    Row("DELETE /v2/cache", ONLY_ADMIN, 204),
    Row("PUT /v2/cache/{image_id}", ONLY_ADMIN, 202),
    Row("DELETE /v2/cache/{image_id}", ONLY_ADMIN, 204),
    Row("GET /v2/cache/nodes/{image_id}", ONLY_ADMIN, 200, blind=True),
    Row("POST /v2/cache/clean", ONLY_ADMIN, 200),
    Row("POST /v2/cache/prune", ONLY_ADMIN, 200),
    Row("GET /v2/info/import", EVERYBODY, 200),
    Row("GET /v2/info/usage", EVERYBODY, 200),
    Row("GET /v2/info/stores", EVERYBODY, 200),
    Row("GET /v2/info/stores/detail", frozenset({"admin", "service"}), 200),
    *(
        Row(f"GET /v2/schemas/{name}", EVERYBODY, 200)
        for name in ("image", "images", "member", "members", "task", "tasks")
    ),
    *(
        Row(f"GET /v2/schemas/metadefs/{name}{ending}", EVERYBODY, 200)
        for name, endings in (
            ("namespace", ("", "s")),
            ("resource_type", ("", "s")),
            ("object", ("", "s")),
            ("tag", ("", "s")),
            ("property", ("",)),
            ("properties", ("",)),
        )
        for ending in endings
    ),
    Row("GET /v2/metadefs/resource_types", READERS, 200),
    Row(f"GET {NAMESPACES}", READERS, 200),
    Row(f"POST {NAMESPACES}", ONLY_ADMIN, 201, body={"namespace": "new"}),
    Row(f"GET {NAMESPACE}", OWN_READERS, 200, others=True),
    Row(f"PUT {NAMESPACE}", ONLY_ADMIN, 200, body={"namespace": "ns"}),
    Row(f"DELETE {NAMESPACE}", ONLY_ADMIN, 204),
    Row(f"GET {NAMESPACE}/resource_types", OWN_READERS, 200, others=True),
    Row(f"POST {NAMESPACE}/resource_types", ONLY_ADMIN, 201, body={"name": "new"}),
    Row(f"DELETE {NAMESPACE}/resource_types/{{name}}", ONLY_ADMIN, 204),
    *(
        row
        for plural, item in (("objects", {"name": "x"}), ("properties", {**ITEM, "name": "x"}))
        for row in (
            Row(f"GET {NAMESPACE}/{plural}", OWN_READERS, 200, others=True),
            Row(f"POST {NAMESPACE}/{plural}", ONLY_ADMIN, 201, body={**item, "name": "new"}),
            Row(f"DELETE {NAMESPACE}/{plural}", ONLY_ADMIN, 204),
            Row(f"GET {NAMESPACE}/{plural}/{{name}}", OWN_READERS, 200, others=True),
            Row(f"PUT {NAMESPACE}/{plural}/{{name}}", ONLY_ADMIN, 200, body=item),
            Row(f"DELETE {NAMESPACE}/{plural}/{{name}}", ONLY_ADMIN, 204),
        )
    ),
    Row(f"GET {NAMESPACE}/tags", OWN_READERS, 200, others=True),
    Row(f"POST {NAMESPACE}/tags", ONLY_ADMIN, 201, body={"tags": [{"name": "new"}]}),
    Row(f"DELETE {NAMESPACE}/tags", ONLY_ADMIN, 204),
    Row(f"GET {NAMESPACE}/tags/{{name}}", OWN_READERS, 200, others=True),
    Row(f"POST {NAMESPACE}/tags/{{name}}", ONLY_ADMIN, 409),
    Row(f"PUT {NAMESPACE}/tags/{{name}}", ONLY_ADMIN, 200, body={"name": "x"}),
    Row(f"DELETE {NAMESPACE}/tags/{{name}}", ONLY_ADMIN, 204),
)


class Named(Auth):
    """Takes everybody for whom the header X-Who names."""

    def authenticate(self, req: falcon.Request) -> Caller:
        return WHO[req.get_header("X-Who", required=True)]


@dataclass
class World:
    """A server with images and namespaces, made anew for each request."""

    service: ImageService
    app: App
    made: int = 0

    def image(self, kind: str, state: str) -> str:
        values = {"disk_format": "raw", "container_format": "bare", "tags": ["x"]}
        image_id = self.service.create_image(MEMBER, values).id
        self.service.add_member(MEMBER, image_id, "p-guest")
        if state != "queued":
            self.service.upload(MEMBER, image_id, _Bytes(b"data"), size=4)
        if state == "copied":
            self.service.import_image(ADMIN, image_id, ImportRequest("copy-image", all_stores=True))
            assert self.service.run_tasks() == 1
        if state == "deactivated":
            self.service.deactivate_image(MEMBER, image_id)
        # Straight into the record: who may choose a visibility isn't the question here.
        record = self.service.show_image(ADMIN, image_id)
        registry = self.service._context.registry
        registry.update(replace(record, visibility=Visibility(kind)), expect=record.version)
        return image_id

    def namespace(self, kind: str) -> str:
        self.made += 1
        name = f"ns{self.made}"
        made = falcon.testing.TestClient(self.app, headers={"X-Who": "admin"}).post(
            NAMESPACES,
            json={
                "namespace": name,
                "visibility": kind,
                "owner": "p-own",
                "resource_type_associations": [{"name": "x"}],
                "objects": [{"name": "x"}],
                "properties": {"x": {"title": "t", "type": "string"}},
                "tags": [{"name": "x"}],
            },
        )
        assert made.status_code == 201, made.text
        return name


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int, /) -> bytes:
        taken, self._data = self._data[:size], self._data[size:]
        return taken


@contextmanager
def served(directory: Path, policy: Policy) -> Iterator[World]:
    stores = {"one": MemoryStore({}), "two": MemoryStore({})}
    mounts = MountTable(stores, default="one", staging=MemoryStore({}))
    cache = ImageCache(directory / "cache")
    with ImageService(MemoryRegistry({}), mounts, policy, Settings(), cache=cache) as service:
        auth = Named({})
        auth.open()
        yield World(service, create_app(service, auth))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with served(tmp_path, Policy()) as made:
        yield made


def expected(row: Row, kind: str, who: str) -> int:
    """Work out what the row says of one caller and one kind of subject."""
    if row.subject is None:
        return row.good if who in row.may else 403
    visible = OWN_READERS | OTHERS[kind]
    may = row.may | (OTHERS[kind] if row.others else frozenset())
    if who in may or (row.service and who == "service"):
        return row.good
    return 403 if row.blind or who in visible else 404


def name(operation: Route) -> str:
    return f"{operation.method} {operation.path}"


def test_every_operation_has_a_row_and_every_row_an_operation() -> None:
    assert {row.operation for row in ROWS} == {name(route) for route in ROUTES if not route.public}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.operation)
def test_who_may(world: World, row: Row) -> None:
    kinds = row.kinds or (tuple(OTHERS) if row.subject == "image_id" else ("private", "public"))
    method, path = row.operation.split(" ")
    body = row.body if isinstance(row.body, bytes) else json.dumps(row.body) if row.body is not None else b""
    wrong = {}
    for kind in kinds if row.subject else ("",):
        for who in WHO:
            names = {"tag": "x", "name": "x", "member_id": "p-guest", "store_id": "two"}
            names |= {"task_id": "t", "upload_id": "u"}
            if row.subject == "image_id":
                names["image_id"] = world.image(kind, row.state)
                if "{upload_id}" in path and row.headers:
                    upload = world.service.create_upload(ADMIN, names["image_id"], length=4)
                    names["upload_id"] = upload.id
            elif row.subject == "namespace":
                names["namespace"] = world.namespace(kind)
            told = body
            if row.body == {"namespace": "ns"}:
                told = json.dumps({"namespace": names["namespace"]})
            answer = falcon.testing.TestClient(world.app).simulate_request(
                method,
                path.format(**names),
                body=told,
                headers={
                    "X-Who": who,
                    "Content-Type": row.media_type,
                    "Accept": "application/json",
                    **row.headers,
                },
            )
            if answer.status_code != expected(row, kind, who):
                wrong[kind, who] = (answer.status_code, expected(row, kind, who), answer.text)
    assert not wrong


def test_the_policy_says_who_is_an_administrator(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text('"context_is_admin": "role:other"\n')
    with served(tmp_path, Policy(file)) as world:
        image_id = world.image("private", "active")
        for who, status, sees in (("nobody", 200, 200), ("admin", 403, 404), ("system", 403, 404)):
            client = falcon.testing.TestClient(world.app, headers={"X-Who": who})
            assert client.get("/v2/tasks").status_code == status
            assert client.get(f"/v2/images/{image_id}").status_code == sees


def test_a_policy_of_the_operators_own_holds_for_lists_as_well(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("\"get_image\": \"'raw':%(disk_format)s and 'yes':%(shown)s\"\n")
    with served(tmp_path, Policy(file)) as world:
        service = world.service
        for values in ({"shown": "yes"}, {"shown": "no"}, {}, {"disk_format": "iso", "shown": "yes"}):
            service.create_image(MEMBER, {"disk_format": "raw", "container_format": "bare", **values})
        client = falcon.testing.TestClient(world.app, headers={"X-Who": "member"})
        listed = client.get("/v2/images?limit=2&sort=created_at:asc").json
        assert [image["shown"] for image in listed["images"]] == ["yes"]
        rest = client.get(listed["next"]).json
        assert rest["images"] == []
        assert "next" not in rest


def test_an_empty_page_is_a_list_too(world: World) -> None:
    client = falcon.testing.TestClient(world.app, headers={"X-Who": "nobody"})
    assert client.get("/v2/images?limit=0").status_code == 403
