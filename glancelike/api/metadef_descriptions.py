"""What each operation on metadata definitions takes and answers."""

from __future__ import annotations

from collections.abc import Mapping

from glancelike.api.operation import ANY, JSON, NUMBER, SORT_DIR, TEXT, Json, Operation, listing, told

PAGE: Mapping[str, Json] = {"limit": NUMBER, "marker": TEXT, "sort_key": TEXT, "sort_dir": SORT_DIR}
RESOURCE_TYPE: Mapping[str, Json] = {
    "resource_type": {"type": "string", "description": "Take the prefix for this resource type into account"}
}


def _by_name(name: str) -> Json:
    return {
        "type": "object",
        "properties": {name: {"type": "object", "additionalProperties": ANY}},
        "required": [name],
    }


def _kind(resource: str, one: str, schema: str, new: str) -> dict[str, Operation]:
    """Describe what all kinds of definitions have."""
    return {
        f"{resource}.create": told(f"Add {one}", {201: schema}, 409, body={JSON: new}),
        f"{resource}.show": told(f"Show {one}", {200: schema}),
        f"{resource}.update": told(f"Replace {one}", {200: schema}, 409, body={JSON: new}),
        f"{resource}.delete": told(f"Delete {one}", {204: None}, 409),
    }


DESCRIPTIONS: Mapping[str, Operation] = {
    "MetadefResourceTypes.list": told(
        "List all resource types", {200: listing("resource_types", ANY, paged=False)}
    ),
    "MetadefNamespaces.list": told(
        "List namespaces",
        {200: listing("namespaces", "Namespace")},
        404,
        query={
            **PAGE,
            "visibility": {"type": "string", "enum": ["public", "private"]},
            "resource_types": TEXT,
        },
    ),
    "MetadefNamespaces.create": told(
        "Create a namespace",
        {201: "Namespace"},
        409,
        body={JSON: "NewNamespace"},
        answer_headers={"Location": "URL of the namespace"},
    ),
    "MetadefNamespaces.show": told("Show a namespace", {200: "Namespace"}, query=RESOURCE_TYPE),
    "MetadefNamespaces.update": told(
        "Replace a namespace", {200: "Namespace"}, 409, body={JSON: "NewNamespace"}
    ),
    "MetadefNamespaces.delete": told("Delete a namespace", {204: None}, 409),
    **_kind("MetadefProperties", "a property", "Property", "NewProperty"),
    "MetadefProperties.list": told("List properties", {200: _by_name("properties")}),
    "MetadefProperties.show": told("Show a property", {200: "Property"}, query=RESOURCE_TYPE),
    "MetadefProperties.clear": told("Delete all properties", {204: None}, 409),
    **_kind("MetadefObjects", "an object", "Object", "NewObject"),
    "MetadefObjects.list": told("List objects", {200: listing("objects", "Object")}, query=PAGE),
    "MetadefObjects.clear": told("Delete all objects", {204: None}, 409),
    **{
        name: operation
        for name, operation in _kind("MetadefTags", "a tag", "Tag", "NewTag").items()
        if name != "MetadefTags.create"
    },
    "MetadefTags.list": told("List tags", {200: listing("tags", "Tag")}, query=PAGE),
    "MetadefTags.create_several": told(
        "Replace all tags, or add some",
        {201: listing("tags", "Tag", paged=False)},
        409,
        headers={"X-Openstack-Append": {"type": "string", "enum": ["true", "false"]}},
        body={JSON: listing("tags", "NewTag", paged=False)},
    ),
    "MetadefTags.add": told("Add a tag", {201: "Tag"}, 409),
    "MetadefTags.clear": told("Delete all tags", {204: None}, 409),
    "MetadefAssociations.list": told(
        "List the resource types of a namespace",
        {200: listing("resource_type_associations", "ResourceTypeAssociation", paged=False)},
    ),
    "MetadefAssociations.create": told(
        "Associate a resource type",
        {201: "ResourceTypeAssociation"},
        409,
        body={JSON: "NewResourceTypeAssociation"},
    ),
    "MetadefAssociations.delete": told("Dissociate a resource type", {204: None}, 409),
    **{
        f"MetadefSchemas.{name}": told(f"Show the schema of {name.replace('_', ' ')}", {200: ANY})
        for name in (
            *("namespace", "namespaces", "resource_type", "resource_types", "property", "properties"),
            *("object", "objects", "tag", "tags"),
        )
    },
}
