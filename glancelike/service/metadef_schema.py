"""What a metadata definition must look like: the published schemas, and the check.

Field names and limits as in the Metadata Definitions API,
https://docs.openstack.org/api-ref/image/v2/metadefs-index.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from glancelike.errors import InvalidInput, ReadOnlyProperty
from glancelike.registry.values import LENGTHS

READ_ONLY = ("self", "schema", "created_at", "updated_at")
TYPES = ["array", "boolean", "integer", "number", "object", "string"]
LONGEST_NAME = LENGTHS["namespace"]
SEGMENT = "^[^/]*$"  # a name is a segment of a URL: with a slash nothing could reach it

Document = dict[str, Any]


def _text(description: str, longest: int | None = None, **more: Any) -> Document:
    limit = {} if longest is None else {"maxLength": longest}
    return {"type": "string", "description": description, **limit, **more}


def _name(description: str) -> Document:
    return _text(description, LONGEST_NAME, minLength=1, pattern=SEGMENT)


def _kept(description: str, **more: Any) -> Document:
    return {"type": "string", "readOnly": True, "description": description, **more}


def _times(noun: str) -> Document:
    return {
        "created_at": _kept(f"When the {noun} was made", format="date-time"),
        "updated_at": _kept(f"When the {noun} last changed", format="date-time"),
    }


def _generated(noun: str) -> Document:
    return {
        "self": _kept(f"URL of the {noun}"),
        "schema": _kept(f"URL of the schema of a {noun}"),
        **_times(noun),
    }


_COUNT = {"$ref": "#/definitions/positiveInteger"}
_COUNT_FROM_0 = {"$ref": "#/definitions/positiveIntegerDefault0"}
_TEXTS = {"$ref": "#/definitions/stringArray"}
_PROPERTIES = {"$ref": "#/definitions/property"}

PROPERTY_FIELDS: Document = {
    "name": _name("Name of the property"),
    "title": _text("What a user interface calls the property"),
    "description": _text("What the property is for"),
    "type": _text("Type of the value", enum=TYPES),
    "operators": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Operators that a value may begin with",
    },
    "required": _TEXTS,
    "default": {"description": "The value where none is given"},
    "readonly": {"type": "boolean", "description": "If true, users aren't to change the value"},
    "minimum": {"type": "number", "description": "Least value of a number"},
    "maximum": {"type": "number", "description": "Greatest value of a number"},
    "enum": {"type": "array", "description": "All values there are"},
    "pattern": _text("Regular expression that a string matches", format="regex"),
    "minLength": _COUNT_FROM_0,
    "maxLength": _COUNT,
    "items": {
        "type": "object",
        "description": "What the items of an array are",
        "properties": {"type": {"type": "string", "enum": TYPES}, "enum": {"type": "array"}},
    },
    "uniqueItems": {"type": "boolean", "default": False},
    "minItems": _COUNT_FROM_0,
    "maxItems": _COUNT,
    "additionalItems": {"type": "boolean"},
}
_BASICS: Document = {
    "positiveInteger": {"type": "integer", "minimum": 0},
    "positiveIntegerDefault0": {"allOf": [{"$ref": "#/definitions/positiveInteger"}, {"default": 0}]},
    "stringArray": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
}
DEFINITIONS: Document = {
    **_BASICS,
    "property": {
        "type": "object",
        "propertyNames": PROPERTY_FIELDS["name"],
        "additionalProperties": {
            "type": "object",
            "properties": PROPERTY_FIELDS,
            "required": ["title", "type"],
            "additionalProperties": False,
        },
    },
}
OBJECT_FIELDS: Document = {
    "name": _name("Name of the object"),
    "description": _text("What the object is for"),
    "required": _TEXTS,
    "properties": _PROPERTIES,
    **_generated("object"),
}
TAG_FIELDS: Document = {"name": _name("The tag"), **_times("tag")}
RESOURCE_TYPE_FIELDS: Document = {
    "name": _name("Name of the resource type, as Heat calls it where it knows it"),
    "prefix": _text(
        "What the names of the namespace's properties begin with on this resource type, "
        "with the separator, such as hw_",
        LONGEST_NAME,
        pattern=SEGMENT,
    ),
    "properties_target": _text(
        "Which of several sets of properties of the resource is meant, such as a volume's image properties",
        LONGEST_NAME,
    ),
    **_times("association"),
}


def _document(name: str, fields: Document, required: list[str], **more: Any) -> Document:
    return {
        "name": name,
        "type": "object",
        "properties": fields,
        "required": required,
        "additionalProperties": False,
        **more,
    }


def _items(document: Document) -> Document:
    return {
        "type": "array",
        "items": {key: value for key, value in document.items() if key not in ("name", "definitions")},
    }


PROPERTY = _document("property", PROPERTY_FIELDS, ["name", "title", "type"], definitions=_BASICS)
OBJECT = _document("object", OBJECT_FIELDS, ["name"], definitions=DEFINITIONS)
TAG = _document("tag", TAG_FIELDS, ["name"])
TAGS = _document("tags", {"tags": _items(TAG)}, ["tags"])
RESOURCE_TYPE = _document("resource_type_association", RESOURCE_TYPE_FIELDS, ["name"])
NAMESPACE = _document(
    "namespace",
    {
        "namespace": _name("Name of the namespace, that no other has"),
        "display_name": _text("What a user interface calls the namespace", LENGTHS["display_name"]),
        "description": _text("What the namespace is for", LENGTHS["description"]),
        "visibility": _text("Who sees the namespace", enum=["public", "private"]),
        "protected": {"type": "boolean", "description": "If true, nothing of the namespace can be deleted"},
        "owner": _text("Project that the namespace belongs to", LENGTHS["owner"]),
        **_generated("namespace"),
        "resource_type_associations": _items(RESOURCE_TYPE),
        "properties": _PROPERTIES,
        "objects": _items(OBJECT),
        "tags": _items(TAG),
    },
    ["namespace"],
    definitions=DEFINITIONS,
)


def check(document: Document, value: Any, *, read_only: Iterable[str] = ()) -> Mapping[str, Any]:
    """Return the value if it matches the schema.

    Raises ReadOnlyProperty for fields that only the service sets, else
    InvalidInput.
    """
    if isinstance(value, Mapping):
        for name in read_only:
            if name in value:
                raise ReadOnlyProperty(f"Attribute '{name}' is read-only.")
    fault = _compiled(document["name"]).fault(value)
    if fault is not None:
        where = f" (at {fault.where})" if fault.where else ""
        raise InvalidInput(
            f"Provided object does not match schema '{document['name']}': {fault.message}{where}"
        )
    checked: Mapping[str, Any] = value
    return checked


@cache
def _compiled(name: str) -> Any:
    from glancelike.web.validation import Schema

    (document,) = (
        each for each in (PROPERTY, OBJECT, TAG, TAGS, RESOURCE_TYPE, NAMESPACE) if each["name"] == name
    )
    return Schema(document)
