"""The operations of metadata definitions; ``routes.ROUTES`` has them."""

from __future__ import annotations

from glancelike.api.metadef_definitions import (
    MetadefAssociations,
    MetadefObjects,
    MetadefProperties,
    MetadefTags,
)
from glancelike.api.metadef_namespaces import MetadefNamespaces, MetadefResourceTypes
from glancelike.api.metadef_schemas import MetadefSchemas
from glancelike.web.routes import Route

SCHEMAS = "/v2/schemas/metadefs"
NAMESPACES = "/v2/metadefs/namespaces"
NAMESPACE = f"{NAMESPACES}/{{namespace}}"
ASSOCIATIONS = f"{NAMESPACE}/resource_types"
PROPERTIES = f"{NAMESPACE}/properties"
PROPERTY = f"{PROPERTIES}/{{name}}"
OBJECTS = f"{NAMESPACE}/objects"
OBJECT = f"{OBJECTS}/{{name}}"
TAGS = f"{NAMESPACE}/tags"
TAG = f"{TAGS}/{{name}}"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/v2/metadefs/resource_types", MetadefResourceTypes, "list", "list_metadef_resource_types"),
    Route("GET", NAMESPACES, MetadefNamespaces, "list", "get_metadef_namespaces"),
    Route("POST", NAMESPACES, MetadefNamespaces, "create", "add_metadef_namespace"),
    Route("GET", NAMESPACE, MetadefNamespaces, "show", "get_metadef_namespace"),
    Route("PUT", NAMESPACE, MetadefNamespaces, "update", "modify_metadef_namespace"),
    Route("DELETE", NAMESPACE, MetadefNamespaces, "delete", "delete_metadef_namespace"),
    Route("GET", ASSOCIATIONS, MetadefAssociations, "list", "list_metadef_resource_types"),
    Route("POST", ASSOCIATIONS, MetadefAssociations, "create", "add_metadef_resource_type_association"),
    Route(
        "DELETE",
        f"{ASSOCIATIONS}/{{name}}",
        MetadefAssociations,
        "delete",
        "remove_metadef_resource_type_association",
    ),
    Route("GET", PROPERTIES, MetadefProperties, "list", "get_metadef_properties"),
    Route("POST", PROPERTIES, MetadefProperties, "create", "add_metadef_property"),
    Route("DELETE", PROPERTIES, MetadefProperties, "clear", "delete_metadef_namespace"),
    Route("GET", PROPERTY, MetadefProperties, "show", "get_metadef_property"),
    Route("PUT", PROPERTY, MetadefProperties, "update", "modify_metadef_property"),
    Route("DELETE", PROPERTY, MetadefProperties, "delete", "remove_metadef_property"),
    Route("GET", OBJECTS, MetadefObjects, "list", "get_metadef_objects"),
    Route("POST", OBJECTS, MetadefObjects, "create", "add_metadef_object"),
    Route("DELETE", OBJECTS, MetadefObjects, "clear", "delete_metadef_namespace"),
    Route("GET", OBJECT, MetadefObjects, "show", "get_metadef_object"),
    Route("PUT", OBJECT, MetadefObjects, "update", "modify_metadef_object"),
    Route("DELETE", OBJECT, MetadefObjects, "delete", "delete_metadef_object"),
    Route("GET", TAGS, MetadefTags, "list", "get_metadef_tags"),
    Route("POST", TAGS, MetadefTags, "create_several", "add_metadef_tags"),
    Route("DELETE", TAGS, MetadefTags, "clear", "delete_metadef_tags"),
    Route("GET", TAG, MetadefTags, "show", "get_metadef_tag"),
    Route("POST", TAG, MetadefTags, "add", "add_metadef_tag"),
    Route("PUT", TAG, MetadefTags, "update", "modify_metadef_tag"),
    Route("DELETE", TAG, MetadefTags, "delete", "delete_metadef_tag"),
    Route("GET", f"{SCHEMAS}/namespace", MetadefSchemas, "namespace"),
    Route("GET", f"{SCHEMAS}/namespaces", MetadefSchemas, "namespaces"),
    Route("GET", f"{SCHEMAS}/resource_type", MetadefSchemas, "resource_type"),
    Route("GET", f"{SCHEMAS}/resource_types", MetadefSchemas, "resource_types"),
    Route("GET", f"{SCHEMAS}/property", MetadefSchemas, "property"),
    Route("GET", f"{SCHEMAS}/properties", MetadefSchemas, "properties"),
    Route("GET", f"{SCHEMAS}/object", MetadefSchemas, "object"),
    Route("GET", f"{SCHEMAS}/objects", MetadefSchemas, "objects"),
    Route("GET", f"{SCHEMAS}/tag", MetadefSchemas, "tag"),
    Route("GET", f"{SCHEMAS}/tags", MetadefSchemas, "tags"),
)
