"""Checking bodies by schema, worded as image clients know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glancelike.errors import InvalidInput
from glancelike.web import validation


class Schema(validation.Schema):
    """A schema with the name that errors tell."""

    def __init__(self, name: str, document: Mapping[str, Any]) -> None:
        super().__init__(document)
        self.name = name

    def validate(self, value: Any) -> None:
        """Raise InvalidInput unless the value matches."""
        fault = self.fault(value)
        if fault is not None:
            where = f" (at {fault.where})" if fault.where else ""
            raise InvalidInput(f"Provided object does not match schema '{self.name}': {fault.message}{where}")
