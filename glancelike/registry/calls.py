"""The registry contract as a table of calls, read from the contract itself.

What a remote registry is asked and what ``glancelike-registry`` answers:
each abstract method of ``Registry``, and its ``schema_version``. What opens,
closes and upgrades a registry is the business of whoever runs it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from glancelike.registry.base import Registry


@dataclass(frozen=True, slots=True)
class Call:
    """A method as it goes over the wire: its arguments by name, and its result.

    ``reads`` tells whether it changes nothing, so that it may be asked again.
    """

    name: str
    signature: inspect.Signature
    arguments: type[msgspec.Struct]
    result: Any
    reads: bool

    def bind(self, positional: tuple[Any, ...], named: Mapping[str, Any]) -> msgspec.Struct:
        """Return the arguments as one value; raise TypeError as the method would."""
        given = self.signature.bind(*positional, **named).arguments
        for name, parameter in self.signature.parameters.items():
            if name in given and get_origin(parameter.annotation) is Iterable:
                given[name] = tuple(given[name])
        return self.arguments(**given)

    def carry_out(self, registry: Registry, arguments: msgspec.Struct) -> Any:
        """Call the method; what stands by position is given so, however a backend names it."""
        named = {name: getattr(arguments, name) for name in self.signature.parameters}
        bound = self.signature.bind(**named)
        return getattr(registry, self.name)(*bound.args, **bound.kwargs)


def _call(name: str) -> Call:
    method = getattr(Registry, name)
    types = get_type_hints(method)
    parameters = [
        parameter.replace(annotation=types[parameter.name])
        for parameter in list(inspect.signature(method).parameters.values())[1:]
    ]
    fields: list[Any] = []
    for each in parameters:
        kind = each.annotation
        if get_origin(kind) is Iterable:
            kind = tuple.__class_getitem__((*get_args(kind), ...))
        default = () if each.default is each.empty else (each.default,)
        fields.append((each.name, kind, *default))
    return Call(
        name,
        inspect.Signature(parameters),
        msgspec.defstruct(name, fields, kw_only=True, frozen=True),
        types["return"],
        getattr(method, "reads", False),
    )


CALLS: Mapping[str, Call] = MappingProxyType(
    {name: _call(name) for name in sorted({*Registry.__abstractmethods__, "schema_version"})}
)
