"""The two media types of ``PATCH /v2/images/{image_id}`` as Changes."""

from __future__ import annotations

import re
from typing import Any

from glancelike.errors import InvalidInput
from glancelike.model import Change, ChangeOp

V21 = "application/openstack-images-v2.1-json-patch"
V20 = "application/openstack-images-v2.0-json-patch"


def parse_patch(media_type: str, body: Any) -> list[Change]:
    """Turn a patch document into Changes; raise InvalidInput naming the fault."""
    if not isinstance(body, list):
        raise InvalidInput("Request body must be a JSON array of operation objects.")
    return [_change(media_type, each) for each in body]


def _change(media_type: str, operation: Any) -> Change:
    if not isinstance(operation, dict):
        raise InvalidInput("Operations must be JSON objects.")
    op, path = _op_and_path_v20(operation) if media_type == V20 else _op_and_path(operation)
    if op is not ChangeOp.REMOVE and "value" not in operation:
        raise InvalidInput(f"Operation '{op}' requires a member named 'value'.")
    only_new = op is ChangeOp.ADD and media_type == V20
    return Change(op, _pointer(path), operation.get("value"), only_new)


def _op_and_path(operation: dict[str, Any]) -> tuple[ChangeOp, Any]:
    """``{"op": "add", "path": "/name", "value": …}``"""
    for member in ("op", "path"):
        if member not in operation:
            raise InvalidInput(f"Unable to find '{member}' in JSON Schema change")
    try:
        return ChangeOp(operation["op"]), operation["path"]
    except ValueError:
        raise InvalidInput(
            f"Invalid operation: '{operation['op']}'. It must be one of: {', '.join(ChangeOp)}."
        ) from None


def _op_and_path_v20(operation: dict[str, Any]) -> tuple[ChangeOp, Any]:
    """``{"add": "/name", "value": …}``"""
    found = [op for op in ChangeOp if op in operation]
    if len(found) != 1:
        raise InvalidInput(
            "Operation objects must contain exactly one member named 'add', 'remove' or 'replace'."
        )
    return found[0], operation[found[0]]


def _pointer(path: Any) -> tuple[str, ...]:
    """Decode a JSON pointer (RFC 6901)."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise InvalidInput(f'Pointer `{path}` does not start with "/".')
    if path == "/" or path.endswith("/") or "//" in path:
        raise InvalidInput(f"Pointer `{path}` contains an empty part.")
    if re.search(r"~(?![01])", path):
        raise InvalidInput(f'Pointer `{path}` contains "~" not part of a recognized escape sequence.')
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/"))
