"""``/v2/openapi.json``: the API as an OpenAPI 3.1 document.

https://spec.openapis.org/oas/v3.1.1 -- made from ROUTES, from what each
operation says of itself and from the schemas that bodies are checked by, so
that it can't tell anything else than what is served.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from glancelike.api.operation import JSON, Operation, described
from glancelike.web.routes import Route

PARAMETER = re.compile(r"{(\w+)}")
# What any operation may answer; those with an identity, a body, an object besides.
ALWAYS = frozenset({400, 503})
WITH_IDENTITY = frozenset({401, 403})
WITH_BODY = frozenset({413, 415})
# Keywords of the published schemas that are for other readers.
FOREIGN = frozenset({"name", "links", "is_base"})

ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "code": {"type": "string", "description": "Status and its phrase"},
        "title": {"type": "string"},
        "message": {"type": "string"},
    },
    "required": ["message"],
}


def document(routes: Iterable[Route], schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the document of the routes; ``schemas`` are named in the operations."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        told = described(getattr(route.resource, route.operation))
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, told)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Image API",
            "version": version("glancelike"),
            "description": "The OpenStack Image API v2, as this server answers it.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR, **{name: _clean(schema) for name, schema in schemas.items()}},
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
        "security": [{"token": []}, {"basic": []}, {}],
    }


def _operation(route: Route, told: Operation) -> dict[str, Any]:
    statuses = told.errors | ALWAYS
    if not route.public:
        statuses |= WITH_IDENTITY
    if told.body is not None:
        statuses |= WITH_BODY
    if PARAMETER.search(route.path):
        statuses |= {404}
    responses = {
        str(status): _answer(HTTPStatus(status).phrase, schema, told.answer_type)
        for status, schema in told.answers.items()
    }
    if route.method == "HEAD":
        failed: dict[str, Any] = {}
    else:
        failed = {
            "content": {
                JSON: {"schema": {"$ref": "#/components/schemas/Error"}},
                "text/html": {"schema": {"type": "string"}},
            }
        }
    for status in sorted(statuses - set(told.answers)):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, **failed}
    made: dict[str, Any] = {
        "operationId": f"{route.resource.__name__}.{route.operation}.{route.method.lower()}",
        "summary": told.summary,
        "responses": responses,
    }
    if route.path in ("/v2/",):
        made["operationId"] += ".slash"
    parameters = list(_parameters(route, told))
    if parameters:
        made["parameters"] = parameters
    if told.body is not None:
        content = {kind: {"schema": _schema(told.body.schema)} for kind in told.body.types}
        made["requestBody"] = {"required": told.body.required, "content": content}
    if route.public:
        made["security"] = []
    return made


def _parameters(route: Route, told: Operation) -> Iterable[dict[str, Any]]:
    for name in PARAMETER.findall(route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    for name, schema in told.query.items():
        yield {"name": name, "in": "query", "schema": schema}
    if told.open_query:
        yield {
            "name": "filters",
            "in": "query",
            "style": "form",
            "explode": True,
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    for name, schema in told.headers.items():
        yield {"name": name, "in": "header", "schema": schema}


def _answer(phrase: str, schema: str | Mapping[str, Any] | None, kind: str) -> dict[str, Any]:
    if schema is None:
        return {"description": phrase}
    return {"description": phrase, "content": {kind: {"schema": _schema(schema)}}}


def _schema(schema: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else _clean(schema)


def _clean(schema: Mapping[str, Any], *, names: bool = False) -> dict[str, Any]:
    """Copy a schema without the keywords that aren't JSON Schema's.

    ``names``: the keys are names of properties, all of which are kept.
    """
    copied: dict[str, Any] = {}
    for key, value in schema.items():
        if key in FOREIGN and not names:
            continue
        if isinstance(value, Mapping):
            copied[key] = _clean(
                value, names=key in ("properties", "patternProperties", "$defs") and not names
            )
        elif isinstance(value, list):
            copied[key] = [_clean(each) if isinstance(each, Mapping) else each for each in value]
        else:
            copied[key] = value
    return copied
