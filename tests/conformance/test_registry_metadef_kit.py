"""The registry kit catches backends that break the contract of namespaces."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from glancelike.errors import InvalidMarker
from glancelike.model import Namespace, NamespacePage, NamespaceQuery, Viewer, utcnow
from glancelike.registry.base import ADMIN, Registry
from glancelike.registry.memory import MemoryRegistry
from glancelike.testing import RegistryConformance


class LosesEdits(MemoryRegistry):
    """Compare first, set later."""

    def update_namespace(self, name: str, namespace: Namespace, *, expect: int) -> Namespace:
        if self.get_namespace(name, ADMIN).version != expect:
            return super().update_namespace(name, namespace, expect=expect)
        time.sleep(0.02)
        now = self.get_namespace(name, ADMIN).version
        return super().update_namespace(name, namespace, expect=now)


class DeletesWhatever(MemoryRegistry):
    def delete_namespace(self, name: str, *, expect: int) -> None:
        super().delete_namespace(name, expect=self.get_namespace(name, ADMIN).version)


class SortsDefinitions(MemoryRegistry):
    def create_namespace(self, namespace: Namespace) -> Namespace:
        return super().create_namespace(
            replace(namespace, properties=dict(sorted(namespace.properties.items())))
        )


class HandsOutItsOwn(MemoryRegistry):
    def get_namespace(self, name: str, viewer: Viewer) -> Namespace:
        super().get_namespace(name, viewer)
        return self._namespaces[name]


class ShowsPrivate(MemoryRegistry):
    def get_namespace(self, name: str, viewer: Viewer) -> Namespace:
        return super().get_namespace(name, ADMIN)


class ReadsEverything(MemoryRegistry):
    """Show in listings what only get shows."""

    def list_namespaces(self, query: NamespaceQuery, viewer: Viewer) -> NamespacePage:
        page = super().list_namespaces(query, viewer)
        return replace(
            page, namespaces=tuple(self.get_namespace(each.name, ADMIN) for each in page.namespaces)
        )


class StartsOver(MemoryRegistry):
    """Begin anew after a marker that is gone."""

    def list_namespaces(self, query: NamespaceQuery, viewer: Viewer) -> NamespacePage:
        try:
            return super().list_namespaces(query, viewer)
        except InvalidMarker:
            return super().list_namespaces(replace(query, marker=None), viewer)


class ForgetsTypes(MemoryRegistry):
    def resource_types(self) -> tuple[tuple[str, datetime, datetime], ...]:
        used = {name for each in self._namespaces.values() for name in each.resource_types}
        return tuple((name, utcnow(), utcnow()) for name in sorted(used))


class WantsAllTypes(MemoryRegistry):
    def list_namespaces(self, query: NamespaceQuery, viewer: Viewer) -> NamespacePage:
        page = super().list_namespaces(query, viewer)
        found = [each for each in page.namespaces if query.resource_types <= each.resource_types.keys()]
        return replace(page, namespaces=tuple(found))


class FoldsCase(MemoryRegistry):
    def get_namespace(self, name: str, viewer: Viewer) -> Namespace:
        same = [each for each in self._namespaces if each.casefold() == name.casefold()]
        return super().get_namespace(same[0] if same else name, viewer)


Kit = RegistryConformance
CAUGHT: tuple[tuple[Callable[[], Registry], Any], ...] = (
    (LosesEdits, Kit.test_racing_namespace_updates),
    (DeletesWhatever, Kit.test_namespace_delete),
    (SortsDefinitions, Kit.test_namespaces_come_back_as_they_went),
    (HandsOutItsOwn, Kit.test_namespaces_are_copies),
    (ShowsPrivate, Kit.test_who_sees_which_namespace),
    (ReadsEverything, Kit.test_namespaces_come_back_as_they_went),
    (StartsOver, Kit.test_namespace_paging_while_others_come_and_go),
    (ForgetsTypes, Kit.test_resource_types_stay),
    (WantsAllTypes, Kit.test_namespace_filters),
    (FoldsCase, lambda kit, registry: kit.test_lookalikes_of_namespaces(registry, "name", "Name")),
)


@pytest.mark.parametrize(("broken", "test"), CAUGHT, ids=[broken.__name__ for broken, _ in CAUGHT])
def test_catches(broken: Callable[[], Registry], test: Any) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(Kit(), broken())


@pytest.mark.parametrize("test", [test for _, test in CAUGHT])
def test_lets_a_sound_one_pass(test: Any) -> None:
    test(Kit(), MemoryRegistry())
