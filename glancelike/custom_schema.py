"""The operator's own description of custom image properties.

The file is Glance's ``schema-image.json``: property names and their JSON
schemas, either as they are or as ``properties`` beside a list ``required``
of those that each new image must have.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glancelike.errors import ConfigError
from glancelike.web.validation import broken

OPTION = "image_schema_file"


@dataclass(frozen=True, slots=True)
class CustomSchema:
    """Schemas of custom properties by their names; ``required`` are some of these."""

    properties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    required: tuple[str, ...] = ()


def load(path: Path, taken: Collection[str]) -> CustomSchema:
    """Read the file; raise ConfigError naming it and what is wrong.

    ``taken`` are the names of base properties, which can't be described anew.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{OPTION}: {path} is no readable JSON file: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{OPTION}: {path} holds no JSON object")
    properties: Any = document
    required: Any = []
    if isinstance(document.get("properties"), dict):
        properties, required = document["properties"], document.get("required") or []
    for name, schema in properties.items():
        if name in taken or name.startswith("os_glance"):
            raise ConfigError(f"{OPTION}: {path}: {name} is a property of every image already")
        fault = broken(schema)
        if fault is not None:
            raise ConfigError(f"{OPTION}: {path}: {name} is no JSON schema: {fault}")
    if not (isinstance(required, list) and all(isinstance(name, str) for name in required)):
        raise ConfigError(f"{OPTION}: {path}: required is no list of names")
    undescribed = sorted(set(required) - set(properties))
    if undescribed:
        raise ConfigError(f"{OPTION}: {path}: {undescribed[0]} is required, but not described")
    return CustomSchema(properties, tuple(required))
