"""Rules of metadata definitions: everybody reads, administrators write."""

from __future__ import annotations

from glancelike.policy.base import ADMIN, ADMIN_OR_READER, PUBLIC, Rule, rule
from glancelike.rules import alias

NAMESPACES = "/v2/metadefs/namespaces"
NAMESPACE = f"{NAMESPACES}/{{namespace}}"
WRITE = "rule:metadef_admin"
READ = f"{ADMIN} or (role:reader and (project_id:%(project_id)s or {PUBLIC}))"


def _items(noun: str, plural: str, removing: str = "delete") -> tuple[Rule, ...]:
    """Describe the rules that objects, properties and tags have alike."""
    items = f"{NAMESPACE}/{plural}"
    item = f"{items}/{{name}}"
    return (
        rule(f"get_metadef_{noun}", READ, f"Show one of a namespace's {plural}", f"GET {item}"),
        rule(f"get_metadef_{plural}", READ, f"List a namespace's {plural}", f"GET {items}"),
        rule(f"modify_metadef_{noun}", WRITE, f"Change one of a namespace's {plural}", f"PUT {item}"),
        rule(
            f"add_metadef_{noun}",
            WRITE,
            f"Add one to a namespace's {plural}",
            f"POST {item if noun == 'tag' else items}",
        ),
        rule(f"{removing}_metadef_{noun}", WRITE, f"Remove one of a namespace's {plural}", f"DELETE {item}"),
    )


RULES: tuple[Rule, ...] = (
    alias("metadef_default", "", "Asked by nothing here, kept for policy files"),
    alias("metadef_admin", ADMIN, "Write metadata definitions"),
    rule("get_metadef_namespace", READ, "Show a namespace", f"GET {NAMESPACE}"),
    rule("get_metadef_namespaces", ADMIN_OR_READER, "List namespaces", f"GET {NAMESPACES}"),
    rule("modify_metadef_namespace", WRITE, "Change a namespace", f"PUT {NAMESPACE}"),
    rule("add_metadef_namespace", WRITE, "Create a namespace", f"POST {NAMESPACES}"),
    rule("delete_metadef_namespace", WRITE, "Delete a namespace", f"DELETE {NAMESPACE}"),
    *_items("object", "objects"),
    *_items("property", "properties", removing="remove"),
    *_items("tag", "tags"),
    rule("add_metadef_tags", WRITE, "Set all tags of a namespace", f"POST {NAMESPACE}/tags"),
    rule("delete_metadef_tags", WRITE, "Delete all tags of a namespace", f"DELETE {NAMESPACE}/tags"),
    rule(
        "list_metadef_resource_types",
        READ,
        "List the types of resources that definitions are for",
        "GET /v2/metadefs/resource_types",
    ),
    rule(
        "get_metadef_resource_type",
        READ,
        "List the types of resources that a namespace is for",
        f"GET {NAMESPACE}/resource_types",
    ),
    rule(
        "add_metadef_resource_type_association",
        WRITE,
        "Say that a namespace is for a type of resource",
        f"POST {NAMESPACE}/resource_types",
    ),
    rule(
        "remove_metadef_resource_type_association",
        WRITE,
        "Say that a namespace isn't for a type of resource",
        f"DELETE {NAMESPACE}/resource_types/{{name}}",
    ),
)
