"""The OpenAPI document and the table of operations: whole, true to ROUTES, and valid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from glancelike.api.coverage import coverage
from glancelike.api.descriptions import DESCRIPTIONS
from glancelike.api.openapi import describe, document
from glancelike.api.resource import Schemas
from glancelike.api.routes import ROUTES
from glancelike.embedded import open_service
from glancelike.registry.memory import MemoryRegistry
from glancelike.stores.memory import MemoryStore
from tests.server_fixtures import Api

COVERAGE = Path(__file__).parents[2] / "docs" / "api-coverage.md"

# Methods and paths below /v2 of Glance 33: https://docs.openstack.org/api-ref/image/v2/
GLANCE = """\
GET POST /images
GET PATCH DELETE /images/{}
GET /images/{}/tasks
POST /images/{}/import
POST /images/{}/actions/deactivate
POST /images/{}/actions/reactivate
GET PUT /images/{}/file
PUT /images/{}/stage
GET POST /images/{}/locations
PUT DELETE /images/{}/tags/{}
GET POST /images/{}/members
GET PUT DELETE /images/{}/members/{}
DELETE /stores/{}/{}
GET /info/import
GET /info/stores
GET /info/stores/detail
GET /info/usage
GET DELETE /cache
PUT DELETE /cache/{}
GET /cache/nodes/{}
POST /cache/clean
POST /cache/prune
GET POST /tasks
GET DELETE /tasks/{}
GET /schemas/image
GET /schemas/images
GET /schemas/member
GET /schemas/members
GET /schemas/task
GET /schemas/tasks
GET /schemas/metadefs/namespace
GET /schemas/metadefs/namespaces
GET /schemas/metadefs/resource_type
GET /schemas/metadefs/resource_types
GET /schemas/metadefs/property
GET /schemas/metadefs/properties
GET /schemas/metadefs/object
GET /schemas/metadefs/objects
GET /schemas/metadefs/tag
GET /schemas/metadefs/tags
GET /metadefs/resource_types
GET POST /metadefs/namespaces
GET PUT DELETE /metadefs/namespaces/{}
GET POST /metadefs/namespaces/{}/resource_types
DELETE /metadefs/namespaces/{}/resource_types/{}
GET POST DELETE /metadefs/namespaces/{}/properties
GET PUT DELETE /metadefs/namespaces/{}/properties/{}
GET POST DELETE /metadefs/namespaces/{}/objects
GET PUT DELETE /metadefs/namespaces/{}/objects/{}
GET POST DELETE /metadefs/namespaces/{}/tags
GET POST PUT DELETE /metadefs/namespaces/{}/tags/{}
"""
BESIDES = {
    "GET /",
    "GET /versions",
    "GET /v2",
    "GET /v2/",
    "GET /healthcheck",
    "GET /v2/openapi.json",
    "HEAD /v2/images/{}/file",
    "OPTIONS /v2/images/{}/uploads",
    "POST /v2/images/{}/uploads",
    "OPTIONS /v2/images/{}/uploads/{}",
    "HEAD /v2/images/{}/uploads/{}",
    "PATCH /v2/images/{}/uploads/{}",
    "DELETE /v2/images/{}/uploads/{}",
    "POST /v2/images/{}/presigned",
    "POST /v2/images/{}/presigned/{}/complete",
}


def glance() -> set[str]:
    found = []
    for line in GLANCE.splitlines():
        *methods, path = line.split()
        found += [f"{method} /v2{path}" for method in methods]
    assert len(found) == 81
    return set(found)


@pytest.fixture(scope="module")
def made() -> Iterator[dict[str, Any]]:
    with open_service(MemoryRegistry({}), stores={"memory": MemoryStore({})}) as service:
        yield document(ROUTES, Schemas(service))


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def unnamed(path: str) -> str:
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


def test_all_of_glances_operations_are_served() -> None:
    assert {f"{route.method} {unnamed(route.path)}" for route in ROUTES} == glance() | BESIDES


def test_every_route_is_described_and_nothing_else() -> None:
    named = {f"{route.resource.__name__}.{route.operation}" for route in ROUTES}
    assert named == set(DESCRIPTIONS)
    for route in ROUTES:
        assert describe(route).summary


def test_the_document_is_valid(made: dict[str, Any]) -> None:
    errors = [
        f"{list(error.absolute_path)}: {error.message}"
        for error in OpenAPIV31SpecValidator(json.loads(json.dumps(made))).iter_errors()
    ]
    assert errors == []


def test_every_schema_that_is_named_is_defined(made: dict[str, Any]) -> None:
    defined = {f"#/components/schemas/{name}" for name in made["components"]["schemas"]}
    found = set(references(made))
    assert "#/components/schemas/Image" in found
    assert found <= defined


def test_every_parameter_of_a_path_is_told(made: dict[str, Any]) -> None:
    for path, operations in made["paths"].items():
        wanted = {part[1:-1] for part in path.split("/") if part.startswith("{")}
        for method, told in operations.items():
            parameters = told.get("parameters", [])
            assert {each["name"] for each in parameters if each["in"] == "path"} == wanted, (method, path)


def test_anybody_may_read_it(api: Api) -> None:
    anybody = api.as_(None)
    told = anybody.get("/v2/openapi.json")
    assert told.status_code == 200
    assert told.headers["content-type"] == "application/json"
    assert set(told.json["paths"]) == {route.path for route in ROUTES} - {"/v2/"}
    again = anybody.get("/v2/openapi.json", headers={"If-None-Match": told.headers["etag"]})
    assert (again.status_code, again.text) == (304, "")


def test_it_tells_where_the_service_is() -> None:
    with open_service(MemoryRegistry({}), stores={"memory": MemoryStore({})}) as service:
        made = document(ROUTES, Schemas(service), "https://cloud.example.org/image")
    assert made["servers"] == [{"url": "https://cloud.example.org/image"}]


def test_the_table_of_operations_is_current() -> None:
    made, _, _ = COVERAGE.read_text().partition("\n## Tempest")
    assert made == coverage(ROUTES), "make it again by `glancelike api coverage`, up to Tempest"
