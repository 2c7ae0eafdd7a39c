"""The JSON schema of a task."""

from __future__ import annotations

from typing import Any

from glancelike.api.image_schema import UUID
from glancelike.model import TaskStatus, TaskType


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


STUB: dict[str, Any] = {
    "id": _text("An identifier for the task", pattern=UUID),
    "type": _text("What kind of work the task is", enum=list(TaskType)),
    "status": _text("How far the task is", enum=list(TaskStatus)),
    "owner": _text("Project that the task belongs to", type=["null", "string"]),
    "expires_at": _text("When the finished task may be removed", type=["null", "string"]),
    "created_at": _text("When the task was made"),
    "updated_at": _text("When the task last changed"),
    "self": {"type": "string", "readOnly": True},
    "schema": {"type": "string", "readOnly": True},
}
TASK: dict[str, Any] = {
    "name": "task",
    "type": "object",
    "properties": {
        **STUB,
        "input": {"type": ["null", "object"], "description": "What the task was asked to do"},
        "result": {"type": ["null", "object"], "description": "What came of it"},
        "message": _text("Why the task failed"),
        "image_id": _text("The image that the task works on"),
        "request_id": _text("The request that made the task"),
        "user_id": _text("The user who made the task"),
    },
}
TASKS_ITEM: dict[str, Any] = {"name": "task", "type": "object", "properties": STUB}
NEW_TASK: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": ["import"]},
        "input": {
            "type": "object",
            "properties": {
                "import_from": {"type": "string"},
                "import_from_format": {"type": "string"},
                "image_properties": {"type": "object"},
            },
            "required": ["import_from", "import_from_format", "image_properties"],
        },
    },
    "required": ["type", "input"],
}
