"""JSON schemas: what a body must look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a value doesn't match its schema (``['a'][0]``), and why."""

    where: str
    message: str


class Schema:
    """A schema, compiled once; ``links`` is for readers and isn't checked."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = dict(document)
        self._validator = Draft202012Validator({key: document[key] for key in document if key != "links"})

    def fault(self, value: Any) -> Fault | None:
        """Return the fault that matters most, None when the value is fine."""
        error = best_match(self._validator.iter_errors(value))
        if error is None:
            return None
        return Fault("".join(f"[{step!r}]" for step in error.absolute_path), error.message)


def broken(document: Any) -> str | None:
    """Return what makes a document no JSON schema, None when it is one."""
    if not isinstance(document, dict):
        return f"expected an object, not {document!r}"
    try:
        Draft202012Validator.check_schema(document)
    except SchemaError as error:
        return str(error.message)
    return None
