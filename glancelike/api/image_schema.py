"""The JSON schema of an image, as published and as checked."""

from __future__ import annotations

from typing import Any

from glancelike.model import Status, Visibility
from glancelike.service import Settings

UUID = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"
INT_MAX = 2**31 - 1

LOCATION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "maxLength": 255},
        "metadata": {"type": "object"},
        "validation_data": {
            "type": "object",
            "writeOnly": True,
            "description": "What the data's digests are, for an image that has none yet",
            "additionalProperties": False,
            "properties": {
                "checksum": {"type": "string", "minLength": 32, "maxLength": 32},
                "os_hash_algo": {"type": "string", "maxLength": 64},
                "os_hash_value": {"type": "string", "maxLength": 128},
            },
            "required": ["os_hash_algo", "os_hash_value"],
        },
    },
    "required": ["url", "metadata"],
}


def _text(description: str, *, null: bool = False, **more: Any) -> dict[str, Any]:
    kind: str | list[str] = ["null", "string"] if null else "string"
    return {"type": kind, "description": description, "is_base": True, **more}


def _read_only(kind: str | list[str], description: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "readOnly": True, "description": description, "is_base": True, **more}


def _formats(names: tuple[str, ...], what: str) -> dict[str, Any]:
    return _text(f"Format of the {what}", null=True, enum=[None, *names])


def image_schema(settings: Settings) -> dict[str, Any]:
    """Return the schema for the formats that ``settings`` allow."""
    null_text = ["null", "string"]
    properties: dict[str, Any] = {
        "id": _text("An identifier for the image", pattern=UUID),
        "name": _text("Descriptive name for the image", null=True, maxLength=255),
        "status": _read_only("string", "Status of the image", enum=list(Status)),
        "visibility": _text("Scope of image accessibility", enum=list(Visibility)),
        "protected": {
            "type": "boolean",
            "description": "If true, image will not be deletable.",
            "is_base": True,
        },
        "os_hidden": {
            "type": "boolean",
            "description": "If true, image will not appear in default image list response.",
            "is_base": True,
        },
        "checksum": _read_only(null_text, "MD5 of the image contents, where computed.", maxLength=32),
        "os_hash_algo": _read_only(null_text, "Algorithm of os_hash_value", maxLength=64),
        "os_hash_value": _read_only(null_text, "Hexadecimal digest of the image contents", maxLength=128),
        "owner": _text("Owner of the image", null=True, maxLength=255),
        "size": _read_only(["null", "integer"], "Size of image file in bytes"),
        "virtual_size": _read_only(["null", "integer"], "Virtual size of image in bytes"),
        "container_format": _formats(settings.container_formats, "container"),
        "disk_format": _formats(settings.disk_formats, "disk"),
        "created_at": _read_only("string", "Date and time of image registration"),
        "updated_at": _read_only("string", "Date and time of the last image modification"),
        "tags": {
            "type": "array",
            "description": "List of strings related to the image",
            "items": {"type": "string", "maxLength": 255},
            "is_base": True,
        },
        "self": _read_only("string", "An image self url"),
        "file": _read_only("string", "An image file url"),
        "schema": _read_only("string", "An image schema url"),
        "stores": _read_only("string", "Stores that hold the image's data, separated by commas"),
        "direct_url": _read_only("string", "URL of the image's data in its first store"),
        "locations": {
            "type": "array",
            "description": "URLs of the image's data",
            "items": LOCATION,
            "is_base": True,
        },
        "min_ram": _amount("Amount of ram (in MB) required to boot image."),
        "min_disk": _amount("Amount of disk space (in GB) required to boot image."),
    }
    for name, schema in settings.custom_schema.properties.items():
        properties[name] = {**schema, "is_base": False}
    names = list(settings.custom_schema.required)
    required = {"required": names} if names else {}
    return {
        "name": "image",
        "type": "object",
        "properties": properties,
        **required,
        "additionalProperties": {"type": "string"},
        "links": [
            {"rel": "self", "href": "{self}"},
            {"rel": "enclosure", "href": "{file}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    }


def _amount(description: str) -> dict[str, Any]:
    return {
        "type": "integer",
        "minimum": 0,
        "maximum": INT_MAX,
        "description": description,
        "is_base": True,
    }
