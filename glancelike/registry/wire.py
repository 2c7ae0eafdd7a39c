"""What goes between a remote registry and its server: values, errors, the protocol's version.

Values are the frozen ones of ``glancelike.model``, as MessagePack. What that
can't carry goes as JSON: a lone surrogate, or a number beyond 64 bits, which
a backend may want to refuse in its own words. Fields that a peer doesn't
know are passed over; those it leaves out have their defaults.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec

from glancelike import errors
from glancelike.errors import GlancelikeError, InvalidInput, RegistryError, SchemaNewer, SchemaOutdated

# Raised by what a peer of the release before can't pass over without harm.
PROTOCOL = 1
PROTOCOL_HEADER = "Registry-Protocol"
ROOT = "/v1"  # of all paths; its own answer is a Hello

MSGPACK = "application/vnd.msgpack"
JSON = "application/json"
FAILED = "Registry-Failure"  # a header of answers that hold a Failure
LARGEST_REQUEST = 16 << 20  # bytes: some images' worth of the longest properties
LARGEST_ANSWER = 256 << 20


class Hello(msgspec.Struct, frozen=True):
    """What a server says of itself."""

    protocol: int
    calls: tuple[str, ...] = ()


class Failure(msgspec.Struct, frozen=True):
    """An error: the codes of its class and that one's bases, the nearest first."""

    codes: tuple[str, ...]
    message: str = ""
    fields: dict[str, Any] = {}


def check_protocol(theirs: int, where: str) -> None:
    """Raise SchemaOutdated or SchemaNewer for a server that is too far from this code."""
    told = f"{where} speaks protocol {theirs}, this code {PROTOCOL}"
    if theirs < PROTOCOL - 1:
        raise SchemaOutdated(f"{told}: upgrade the registry server")
    if theirs > PROTOCOL + 1:
        raise SchemaNewer(f"{told}: upgrade this host")


def encode(value: Any) -> tuple[str, bytes]:
    """Return the media type and the bytes; raise InvalidInput for what no wire carries."""
    try:
        try:
            return MSGPACK, _ENCODER.encode(value)
        except (UnicodeEncodeError, OverflowError):
            return JSON, json.dumps(msgspec.to_builtins(value, builtin_types=(bytes,))).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"this can't be kept in a registry: {error}") from None


def decode(media_type: str, raw: bytes, kind: Any) -> Any:
    """Return the value.

    Raises msgspec.ValidationError naming what isn't of its type, ValueError
    for bytes that are no value at all.
    """
    try:
        if media_type == JSON:
            return msgspec.convert(json.loads(raw), kind)
        return _decoder(kind).decode(raw)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def failure_of(error: GlancelikeError) -> Failure:
    """Return the error as it is sent."""
    codes = [cls.code for cls in type(error).__mro__ if issubclass(cls, GlancelikeError)]
    message = str(error.args[0]) if error.args else ""
    fields = {name: value for name, value in vars(error).items() if isinstance(value, str | int | None)}
    return Failure(tuple(dict.fromkeys(codes)), message.encode(errors="backslashreplace").decode(), fields)


def error_of(failure: Failure) -> GlancelikeError:
    """Return the error, of the nearest class that is known here."""
    kind = next((KINDS[code] for code in failure.codes if code in KINDS), RegistryError)
    error = kind(failure.message)
    for name, value in failure.fields.items():
        if name in vars(error):
            setattr(error, name, value)
    return error


def _tree(kind: type[GlancelikeError]) -> dict[str, type[GlancelikeError]]:
    found = {kind.code: kind}
    for each in kind.__subclasses__():
        # A plugin's own classes have their base's code, or one that only its host knows.
        if each.__module__ == errors.__name__:
            found |= _tree(each)
    return found


KINDS = _tree(GlancelikeError)


def _odd(value: object) -> bytes:
    """Send bytes for what no document may hold: whoever keeps documents refuses them, too."""
    return repr(value).encode()


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_odd)


@cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)
