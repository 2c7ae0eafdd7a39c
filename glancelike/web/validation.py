"""JSON schemas: what a body must look like.

jsonschema is loaded with the first body, since many servers and all commands see none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a value doesn't match its schema (``['a'][0]``), and why."""

    where: str
    message: str


class Schema:
    """A schema, compiled once; ``links`` is for readers and isn't checked."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = dict(document)

    @cached_property
    def _validator(self) -> Any:
        from jsonschema import Draft202012Validator

        return Draft202012Validator({key: self.document[key] for key in self.document if key != "links"})

    def fault(self, value: Any) -> Fault | None:
        """Return the fault that matters most, None when the value is fine."""
        from jsonschema.exceptions import best_match

        error = best_match(self._validator.iter_errors(value))
        if error is None:
            return None
        return Fault("".join(f"[{step!r}]" for step in error.absolute_path), error.message)


def broken(document: Any) -> str | None:
    """Return what makes a document no JSON schema, None when it is one."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    if not isinstance(document, dict):
        return f"expected an object, not {document!r}"
    try:
        Draft202012Validator.check_schema(document)
    except SchemaError as error:
        return str(error.message)
    return None
