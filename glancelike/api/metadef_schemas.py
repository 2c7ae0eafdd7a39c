"""``/v2/schemas/metadefs/…``: what clients read to know the fields."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.api.resource import Resource
from glancelike.service import metadef_schema as schemas

Document = dict[str, Any]


class MetadefSchemas(Resource):
    def namespace(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = schemas.NAMESPACE

    def namespaces(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = _collection("namespaces", schemas.NAMESPACE)

    def resource_type(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = schemas.RESOURCE_TYPE

    def resource_types(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = _collection("resource_type_associations", schemas.RESOURCE_TYPE)

    def property(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = schemas.PROPERTY

    def properties(self, req: falcon.Request, resp: falcon.Response) -> None:
        required = [name for name in schemas.PROPERTY["required"] if name != "name"]
        by_name = {**schemas.PROPERTY, "required": required}
        resp.media = _collection("properties", by_name, by_name=True)

    def object(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = schemas.OBJECT

    def objects(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = _collection("objects", schemas.OBJECT)

    def tag(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = schemas.TAG

    def tags(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = _collection("tags", schemas.TAG)


def _collection(name: str, item: Document, *, by_name: bool = False) -> Document:
    """Describe a list, or a mapping by name, of items; references lead to its own definitions."""
    one = {key: value for key, value in item.items() if key != "definitions"}
    several = {"type": "object", "additionalProperties": one} if by_name else {"type": "array", "items": one}
    document: Document = {
        "name": name,
        "properties": {
            name: several,
            "first": {"type": "string"},
            "next": {"type": "string"},
            "schema": {"type": "string"},
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    }
    if "definitions" in item:
        document["definitions"] = item["definitions"]
    return document
