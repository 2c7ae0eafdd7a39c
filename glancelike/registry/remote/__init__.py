"""``registry = remote``: the registry is a glancelike-registry somewhere else."""

from __future__ import annotations

import functools
from abc import update_abstractmethods
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from oslo_config import cfg

from glancelike.errors import RegistryError, RegistryUnavailable
from glancelike.registry import wire
from glancelike.registry.base import Registry
from glancelike.registry.calls import CALLS, Call
from glancelike.registry.remote.link import Link
from glancelike.registry.secret import OPTIONS as SECRET
from glancelike.registry.secret import secrets_of


def _forwarded(call: Call) -> Any:
    @functools.wraps(getattr(Registry, call.name))
    def method(self: RemoteRegistry, *positional: Any, **named: Any) -> Any:
        return self._ask(call, positional, named)

    method.__isabstractmethod__ = False  # type: ignore[attr-defined]
    return method


def _forwarding(kind: type[RemoteRegistry]) -> type[RemoteRegistry]:
    for call in CALLS.values():
        if call.name not in vars(kind):
            setattr(kind, call.name, _forwarded(call))
    return update_abstractmethods(kind)


@_forwarding
class RemoteRegistry(Registry):
    """Pass every call of the contract on to a registry server.

    A read is asked of the next server when one fails. A write is only if it
    certainly wasn't carried out; else it raises OutcomeUnknown: it may have
    happened. ``upgrade`` does nothing: the schema is the server's.
    """

    group = "DEFAULT"
    options = (
        cfg.ListOpt(
            "registry_endpoints",
            default=["http://127.0.0.1:9191"],
            help="URLs of the registry servers, for registry = remote. All serve the same database; they "
            "are tried in this order, those that were just away last.",
        ),
        *SECRET,
        cfg.StrOpt(
            "registry_client_ca_file",
            help="Certificates to trust in https endpoints; the system's by default.",
        ),
        cfg.FloatOpt(
            "registry_client_timeout",
            min=0.1,
            default=15.0,
            help="Seconds that a call of the registry may take in all. Longer than the registry server "
            "waits for its database, or callers give up before they are told what is wrong.",
        ),
    )

    def __init__(self, settings: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__(settings)
        self._link = Link(
            self.settings["registry_endpoints"],
            cafile=self.settings["registry_client_ca_file"],
            seconds=self.settings["registry_client_timeout"],
        )

    @classmethod
    def settings_from_uri(cls, uri: str) -> dict[str, Any]:
        """Take ``remote+https://host:9191``; several are separated by commas."""
        return {"registry_endpoints": uri.removeprefix("remote+").split(",")}

    def open(self) -> None:
        """Find a server that answers and speaks our protocol.

        Raises ConfigError, RegistryUnavailable, SchemaOutdated, SchemaNewer.
        """
        secrets = secrets_of(self.settings)
        self._link.open(secrets[0] if secrets else None)
        try:
            answer = self._link.send("", *wire.encode(None), repeat=True)
            hello = self._decoded(answer.media_type, answer.body, wire.Hello, answer.where)
            wire.check_protocol(hello.protocol, answer.where)
        except BaseException:
            self._link.close()
            raise

    def close(self) -> None:
        self._link.close()

    def schema_version(self) -> tuple[str | None, str | None]:
        """Return what the server says; it may be called before ``open``."""
        if not self._link.is_open:
            self.open()
            try:
                return self.schema_version()
            finally:
                self.close()
        found: tuple[str | None, str | None] = self._ask(CALLS["schema_version"], (), {})
        return found

    def _ask(self, call: Call, positional: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        if not self._link.is_open:
            raise RegistryError("the remote registry is not open")
        media_type, body = wire.encode(call.bind(positional, named))
        answer = self._link.send(f"/{call.name}", media_type, body, repeat=call.reads)
        if answer.failed:
            raise wire.error_of(self._decoded(answer.media_type, answer.body, wire.Failure, answer.where))
        return self._decoded(answer.media_type, answer.body, call.result, answer.where)

    def _decoded(self, media_type: str, body: bytes, kind: Any, where: str) -> Any:
        try:
            return wire.decode(media_type, body, kind)
        except ValueError as error:
            raise RegistryUnavailable(f"{where} answers something else: {error}") from error
