"""Between what callers send of metadata definitions and what a Namespace keeps.

Pure: everything returns new values, or raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from glancelike.errors import DefinitionExists, DefinitionNotFound, Forbidden
from glancelike.model import Namespace, SortKey, utcnow
from glancelike.service.metadef_schema import OBJECT, PROPERTY, READ_ONLY, RESOURCE_TYPE, TAG, Document

Definition = Mapping[str, Any]
Definitions = Mapping[str, Definition]

TIME = "%Y-%m-%dT%H:%M:%SZ"
SORT_FIELDS = ("id", "name", "created_at", "updated_at")  # of definitions


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of definition: where a Namespace keeps it, and Glance's rules for it.

    ``part`` is a field of Namespace; ``dated`` tells whether definitions
    carry times. Whoever clears all of a kind needs every rule of ``clear``.
    """

    part: str
    noun: str
    schema: Document
    list: str
    show: str
    add: str
    remove: str
    modify: str = ""
    clear: tuple[str, ...] = ()
    dated: bool = True

    def of(self, namespace: Namespace) -> Definitions:
        """Return the namespace's definitions of this kind."""
        found: Definitions = getattr(namespace, self.part)
        return found

    def within(self, namespace: Namespace, definitions: Definitions) -> Namespace:
        """Return the namespace with these definitions of this kind."""
        fields: dict[str, Any] = {self.part: definitions}
        return replace(namespace, **fields)

    def find(self, namespace: Namespace, name: str) -> Definition:
        """Return one definition; raise DefinitionNotFound."""
        try:
            return self.of(namespace)[name]
        except KeyError:
            raise DefinitionNotFound(
                f"Metadata definition {self.noun} {name} not found in namespace {namespace.name}"
            ) from None

    def exists(self, namespace: Namespace, name: str) -> DefinitionExists:
        """Return the error for a name that is taken."""
        return DefinitionExists(
            f"Metadata definition {self.noun} {name} exists in namespace {namespace.name} already"
        )


PROPERTIES = Kind(
    "properties",
    "property",
    PROPERTY,
    list="get_metadef_properties",
    show="get_metadef_property",
    add="add_metadef_property",
    remove="remove_metadef_property",
    modify="modify_metadef_property",
    clear=("delete_metadef_namespace",),
    dated=False,
)
OBJECTS = Kind(
    "objects",
    "object",
    OBJECT,
    list="get_metadef_objects",
    show="get_metadef_object",
    add="add_metadef_object",
    remove="delete_metadef_object",
    modify="modify_metadef_object",
    clear=("delete_metadef_namespace",),
)
TAGS = Kind(
    "tags",
    "tag",
    TAG,
    list="get_metadef_tags",
    show="get_metadef_tag",
    add="add_metadef_tag",
    remove="delete_metadef_tag",
    modify="modify_metadef_tag",
    clear=("delete_metadef_namespace", "delete_metadef_tags"),
)
RESOURCE_TYPES = Kind(
    "resource_types",
    "resource type",
    RESOURCE_TYPE,
    list="list_metadef_resource_types",
    show="get_metadef_resource_type",
    add="add_metadef_resource_type_association",
    remove="remove_metadef_resource_type_association",
)
KINDS = (RESOURCE_TYPES, PROPERTIES, OBJECTS, TAGS)


def definition(kind: Kind, values: Mapping[str, Any], created_at: str | None = None) -> Definition:
    """Return what is kept of a definition that matches the kind's schema."""
    kept = {key: value for key, value in values.items() if key != "name" and key not in READ_ONLY}
    if kind is OBJECTS:
        kept = {"required": [], "properties": {}, **kept}
        kept["properties"] = {name: definition(PROPERTIES, each) for name, each in kept["properties"].items()}
    if kind.dated:
        now = utcnow().strftime(TIME)
        kept |= {"created_at": created_at or now, "updated_at": now}
    return kept


def new_namespace(values: Mapping[str, Any], owner: str | None) -> Namespace:
    """Make a namespace of a body that matches the schema.

    Raises DefinitionExists when two definitions of a kind have one name.
    """
    namespace = with_fields(Namespace(values["namespace"]), values, owner)
    for name, each in values.get("properties", {}).items():
        namespace = added(PROPERTIES, namespace, {**each, "name": name})
    for kind, field in ((RESOURCE_TYPES, "resource_type_associations"), (OBJECTS, "objects"), (TAGS, "tags")):
        for each in values.get(field, ()):
            namespace = added(kind, namespace, each)
    return namespace


def with_fields(namespace: Namespace, values: Mapping[str, Any], owner: str | None) -> Namespace:
    """Return the namespace with its own fields replaced; those not given get their defaults."""
    return replace(
        namespace,
        name=values["namespace"],
        display_name=values.get("display_name"),
        description=values.get("description"),
        visibility=values.get("visibility", "private"),
        protected=values.get("protected", False),
        owner=values.get("owner", owner),
    )


def added(kind: Kind, namespace: Namespace, values: Mapping[str, Any]) -> Namespace:
    """Return the namespace with one definition more; raise DefinitionExists."""
    name = values["name"]
    if name in kind.of(namespace):
        raise kind.exists(namespace, name)
    return kind.within(namespace, {**kind.of(namespace), name: definition(kind, values)})


def replaced(kind: Kind, namespace: Namespace, name: str, values: Mapping[str, Any]) -> Namespace:
    """Return the namespace with another definition, and perhaps name, in the place of one.

    Raises DefinitionNotFound, DefinitionExists.
    """
    old = kind.find(namespace, name)
    new_name = values["name"]
    if new_name != name and new_name in kind.of(namespace):
        raise kind.exists(namespace, new_name)
    new = definition(kind, values, old.get("created_at"))
    return kind.within(
        namespace,
        {
            new_name if key == name else key: new if key == name else kept
            for key, kept in kind.of(namespace).items()
        },
    )


def removed(kind: Kind, namespace: Namespace, name: str) -> Namespace:
    """Return the namespace without one definition; raise DefinitionNotFound, Forbidden."""
    kind.find(namespace, name)
    refuse_protected(namespace, f"{kind.noun} {name}")
    return kind.within(namespace, {key: kept for key, kept in kind.of(namespace).items() if key != name})


def refuse_protected(namespace: Namespace, what: str) -> None:
    """Raise Forbidden if nothing of the namespace may be deleted."""
    if namespace.protected:
        raise Forbidden(
            f"Metadata definition {what} is protected and cannot be deleted: namespace {namespace.name} is"
        )


def prefixed(namespace: Namespace, resource_type: str) -> Namespace:
    """Return the namespace with its properties named as they are on a resource type."""
    prefix = namespace.resource_types.get(resource_type, {}).get("prefix")
    if not prefix:
        return namespace
    return replace(
        namespace,
        properties=_prefixed(prefix, namespace.properties),
        objects={
            name: {
                **each,
                "properties": _prefixed(prefix, each["properties"]),
                "required": [prefix + required for required in each["required"]],
            }
            for name, each in namespace.objects.items()
        },
    )


def _prefixed(prefix: str, definitions: Definitions) -> Definitions:
    return {prefix + name: each for name, each in definitions.items()}


def in_order(
    kind: Kind, namespace: Namespace, *, sort: SortKey | None, marker: str | None, limit: int | None
) -> list[str]:
    """Return names in the order asked for, else in that they were made in.

    Those after the marker, and at most ``limit``. Raises DefinitionNotFound
    when there is no such marker.
    """
    definitions = kind.of(namespace)
    found = list(definitions)
    if sort is not None and sort.field != "id":
        # Sorting is stable, so that ties stay in the order they were made in.
        found.sort(key=lambda name: str({"name": name, **definitions[name]}.get(sort.field, "")))
    if sort is not None and sort.descending:
        found.reverse()
    if marker is not None:
        kind.find(namespace, marker)
        found = found[found.index(marker) + 1 :]
    return found[:limit]


def event(namespace: Namespace, *, old_name: str | None = None, deleted: bool = False) -> dict[str, Any]:
    """Return what is told to listeners of a namespace."""
    return {
        "namespace": namespace.name,
        "namespace_old": old_name or namespace.name,
        "display_name": namespace.display_name,
        "description": namespace.description,
        "visibility": namespace.visibility,
        "protected": namespace.protected,
        "owner": namespace.owner,
        "created_at": namespace.created_at.strftime(TIME),
        "updated_at": namespace.updated_at.strftime(TIME),
        "deleted": deleted,
        "deleted_at": utcnow().strftime(TIME) if deleted else None,
    }


def definition_event(
    namespace: str, name: str, values: Definition, *, old_name: str | None = None, deleted: bool = False
) -> dict[str, Any]:
    """Return what is told to listeners of a definition."""
    told = dict(values)
    if "properties" in told:
        told["properties"] = [{"name": key, **each} for key, each in told["properties"].items()]
    return {
        **told,
        "namespace": namespace,
        "name": name,
        "name_old": old_name or name,
        "deleted": deleted,
        "deleted_at": utcnow().strftime(TIME) if deleted else None,
    }
