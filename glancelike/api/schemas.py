"""``/v2/schemas/…``: what clients read to know the fields."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.api.resource import Resource
from glancelike.api.task_schema import TASKS_ITEM


class SchemaDocuments(Resource):
    def image(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = self.schemas.image.document

    def images(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = _collection("images", self.schemas.image.document, paged=True)

    def member(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = self.schemas.member.document

    def task(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = self.schemas.task.document

    def tasks(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = _collection("tasks", TASKS_ITEM, paged=True)

    def members(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = _collection("members", self.schemas.member.document, paged=False)


def _collection(name: str, items: dict[str, Any], *, paged: bool) -> dict[str, Any]:
    """Describe a list of ``items`` under its plural name."""
    properties: dict[str, Any] = {name: {"type": "array", "items": items}, "schema": {"type": "string"}}
    document: dict[str, Any] = {
        "name": name,
        "properties": properties,
        "links": [{"rel": "describedby", "href": "{schema}"}],
    }
    if paged:
        properties |= {"first": {"type": "string"}, "next": {"type": "string"}}
        document["links"] = [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            *document["links"],
        ]
    return document
