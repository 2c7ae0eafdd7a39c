"""The JSON schemas of server requests.

Members that Nova knows and novalite can't do are in no schema, so they are
refused rather than passed over.
"""

from __future__ import annotations

from typing import Any

from glancelike.web.validation import Schema
from novalite.api.compute.booleans import BOOLEAN_OR_NOTHING

NAME: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 255}
METADATA: dict[str, Any] = {
    "type": "object",
    "propertyNames": {"minLength": 1, "maxLength": 255},
    "additionalProperties": {"type": "string", "maxLength": 255},
}
COUNT: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"},
    ]
}
DESCRIPTION: dict[str, Any] = {"type": ["string", "null"], "maxLength": 255}
ADDRESS: dict[str, Any] = {"type": ["string", "null"], "maxLength": 45}
PASSWORD: dict[str, Any] = {"type": "string", "maxLength": 255}
TAGS: dict[str, Any] = {
    "type": "array",
    "maxItems": 50,
    "uniqueItems": True,
    "items": {"type": "string", "minLength": 1, "maxLength": 60, "pattern": "^[^,/]*$"},
}
UUID: dict[str, Any] = {
    "type": "string",
    "pattern": r"^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\Z",
}
_SERVERS: dict[str, Any] = {"anyOf": [UUID, {"type": "array", "items": UUID}]}
# Hooks may know any others. What names a server group is looked at where that is sought.
HINTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "same_host": _SERVERS,
        "different_host": _SERVERS,
        "query": {"type": ["string", "object"]},
    },
}
# Until 2.93 a label of two characters and more; see ``server_body.demand_hostname``.
HOSTNAME: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": r"^[a-zA-Z0-9._-]*\Z",
}
CERTIFICATES: dict[str, Any] = {
    "type": ["array", "null"],
    "minItems": 1,
    "maxItems": 50,
    "uniqueItems": True,
    "items": {"type": "string", "minLength": 1},
}

# One disk: the image itself, copied to the host. Clients send it along.
ROOT_DISK: dict[str, Any] = {
    "type": "array",
    "maxItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "uuid": NAME,
            "source_type": {"const": "image"},
            "destination_type": {"const": "local"},
            "boot_index": {"enum": [0, "0"]},
            "delete_on_termination": {"enum": [True, "True", "true", "1"]},
            "device_type": {"enum": ["disk", None]},
        },
        "required": ["uuid", "source_type", "destination_type", "boot_index"],
        "additionalProperties": False,
    },
}

CREATE = Schema(
    {
        "type": "object",
        "properties": {
            "server": {
                "type": "object",
                "properties": {
                    "name": NAME,
                    "imageRef": {"type": "string", "maxLength": 255},
                    "flavorRef": {"type": ["string", "integer"]},
                    "key_name": {"type": ["string", "null"], "maxLength": 255},
                    "metadata": METADATA,
                    "user_data": {"type": ["string", "null"]},
                    "config_drive": BOOLEAN_OR_NOTHING,
                    "availability_zone": {"type": ["string", "null"], "maxLength": 255},
                    "min_count": COUNT,
                    "max_count": COUNT,
                    "return_reservation_id": BOOLEAN_OR_NOTHING,
                    "block_device_mapping_v2": ROOT_DISK,
                    # There is one network and one security group, the host's own.
                    "networks": {"anyOf": [{"type": "array", "maxItems": 0}, {"enum": ["auto", "none"]}]},
                    "description": DESCRIPTION,
                    "accessIPv4": ADDRESS,
                    "accessIPv6": ADDRESS,
                    "adminPass": PASSWORD,
                    "tags": TAGS,
                    "security_groups": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"name": {"const": "default"}},
                            "additionalProperties": False,
                        },
                    },
                    "OS-DCF:diskConfig": {"enum": ["AUTO", "MANUAL"]},
                    "os:scheduler_hints": HINTS,
                    "trusted_image_certificates": CERTIFICATES,
                    "host": NAME,
                    "hypervisor_hostname": NAME,
                    "hostname": HOSTNAME,
                },
                "required": ["name", "flavorRef"],
                "additionalProperties": False,
            },
            "os:scheduler_hints": HINTS,
            "OS-SCH-HNT:scheduler_hints": HINTS,
        },
        "required": ["server"],
        "additionalProperties": False,
    }
)

UPDATE = Schema(
    {
        "type": "object",
        "properties": {
            "server": {
                "type": "object",
                "properties": {
                    "name": NAME,
                    "description": DESCRIPTION,
                    "accessIPv4": ADDRESS,
                    "accessIPv6": ADDRESS,
                    "OS-DCF:diskConfig": {"enum": ["AUTO", "MANUAL"]},
                    "hostname": HOSTNAME,
                    "pinned_availability_zone": {**NAME, "type": ["string", "null"]},
                },
                "additionalProperties": False,
            }
        },
        "required": ["server"],
        "additionalProperties": False,
    }
)
