"""The JSON schema of an image member."""

from __future__ import annotations

from typing import Any

from glancelike.model import MemberStatus

MEMBER: dict[str, Any] = {
    "name": "member",
    "type": "object",
    "properties": {
        "member_id": {"type": "string", "description": "An identifier for the image member (project)"},
        "image_id": {"type": "string", "description": "An identifier for the image"},
        "created_at": {"type": "string", "description": "Date and time of image member creation"},
        "updated_at": {
            "type": "string",
            "description": "Date and time of last modification of image member",
        },
        "status": {
            "type": "string",
            "description": "The status of this image member",
            "enum": list(MemberStatus),
        },
        "schema": {"readOnly": True, "type": "string"},
    },
}
