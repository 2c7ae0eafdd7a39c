"""Metadata definitions in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from glancelike.errors import InvalidMarker, NamespaceExists, NamespaceNotFound, StaleNamespace
from glancelike.model import Namespace, NamespacePage, NamespaceQuery, Viewer, utcnow
from glancelike.registry.base import ADMIN
from glancelike.registry.memory.order import in_order
from glancelike.registry.memory.state import State
from glancelike.registry.metadef_values import checked_namespace, checked_namespace_query, summary
from glancelike.registry.parts import MetadefRecords


class MetadefMemory(MetadefRecords, State):
    """Keep namespaces of metadata definitions."""

    def __init__(self, settings: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__(settings)
        self._namespaces: dict[str, Namespace] = {}
        self._resource_types: dict[str, datetime] = {}

    def create_namespace(self, namespace: Namespace) -> Namespace:
        namespace = replace(checked_namespace(namespace), version=1)
        with self._lock:
            self._refuse_taken(namespace.name)
            self._keep_namespace(namespace)
        return checked_namespace(namespace)

    def get_namespace(self, name: str, viewer: Viewer) -> Namespace:
        with self._lock:
            found = self._namespaces.get(name)
        if found is None or not _visible(found, viewer):
            raise NamespaceNotFound(f"namespace {name!r} not found")
        return checked_namespace(found)

    def list_namespaces(self, query: NamespaceQuery, viewer: Viewer) -> NamespacePage:
        query = checked_namespace_query(query)
        with self._lock:
            seen = [each for each in self._namespaces.values() if _visible(each, viewer)]
        marker = next((each for each in seen if each.name == query.marker), None)
        if query.marker is not None and marker is None:
            raise InvalidMarker(f"marker {query.marker!r} not found")
        found = in_order([each for each in seen if _matches(each, query)], query.sort, marker)
        page = tuple(checked_namespace(summary(each)) for each in found[: query.limit])
        return NamespacePage(page, page[-1].name if page and len(found) > len(page) else None)

    def update_namespace(self, name: str, namespace: Namespace, *, expect: int) -> Namespace:
        namespace = checked_namespace(namespace)
        with self._lock:
            found = self._expect_namespace(name, expect)
            if namespace.name != name:
                self._refuse_taken(namespace.name)
            namespace = replace(
                namespace, created_at=found.created_at, updated_at=utcnow(), version=expect + 1
            )
            del self._namespaces[name]
            self._keep_namespace(namespace)
        return checked_namespace(namespace)

    def delete_namespace(self, name: str, *, expect: int) -> None:
        with self._lock:
            self._expect_namespace(name, expect)
            del self._namespaces[name]

    def resource_types(self) -> tuple[tuple[str, datetime, datetime], ...]:
        with self._lock:
            return tuple((name, at, at) for name, at in sorted(self._resource_types.items()))

    def _refuse_taken(self, name: str) -> None:
        if name in self._namespaces:
            raise NamespaceExists(f"namespace {name!r} exists")

    def _expect_namespace(self, name: str, version: int) -> Namespace:
        found = self.get_namespace(name, ADMIN)
        if found.version != version:
            raise StaleNamespace(f"namespace {name!r} is at version {found.version}, not {version}")
        return found

    def _keep_namespace(self, namespace: Namespace) -> None:
        self._namespaces[namespace.name] = namespace
        for resource_type in namespace.resource_types:
            self._resource_types.setdefault(resource_type, utcnow())


def _visible(namespace: Namespace, viewer: Viewer) -> bool:
    mine = viewer.project is not None and namespace.owner == viewer.project
    return viewer.admin or mine or namespace.visibility == "public"


def _matches(namespace: Namespace, query: NamespaceQuery) -> bool:
    return (
        query.visibility in (None, namespace.visibility)
        and query.owner in (None, namespace.owner)
        and (not query.resource_types or not query.resource_types.isdisjoint(namespace.resource_types))
    )
