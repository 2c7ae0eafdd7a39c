"""``/v2/metadefs/namespaces`` and ``/v2/metadefs/resource_types``."""

from __future__ import annotations

import falcon

from glancelike.api import metadef_wire as wire
from glancelike.api.query import parse_pairs
from glancelike.api.resource import Resource
from glancelike.api.wire import instant
from glancelike.api.wire import page as paged
from glancelike.model import NamespaceQuery, SortKey
from glancelike.registry.metadef_values import SORT_FIELDS
from glancelike.web.body import read_json
from glancelike.web.middleware import caller_of

SORT_KEYS = {("namespace" if field == "name" else field): field for field in SORT_FIELDS}


class MetadefNamespaces(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        page = self.service.metadefs.list_namespaces(caller_of(req), self._query(req))
        resp.media = paged(
            "namespaces",
            "/metadefs/namespaces",
            [wire.namespace(each) for each in page.namespaces],
            parse_pairs(req.query_string),
            page.next_marker,
        )

    def create(self, req: falcon.Request, resp: falcon.Response) -> None:
        made = self.service.metadefs.create_namespace(caller_of(req), read_json(req))
        resp.status = 201
        resp.location = f"{req.prefix}{wire.namespace_url(made.name)}"
        resp.media = wire.namespace(made)

    def show(self, req: falcon.Request, resp: falcon.Response, namespace: str) -> None:
        resource_type = wire.parameters(req).get("resource_type")
        found = self.service.metadefs.show_namespace(caller_of(req), namespace, resource_type)
        resp.media = wire.namespace(found)

    def update(self, req: falcon.Request, resp: falcon.Response, namespace: str) -> None:
        changed = self.service.metadefs.replace_namespace(caller_of(req), namespace, read_json(req))
        resp.media = wire.namespace(changed, content=False)

    def delete(self, req: falcon.Request, resp: falcon.Response, namespace: str) -> None:
        self.service.metadefs.delete_namespace(caller_of(req), namespace)
        resp.status = 204

    def _query(self, req: falcon.Request) -> NamespaceQuery:
        given = wire.parameters(req)
        settings = self.service.settings
        limit = wire.limit(given)
        order = wire.sort(given, SORT_KEYS)
        assert order is not None  # noqa: S101 - there is a default
        types = given.get("resource_types")
        return NamespaceQuery(
            visibility=wire.visibility(given),
            resource_types=frozenset() if types is None else frozenset(types.split(",")),
            sort=(order, SortKey("created_at", order.descending)),
            limit=min(settings.limit_param_default if limit is None else limit, settings.api_limit_max),
            marker=given.get("marker"),
        )


class MetadefResourceTypes(Resource):
    def list(self, req: falcon.Request, resp: falcon.Response) -> None:
        found = self.service.metadefs.resource_types(caller_of(req))
        resp.media = {
            "resource_types": [
                {"name": name, "created_at": instant(made), "updated_at": instant(changed)}
                for name, made, changed in found
            ]
        }
