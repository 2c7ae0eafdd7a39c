"""``/v2/openapi.json``: the API as an OpenAPI 3.1 document.

https://spec.openapis.org/oas/v3.1.1 -- made from ROUTES, from what
``descriptions`` says of each and from the schemas that bodies are checked
by, so that it can't tell anything else than what is served.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import falcon

from glancelike.api.descriptions import DESCRIPTIONS
from glancelike.api.image_data import matches
from glancelike.api.operation import JSON, Operation
from glancelike.api.resource import Resource, Schemas
from glancelike.api.task_schema import TASKS_ITEM
from glancelike.service import metadef_schema
from glancelike.web.errors import phrase
from glancelike.web.routes import Route

PARAMETER = re.compile(r"{(\w+)}")
# What may fail in any operation; in those with an identity; with a body; on a thing.
ALWAYS = frozenset({400})
WITH_IDENTITY = frozenset({401, 403, 503})
WITH_BODY = frozenset({413, 415})
ON_A_THING = frozenset({404})
# Keywords of the published schemas that are for other readers.
FOREIGN = frozenset({"name", "links", "is_base", "definitions"})

ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "code": {"type": "string", "description": "Status and its phrase"},
        "title": {"type": "string"},
        "message": {"type": "string"},
    },
    "required": ["message"],
}


class OpenApi(Resource):
    def show(self, req: falcon.Request, resp: falcon.Response) -> None:
        data, tag = self._rendered
        resp.set_header("ETag", tag)
        if matches(req.get_header("If-None-Match"), tag):
            resp.status = 304
        else:
            resp.content_type = JSON
            resp.data = data

    @cached_property
    def _rendered(self) -> tuple[bytes, str]:
        # The table of routes has this very resource in it.
        from glancelike.api.routes import ROUTES

        data = json.dumps(document(ROUTES, self.schemas, self.web.public_endpoint)).encode()
        return data, f'"{sha256(data).hexdigest()[:32]}"'


def describe(route: Route) -> Operation:
    """Return what is said of a route; raise KeyError if nothing is."""
    return DESCRIPTIONS[f"{route.resource.__name__}.{route.operation}"]


def document(routes: Iterable[Route], schemas: Schemas, endpoint: str | None = None) -> dict[str, Any]:
    """Return the document of the routes; ``endpoint`` is where they are, if not beside the document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        # The same without a slash at its end is there, too.
        if route.path != "/v2/":
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, describe(route))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Image API",
            "version": version("glancelike"),
            "description": "The OpenStack Image API v2, as this server answers it.",
        },
        **({"servers": [{"url": endpoint}]} if endpoint else {}),
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR, **components(schemas)},
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
        "security": [{"token": []}, {"basic": []}, {}],
    }


def components(schemas: Schemas) -> dict[str, Any]:
    """Return the schemas that operations name: each thing, and what makes one (``New…``)."""
    things: dict[str, Mapping[str, Any]] = {
        "Image": schemas.image.document,
        "Member": schemas.member.document,
        "Task": schemas.task.document,
        "TaskStub": TASKS_ITEM,
        "Namespace": metadef_schema.NAMESPACE,
        "Property": metadef_schema.PROPERTY,
        "Object": metadef_schema.OBJECT,
        "Tag": metadef_schema.TAG,
        "ResourceTypeAssociation": metadef_schema.RESOURCE_TYPE,
    }
    made: dict[str, Any] = {}
    for name, schema in things.items():
        for part, definition in schema.get("definitions", {}).items():
            made[f"{name}.{part}"] = _clean(definition, name)
        made[name] = _clean(schema, name)
        settable = {
            key: value for key, value in schema["properties"].items() if not value.get("readOnly", False)
        }
        made[f"New{name}"] = _clean({**schema, "properties": settable}, name)
    return made


def failures(route: Route) -> frozenset[int]:
    """Return the statuses of failure that a route may give."""
    told = describe(route)
    statuses = told.errors | ALWAYS
    if not route.public:
        statuses |= WITH_IDENTITY
    if told.body is not None:
        statuses |= WITH_BODY
    if PARAMETER.search(route.path):
        statuses |= ON_A_THING
    return statuses


def _operation(route: Route, told: Operation) -> dict[str, Any]:
    responses = {
        str(status): _answer(phrase(status), schema, told) for status, schema in told.answers.items()
    }
    failed: dict[str, Any] = {}
    if route.method != "HEAD":
        failed["content"] = {
            JSON: {"schema": {"$ref": "#/components/schemas/Error"}},
            "text/html": {"schema": {"type": "string"}},
        }
    for status in sorted(failures(route) - set(told.answers)):
        responses[str(status)] = {"description": phrase(status), **failed}
    made: dict[str, Any] = {
        "operationId": f"{route.resource.__name__}.{route.operation}{route.path}",
        "summary": told.summary,
        "responses": responses,
    }
    parameters = list(_parameters(route, told))
    if parameters:
        made["parameters"] = parameters
    if told.body is not None:
        content = {kind: {"schema": _schema(schema)} for kind, schema in told.body.items()}
        made["requestBody"] = {"required": True, "content": content}
    if route.public:
        made["security"] = []
    return made


def _parameters(route: Route, told: Operation) -> Iterable[dict[str, Any]]:
    for name in PARAMETER.findall(route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    for name, schema in told.query.items():
        yield {"name": name, "in": "query", "schema": dict(schema)}
    if told.filters:
        yield {
            "name": "filters",
            "in": "query",
            "style": "form",
            "explode": True,
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    for name, schema in told.headers.items():
        yield {"name": name, "in": "header", "schema": dict(schema)}


def _answer(phrase: str, schema: str | Mapping[str, Any] | None, told: Operation) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": phrase}
    if told.answer_headers:
        answer["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in told.answer_headers.items()
        }
    if schema is not None:
        answer["content"] = {told.answer_type: {"schema": _schema(schema)}}
    return answer


def _schema(schema: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else dict(schema)


def _clean(schema: Mapping[str, Any], owner: str, *, names: bool = False) -> dict[str, Any]:
    """Copy a schema as JSON Schema has it; references to its definitions lead to the components.

    ``names``: the keys are names of properties, all of which are kept.
    """
    copied: dict[str, Any] = {}
    for key, value in schema.items():
        if key in FOREIGN and not names:
            continue
        if (key, value) == ("format", "regex") and not names:
            continue  # said to readers of a definition; whether it is one isn't checked
        if key == "$ref" and not names:
            copied[key] = str(value).replace("#/definitions/", f"#/components/schemas/{owner}.")
        elif isinstance(value, Mapping):
            copied[key] = _clean(value, owner, names=key == "properties" and not names)
        elif isinstance(value, list):
            copied[key] = [_clean(each, owner) if isinstance(each, Mapping) else each for each in value]
        else:
            copied[key] = value
    return copied
