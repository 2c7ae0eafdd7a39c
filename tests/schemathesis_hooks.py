"""What schemathesis is told in its own process: media types, and ids that exist.

``KNOWN_IDS`` names a JSON file that maps names of path parameters to values
that exist. Half of the requests ask for one of these: each operation for
its own, so that a DELETE takes nothing from the others.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import schemathesis

KNOWN: dict[str, list[str]] = json.loads(Path(os.environ["KNOWN_IDS"]).read_text())


@schemathesis.serializer(
    "application/openstack-images-v2.1-json-patch", "application/openstack-images-v2.0-json-patch"
)
def json_patch(ctx: Any, value: Any) -> bytes:
    return json.dumps(value).encode()


@schemathesis.serializer("application/offset+octet-stream")
def piece(ctx: Any, value: Any) -> bytes:
    data = getattr(value, "data", value)
    return data if isinstance(data, bytes) else json.dumps(data).encode()


@schemathesis.hook
def map_path_parameters(ctx: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    if not path_parameters:
        return path_parameters
    label = ctx.operation.label.encode()
    chance = zlib.crc32(repr(sorted(path_parameters.items())).encode(errors="replace"))
    if chance % 2:
        return path_parameters
    return {
        name: KNOWN[name][zlib.crc32(label, chance % 4) % len(KNOWN[name])] if name in KNOWN else value
        for name, value in path_parameters.items()
    }
