"""What is in a namespace: ``/v2/metadefs/namespaces/{namespace}/…``."""

from __future__ import annotations

from typing import Any

import falcon

from glancelike.api import metadef_wire as wire
from glancelike.api.query import TRUE
from glancelike.api.resource import Resource
from glancelike.service.metadef_forms import OBJECTS, PROPERTIES, RESOURCE_TYPES, SORT_FIELDS, TAGS, Kind
from glancelike.web.body import read_json
from glancelike.web.middleware import caller_of

SORT_KEYS = {field: field for field in SORT_FIELDS}


class _Definitions(Resource):
    """Operations that all kinds of definitions have; ``body`` says how one is shown."""

    kind: Kind

    def body(self, namespace: str, values: Any) -> Any:
        return values

    def create(self, req: falcon.Request, resp: falcon.Response, namespace: str) -> None:
        made = self.service.metadefs.add(caller_of(req), namespace, self.kind, read_json(req))
        resp.status = 201
        resp.media = self.body(namespace, made)

    def show(self, req: falcon.Request, resp: falcon.Response, namespace: str, name: str) -> None:
        found = self.service.metadefs.show(caller_of(req), namespace, self.kind, name)
        resp.media = self.body(namespace, found)

    def update(self, req: falcon.Request, resp: falcon.Response, namespace: str, name: str) -> None:
        changed = self.service.metadefs.replace(caller_of(req), namespace, self.kind, name, read_json(req))
        resp.media = self.body(namespace, changed)

    def delete(self, req: falcon.Request, resp: falcon.Response, namespace: str, name: str) -> None:
        self.service.metadefs.remove(caller_of(req), namespace, self.kind, name)
        resp.status = 204

    def clear(self, req: falcon.Request, resp: falcon.Response, namespace: str) -> None:
        self.service.metadefs.clear(caller_of(req), namespace, self.kind)
        resp.status = 204


class MetadefProperties(_Definitions):
    kind = PROPERTIES

    def list(self, req: falcon.Request, resp: falcon.Response, namespace: str) -> None:
        found = self.service.metadefs.definitions(caller_of(req), namespace, self.kind)
        resp.media = {
            "properties": {
                each["name"]: {key: value for key, value in each.items() if key != "name"} for each in found
            }
        }

    def show(self, req: falcon.Request, resp: falcon.Response, namespace: str, name: str) -> None:
        resource_type = wire.parameters(req).get("resource_type")
        if resource_type:
            resp.media = self.service.metadefs.show_property(caller_of(req), namespace, name, resource_type)
        else:
            super().show(req, resp, namespace, name)


class MetadefObjects(_Definitions):
    kind = OBJECTS

    def body(self, namespace: str, values: Any) -> Any:
        return wire.definition_of_object(namespace, values)

    def list(self, req: falcon.Request, resp: falcon.Response, namespace: str) -> None:
        given = wire.parameters(req)
        found = self.service.metadefs.definitions(
            caller_of(req),
            namespace,
            self.kind,
            sort=wire.sort(given, SORT_KEYS, default=None),
            marker=given.get("marker"),
            limit=wire.limit(given, lowest=1),
        )
        resp.media = {
            "objects": [self.body(namespace, each) for each in found],
            "schema": f"{wire.SCHEMAS}/objects",
        }


class MetadefTags(_Definitions):
    kind = TAGS

    def list(self, req: falcon.Request, resp: falcon.Response, namespace: str) -> None:
        given = wire.parameters(req)
        found = self.service.metadefs.definitions(
            caller_of(req),
            namespace,
            self.kind,
            sort=wire.sort(given, SORT_KEYS),
            marker=given.get("marker") or None,
            limit=wire.limit(given),
        )
        resp.media = _names([tag["name"] for tag in found])

    def create_several(self, req: falcon.Request, resp: falcon.Response, namespace: str) -> None:
        append = (req.get_header("X-Openstack-Append") or "").strip().lower() in TRUE
        names = self.service.metadefs.set_tags(caller_of(req), namespace, read_json(req), append=append)
        resp.status = 201
        resp.media = _names(names)

    def add(self, req: falcon.Request, resp: falcon.Response, namespace: str, name: str) -> None:
        resp.media = self.service.metadefs.add(caller_of(req), namespace, self.kind, {"name": name})
        resp.status = 201


class MetadefAssociations(_Definitions):
    kind = RESOURCE_TYPES

    def list(self, req: falcon.Request, resp: falcon.Response, namespace: str) -> None:
        found = self.service.metadefs.definitions(caller_of(req), namespace, self.kind)
        resp.media = {"resource_type_associations": found}


def _names(names: list[str]) -> dict[str, Any]:
    return {"tags": [{"name": name} for name in names]}
