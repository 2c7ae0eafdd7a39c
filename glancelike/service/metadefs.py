"""Use cases of metadata definitions: namespaces and what is in them.

A namespace is one record. Every change of what is in it is a
compare-and-set, done again on the fresh record when somebody was faster,
so that of two edits at once both land.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from glancelike.errors import (
    Conflict,
    DefinitionNotFound,
    Forbidden,
    InvalidMarker,
    NamespaceNotFound,
    StaleNamespace,
)
from glancelike.model import Caller, Namespace, NamespacePage, NamespaceQuery, SortKey, Viewer
from glancelike.service import metadef_forms as forms
from glancelike.service.context import AMEND_ATTEMPTS, Context
from glancelike.service.metadef_forms import PROPERTIES, RESOURCE_TYPES, TAGS, Kind
from glancelike.service.metadef_schema import NAMESPACE, READ_ONLY, check
from glancelike.service.metadef_schema import TAGS as TAGS_SCHEMA

SEE = "get_metadef_namespace"
MODIFY, DELETE = "modify_metadef_namespace", "delete_metadef_namespace"

Body = Mapping[str, Any]


class MetadefService:
    """Metadata definitions, by the Image API's field names.

    What a caller may not see raises NamespaceNotFound, what it may not do
    Forbidden, what can't be meant InvalidInput, fields that only the
    service sets ReadOnlyProperty, a name that is taken NamespaceExists or
    DefinitionExists. The methods are thread-safe.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._policy = context.policy
        self._registry = context.registry

    # Namespaces

    def create_namespace(self, caller: Caller, values: Body) -> Namespace:
        """Make a namespace with all that ``values`` has of definitions."""
        check(NAMESPACE, values, read_only=READ_ONLY)
        self._policy.check(caller, "add_metadef_namespace")
        namespace = forms.new_namespace(values, caller.project)
        for kind in forms.KINDS:
            if kind.of(namespace):
                self._policy.check(caller, kind.add)
        made = self._registry.create_namespace(namespace)
        self._context.notify("metadef_namespace.create", forms.event(made))
        return made

    def show_namespace(self, caller: Caller, name: str, resource_type: str | None = None) -> Namespace:
        """Return a namespace with all that is in it.

        With ``resource_type`` the properties are named as they are on it.
        """
        namespace = self._get(caller, name)
        self._policy.check(caller, SEE, namespace)
        for kind in forms.KINDS:
            self._policy.check(caller, kind.list, namespace)
        return namespace if resource_type is None else forms.prefixed(namespace, resource_type)

    def list_namespaces(self, caller: Caller, query: NamespaceQuery | None = None) -> NamespacePage:
        """Return a page of namespaces, of what is in them only the resource types.

        Raises NamespaceNotFound when the marker names none.
        """
        self._policy.check(caller, "get_metadef_namespaces")
        self._policy.check(caller, RESOURCE_TYPES.list)
        query = query or NamespaceQuery()
        try:
            page = self._registry.list_namespaces(query, _viewer(caller))
        except InvalidMarker:
            raise NamespaceNotFound(f"Marker namespace {query.marker} not found") from None
        seen = tuple(each for each in page.namespaces if self._allows(caller, SEE, each))
        return replace(page, namespaces=seen)

    def replace_namespace(self, caller: Caller, name: str, values: Body) -> Namespace:
        """Replace the namespace's own fields; what is in it stays.

        A field that isn't given gets its default, the owner the caller's project.
        """
        check(NAMESPACE, values, read_only=READ_ONLY)
        changed = self._edit(
            caller, name, [MODIFY], lambda found: forms.with_fields(found, values, caller.project)
        )
        self._context.notify("metadef_namespace.update", forms.event(changed, old_name=name))
        return changed

    def delete_namespace(self, caller: Caller, name: str) -> None:
        """Delete a namespace with all that is in it, unless it is protected."""

        def delete(found: Namespace) -> Namespace:
            forms.refuse_protected(found, f"namespace {name}")
            self._registry.delete_namespace(name, expect=found.version)
            return found

        gone = self._settled(caller, name, [DELETE], delete)
        self._context.notify("metadef_namespace.delete", forms.event(gone, deleted=True))

    def resource_types(self, caller: Caller) -> tuple[tuple[str, datetime, datetime], ...]:
        """Return the resource types there are: name, when made, when changed."""
        self._policy.check(caller, RESOURCE_TYPES.list)
        return self._registry.resource_types()

    # What is in a namespace: bodies have the name among the fields

    def definitions(
        self,
        caller: Caller,
        namespace: str,
        kind: Kind,
        *,
        sort: SortKey | None = None,
        marker: str | None = None,
        limit: int | None = None,
    ) -> list[Body]:
        """Return the definitions of a kind, in the order they were made in if no other is given.

        Raises DefinitionNotFound when there is no such marker.
        """
        found = self._get(caller, namespace)
        self._policy.check(caller, kind.list, found)
        if not self._allows(caller, kind.show, found):
            return []
        names = forms.in_order(kind, found, sort=sort, marker=marker, limit=limit)
        return [_body(kind, found, name) for name in names]

    def show(self, caller: Caller, namespace: str, kind: Kind, name: str) -> Body:
        """Return one definition; raise DefinitionNotFound."""
        found = self._get(caller, namespace)
        self._policy.check(caller, kind.show, found)
        return _body(kind, found, name)

    def show_property(self, caller: Caller, namespace: str, name: str, resource_type: str) -> Body:
        """Return the property that is called ``name`` on a resource type.

        Its body has the name without the prefix. Raises DefinitionNotFound,
        also when the name lacks the prefix.
        """
        found = self._get(caller, namespace)
        self._policy.check(caller, PROPERTIES.show, found)
        self._policy.check(caller, RESOURCE_TYPES.show, found)
        prefix = RESOURCE_TYPES.find(found, resource_type).get("prefix", "")
        if not name.startswith(prefix):
            raise DefinitionNotFound(
                f"Property {name} does not start with the prefix '{prefix}' of {resource_type}"
            )
        return _body(PROPERTIES, found, name.removeprefix(prefix))

    def add(self, caller: Caller, namespace: str, kind: Kind, values: Body) -> Body:
        """Add a definition; raise DefinitionExists."""
        check(kind.schema, values, read_only=READ_ONLY)
        changed = self._edit(caller, namespace, [kind.add], lambda found: forms.added(kind, found, values))
        return self._told(kind, "create", changed, values["name"])

    def replace(self, caller: Caller, namespace: str, kind: Kind, name: str, values: Body) -> Body:
        """Replace a definition wholly; raise DefinitionNotFound, DefinitionExists."""
        check(kind.schema, values, read_only=READ_ONLY)
        changed = self._edit(
            caller, namespace, [kind.modify], lambda found: forms.replaced(kind, found, name, values)
        )
        return self._told(kind, "update", changed, values["name"], old_name=name)

    def remove(self, caller: Caller, namespace: str, kind: Kind, name: str) -> None:
        """Remove a definition, unless the namespace is protected; raise DefinitionNotFound."""
        gone: dict[str, Namespace] = {}

        def change(found: Namespace) -> Namespace:
            gone["from"] = found
            return forms.removed(kind, found, name)

        self._edit(caller, namespace, [kind.remove], change)
        self._told(kind, "delete", gone["from"], name, deleted=True)

    def clear(self, caller: Caller, namespace: str, kind: Kind) -> None:
        """Remove all definitions of a kind, unless the namespace is protected."""

        def change(found: Namespace) -> Namespace:
            forms.refuse_protected(found, f"namespace {found.name}")
            return kind.within(found, {})

        changed = self._edit(caller, namespace, kind.clear, change)
        self._context.notify(f"metadef_namespace.delete_{kind.part}", forms.event(changed))

    def set_tags(self, caller: Caller, namespace: str, values: Body, *, append: bool = False) -> list[str]:
        """Replace all tags, or add to them, and return the names of those given.

        An empty list leaves the tags as they are. Raises DefinitionExists.
        """
        names = [tag["name"] for tag in check(TAGS_SCHEMA, values)["tags"]]

        def change(found: Namespace) -> Namespace:
            if names and not append:
                found = TAGS.within(found, {})
            for name in names:
                found = forms.added(TAGS, found, {"name": name})
            return found

        changed = self._edit(caller, namespace, ["add_metadef_tags"], change)
        for name in names:
            self._told(TAGS, "create", changed, name)
        return names

    def _get(self, caller: Caller, name: str) -> Namespace:
        return self._registry.get_namespace(name, _viewer(caller))

    def _edit(
        self, caller: Caller, name: str, rules: Iterable[str], change: Callable[[Namespace], Namespace]
    ) -> Namespace:
        """Change a namespace by compare-and-set, on the fresh record each time."""

        def update(found: Namespace) -> Namespace:
            return self._registry.update_namespace(name, change(found), expect=found.version)

        return self._settled(caller, name, rules, update)

    def _settled(
        self, caller: Caller, name: str, rules: Iterable[str], act: Callable[[Namespace], Namespace]
    ) -> Namespace:
        for _attempt in range(AMEND_ATTEMPTS):
            found = self._get(caller, name)
            for rule in rules:
                self._policy.check(caller, rule, found)
            try:
                return act(found)
            except StaleNamespace:
                continue
        raise Conflict(f"Namespace {name} is being changed by too many at once: try again")

    def _allows(self, caller: Caller, rule: str, namespace: Namespace) -> bool:
        try:
            self._policy.check(caller, rule, namespace)
        except (Forbidden, NamespaceNotFound):
            return False
        return True

    def _told(self, kind: Kind, what: str, namespace: Namespace, name: str, **more: Any) -> Body:
        """Tell listeners of a definition; return its body."""
        told = forms.definition_event(namespace.name, name, kind.find(namespace, name), **more)
        self._context.notify(f"metadef_{kind.noun.replace(' ', '_')}.{what}", told)
        return _body(kind, namespace, name)


def _viewer(caller: Caller) -> Viewer:
    return Viewer(caller.project, caller.admin)


def _body(kind: Kind, namespace: Namespace, name: str) -> Body:
    return {"name": name, **kind.find(namespace, name)}
